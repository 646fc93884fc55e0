"""How loud a command is, and in what colours: the options that every command takes."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import click
from click.core import ParameterSource


@dataclass
class Voice:
    """What the options below said."""

    #: Data and errors only: no progress, no remarks.
    quiet: bool = False
    #: Log what happens: 1 for batches and the like, 2 for all there is.
    verbose: int = 0
    #: Show where an error came from.
    debug: bool = False
    #: No colours, as NO_COLOR asks for.
    no_color: bool = False


#: This process's voice.
VOICE: Final = Voice()


def printable(value: Any) -> str:
    """Return a value as text without what a terminal would obey: hosts and lists say anything."""
    return "".join(char if char.isprintable() else " " for char in str(value))


class Line:
    """Where progress stands on stderr: one line that is written over on a terminal, else many.

    Whoever prints to the terminal in between wipes it first. Threads may share it.
    """

    def __init__(self) -> None:
        self._open = False
        self._lock = threading.Lock()

    @property
    def over(self) -> bool:
        """Whether a line can be written over."""
        return sys.stderr.isatty()

    def put(self, text: str) -> None:
        """Write the line, over the last one on a terminal; there it is cut to the width."""
        with self._lock:
            if not self.over:
                click.echo(text, err=True)
                return
            columns = os.get_terminal_size(sys.stderr.fileno()).columns or len(text) + 1
            self._control(f"\r\x1b[2K{text[: columns - 1]}")
            self._open = True

    def wipe(self) -> None:
        """Make room for something else where a line is open."""
        with self._lock:
            if self._open:
                self._control("\r\x1b[2K")
                self._open = False

    def keep(self) -> None:
        """Leave the open line, if there is one, as it stands, and go on below it."""
        with self._lock:
            if self._open:
                click.echo(err=True)
                self._open = False

    @staticmethod
    def _control(text: str) -> None:
        # `color` says "strip nothing": to move the cursor is no colour, so NO_COLOR may have it.
        click.echo(text, err=True, nl=False, color=True)


#: This process's line of progress.
LINE: Final = Line()


class _NoColor(click.Option):
    """A flag whose variable is true for any value but the empty one, as NO_COLOR has it."""

    def value_from_envvar(self, ctx: click.Context) -> str | None:
        """Return what is true where the variable holds anything, else that it says nothing."""
        # Not by the parameter's type: what click asks of it depends on click's version.
        return "1" if self.resolve_envvar_value(ctx) else None


def speak_as_told(command: click.Command, *, first: bool = False) -> click.Command:
    """Let a command, and those of a group, take the options too; the help of `first` shows them.

    So `popq -q import LIST` and `popq import LIST -q` are the same.
    """
    kept: dict[str, Any] = {"expose_value": False, "hidden": not first, "is_eager": True}
    command.params += [
        click.Option(
            ["-q", "--quiet"],
            is_flag=True,
            callback=_heard("quiet", first=first),
            help="Say only what was asked for, and errors.",
            **kept,
        ),
        click.Option(
            ["-v", "--verbose"],
            count=True,
            callback=_heard("verbose", first=first),
            help="Log what happens; twice for all there is.",
            **kept,
        ),
        click.Option(
            ["--debug"],
            is_flag=True,
            callback=_heard("debug", first=first),
            help="Show tracebacks.",
            **kept,
        ),
        _NoColor(
            ["--no-color"],
            is_flag=True,
            envvar="NO_COLOR" if first else None,
            callback=_heard("no_color", first=first),
            help="No colours; NO_COLOR does the same.",
            **kept,
        ),
        click.Option(
            ["--set"],
            multiple=True,
            metavar="NAME=VALUE",
            callback=_put,
            help="A setting for this command: --set io_threads=4.",
            **kept,
        ),
    ]
    if isinstance(command, click.Group) and not first:
        for part in command.commands.values():
            speak_as_told(part)
    return command


def _heard(name: str, *, first: bool) -> Callable[[click.Context, click.Parameter, Any], None]:
    """Return what takes one of the options; the first command's own begins with nothing said."""

    def take(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        del param
        if first or value:
            setattr(VOICE, name, value)
        if VOICE.no_color:
            ctx.color = False
            if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                _forbid_color()
        if name in {"verbose", "debug"} and value:
            from popq import logs  # noqa: PLC0415 - structlog, only where it is needed

            level = "debug" if VOICE.debug or VOICE.verbose > 1 else "info"
            logs.for_commands(level, colors=not VOICE.no_color)

    return take


def _forbid_color() -> None:
    """Tell what is logged here, and the processes that this one starts, as NO_COLOR would."""
    from popq import settings  # noqa: PLC0415 - pydantic, only where it is needed

    settings.forbid_color()


def _put(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> None:
    del ctx, param
    if given:
        from popq import settings  # noqa: PLC0415 - pydantic, only where it is needed

        for setting in given:
            settings.put(setting)
