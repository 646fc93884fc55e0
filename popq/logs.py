"""Logs: structlog to stderr; a worker's as JSON when that is no terminal."""

from __future__ import annotations

import logging
import sys

import structlog


def for_workers(level: str) -> None:
    """Log what a worker does; `level` is debug, info, warning or error."""
    _configure(level, as_json=not sys.stderr.isatty())


def for_commands() -> None:
    """Log only warnings, in words: a command's own lines say the rest."""
    _configure("warning", as_json=False)


def _configure(level: str, *, as_json: bool) -> None:
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if as_json:
        processors += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        processors.append(structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()))
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        # Looked up at each line, so that a stream that was replaced is not written to.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
