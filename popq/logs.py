"""Logs: structlog to stderr; a worker's as JSON when that is no terminal, and without secrets.

What libraries log (Celery, above all) goes the same way. A line that is logged inside a batch or a
run names it, whoever logs it: they are bound as context variables there.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from structlog.typing import EventDict, Processor


def for_workers(level: str, secrets: Iterable[str], worker: str, *, colors: bool) -> None:
    """Log what a worker does, with its name; `level` is debug, info, warning or error.

    No line holds any of `secrets`. Of other libraries than Celery only warnings are logged.
    `colors` are for a terminal.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _Named(worker),
    ]
    last: list[Processor] = [
        structlog.processors.format_exc_info,
        _Masked(secrets),
        _renderer(colors=colors),
    ]
    _configure(level, [*shared, *last])
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("celery").setLevel(level.upper())
    logging.captureWarnings(capture=True)


def for_commands(level: str = "warning", *, colors: bool) -> None:
    """Log only warnings, in words: a command's own lines say the rest; more when asked to.

    No line holds what `hide` is told, once the settings are read.
    """
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _Masked(()),
        _in_words(colors=colors and sys.stderr.isatty()),
    ]
    _configure(level, processors)


def hide(secrets: Iterable[str]) -> None:
    """Let no line that popq logs from now on hold any of `secrets`."""
    for processor in structlog.get_config()["processors"]:
        if isinstance(processor, _Masked):
            processor.take(secrets)


@contextmanager
def wiping(wipe: Callable[[], None]) -> Iterator[None]:
    """Let each line of this block be preceded by `wipe`: the terminal's last line is taken."""

    def first(_logger: object, _method: str, event: EventDict) -> EventDict:
        wipe()
        return event

    before = structlog.get_config()["processors"]
    structlog.configure(processors=[first, *before])
    try:
        yield
    finally:
        structlog.configure(processors=before)


def are_set() -> bool:
    """Return whether it has been said in this process what to log (`-v` says so early)."""
    return structlog.is_configured()


class _Named:
    def __init__(self, worker: str) -> None:
        self._worker = worker

    def __call__(self, _logger: object, _method: str, event: EventDict) -> EventDict:
        event.setdefault("worker", self._worker)
        return event


class _Masked:
    """Replaces secrets in all that a line says."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets: list[str] = []
        self.take(secrets)

    def take(self, secrets: Iterable[str]) -> None:
        # The longest first: one may be part of another.
        self._secrets = sorted({*self._secrets, *filter(None, secrets)}, key=len, reverse=True)

    def __call__(self, _logger: object, _method: str, event: EventDict) -> EventDict:
        return {name: self._clean(value) for name, value in event.items()}

    def _clean(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, dict):
            return {self._clean(name): self._clean(part) for name, part in value.items()}
        if isinstance(value, list | tuple | set):
            return [self._clean(part) for part in value]
        text = str(value)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def _renderer(*, colors: bool) -> Processor:
    if not sys.stderr.isatty():
        return structlog.processors.JSONRenderer()
    return _in_words(colors=colors)


def _in_words(*, colors: bool) -> Processor:
    # Tracebacks are text already.
    return structlog.dev.ConsoleRenderer(
        colors=colors, exception_formatter=structlog.dev.plain_traceback
    )


def _configure(level: str, processors: list[Processor]) -> None:
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        # Looked up at each line, so that a stream that was replaced is not written to. Each line is
        # one write: threads, and what libraries log, come in between else.
        logger_factory=lambda *_: structlog.WriteLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
