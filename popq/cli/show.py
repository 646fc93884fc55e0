"""What all commands print alike: JSON, tables, notes, lengths of time and rates."""

from __future__ import annotations

import json
import math
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, Final

import click

from popq.cli.voice import LINE, VOICE, printable

#: The option of every command that prints data.
json_option = click.option("as_json", "--json", is_flag=True, help="Print JSON on stdout.")

#: The largest number that a database keeps.
BIGGEST: Final = 2**63 - 1
#: What a run, a job or a limit is.
NUMBER: Final = click.IntRange(1, BIGGEST)
#: Columns of a line where there is no terminal that says so.
WIDTH: Final = 80
#: A table's columns are cut down to so many characters, if it does not fit else.
NARROW: Final = 8
#: Below ten a minute, a rate is told by the hour.
FEW_PER_SECOND: Final = 10 / 60


def finite(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    """Refuse nan and inf as an option's number, though Python reads them: they order nothing."""
    del ctx, param
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is no finite number.")
    return value


def data(value: Any) -> None:
    """Print a value as JSON on stdout."""
    click.echo(json.dumps(value, indent=2, default=str))


def note(text: str) -> None:
    """Print a remark on stderr, where it does not disturb data; `--quiet` leaves it out."""
    if not VOICE.quiet:
        LINE.wipe()
        click.echo(text, err=True)


def warn(text: str) -> None:
    """Print a warning on stderr, however quiet the command is."""
    LINE.wipe()
    click.echo(f"{click.style('warning', fg='yellow')}: {text}", err=True)


def width() -> int:
    """Return how many columns a line has: the terminal's, or 80 without one."""
    return shutil.get_terminal_size((WIDTH, 24)).columns if sys.stdout.isatty() else WIDTH


def facts(values: dict[str, Any]) -> None:
    """Print names and values, a line each; a long value goes on below itself.

    A word is never cut: a link or a key is there to be copied, however long.
    """
    indent = max(map(len, values), default=0) + 2
    for name, value in values.items():
        lines = textwrap.wrap(
            printable(value),
            max(width() - indent, NARROW),
            break_long_words=False,
            break_on_hyphens=False,
        )
        for number, line in enumerate(lines or [""]):
            click.echo(f"{'' if number else name:<{indent}}{line}".rstrip())


def table(rows: Sequence[dict[str, Any]], columns: Sequence[str], empty: str) -> None:
    """Print rows as aligned columns that fit the terminal, or what it means that there are none.

    The last column takes more lines where it must, the others are cut; `--json` has all of it.
    """
    if not rows:
        click.echo(empty)
        return
    cells = [[_cell(row.get(name)) for name in columns] for row in rows]
    numbers = [_is_number(row.get(name) for row in rows) for name in columns]
    widths = _fit([max(map(len, column)) for column in zip(columns, *cells, strict=True)])
    for number, line in enumerate([list(columns), *cells]):
        last = textwrap.wrap(line[-1], widths[-1], break_on_hyphens=False) or [""]
        shown = [
            (_cut(cell, size).rjust if right else _cut(cell, size).ljust)(size)
            for cell, size, right in zip([*line[:-1], last[0]], widths, numbers, strict=True)
        ]
        text = "  ".join(shown).rstrip()
        click.echo(click.style(text, bold=True) if number == 0 else text)
        for more in last[1:]:
            click.echo(" " * (sum(widths[:-1]) + 2 * len(widths[:-1])) + more)


def _is_number(values: Iterator[Any]) -> bool:
    there = [value for value in values if value is not None]
    return bool(there) and all(type(value) in {int, float} for value in there)


def _fit(widths: list[int]) -> list[int]:
    """Return widths that fit one line: first the last column gives way, then the widest others."""
    widths, room = list(widths), width() - 2 * (len(widths) - 1)
    widths[-1] = (
        max(min(widths[-1], 2 * NARROW), room - sum(widths[:-1]))
        if (sum(widths) > room)
        else widths[-1]
    )
    while sum(widths) > room and max(widths[:-1], default=0) > NARROW:
        widest = widths.index(max(widths[:-1]))
        widths[widest] -= 1
    return widths


def _cut(cell: str, size: int) -> str:
    return cell if len(cell) <= size else f"{cell[: size - 1]}…"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return printable(value)


class OrNumber(click.Group):
    """A group whose first argument may be a number: `jobs 7` shows job 7."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Put `show` before a number."""
        return super().resolve_command(ctx, ["show", *args] if args[0].isdecimal() else args)


def duration(seconds: float) -> str:
    """Return a length of time in its one or two largest units: `42 s`, `3 min 5 s`, `12 d 4 h`."""
    left = max(0, round(seconds))
    counts = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        counts.append((count, unit))
    first = next((at for at, (count, _) in enumerate(counts) if count), len(counts) - 1)
    shown = (f"{count:,} {unit}" for count, unit in counts[first : first + 2] if count)
    return " ".join(shown) or "0 s"


def rate(per_second: float) -> str:
    """Return photos a second as a person reads them: a minute, or an hour where they are few."""
    if per_second < FEW_PER_SECOND:
        return f"{per_second * 3600:,.0f}/h"
    return f"{per_second * 60:,.0f}/min"
