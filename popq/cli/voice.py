"""How loud a command is, and in what colours: the options that every command takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import click


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


class _Truth(click.ParamType[bool]):
    """A flag whose variable is true for any value but the empty one, as NO_COLOR has it."""

    name = "flag"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bool:
        """Return whether anything was said."""
        del param, ctx
        return bool(value)


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
        click.Option(
            ["--no-color"],
            is_flag=True,
            type=_Truth(),
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
        if name in {"verbose", "debug"} and value:
            from popq import logs  # noqa: PLC0415 - structlog, only where it is needed

            level = "debug" if VOICE.debug or VOICE.verbose > 1 else "info"
            logs.for_commands(level, colors=not VOICE.no_color)

    return take


def _put(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> None:
    del ctx, param
    if given:
        from popq import settings  # noqa: PLC0415 - pydantic, only where it is needed

        for setting in given:
            settings.put(setting)
