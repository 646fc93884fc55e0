"""What all commands print alike: JSON, tables, notes, and progress on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

import click

#: The option of every command that prints data.
json_option = click.option("as_json", "--json", is_flag=True, help="Print JSON on stdout.")

#: The largest number that a database keeps.
BIGGEST: Final = 2**63 - 1
#: Seconds between two lines of progress where lines cannot be overwritten.
QUIET_S: Final = 5.0
#: Below ten a minute, a rate is told by the hour.
FEW_PER_SECOND: Final = 10 / 60


def data(value: Any) -> None:
    """Print a value as JSON on stdout."""
    click.echo(json.dumps(value, indent=2, default=str))


def note(text: str) -> None:
    """Print a remark on stderr, where it does not disturb data."""
    click.echo(text, err=True)


def table(rows: Sequence[dict[str, Any]], columns: Sequence[str], empty: str) -> None:
    """Print rows as aligned columns, or what it means that there are none."""
    if not rows:
        click.echo(empty)
        return
    cells = [[_cell(row.get(name)) for name in columns] for row in rows]
    widths = [max(len(name), *(len(r[i]) for r in cells)) for i, name in enumerate(columns)]
    for line in [list(columns), *cells]:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(padded).rstrip())


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


class OrNumber(click.Group):
    """A group whose first argument may be a number: `jobs 7` shows job 7."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Put `show` before a number."""
        return super().resolve_command(ctx, ["show", *args] if args[0].isdecimal() else args)


class Ticker:
    """Progress on stderr: one line that is overwritten on a terminal, a line now and then else."""

    def __init__(self) -> None:
        self._tty = sys.stderr.isatty()
        self._phase = ""
        self._began = self._spoke = 0.0
        self._open = False

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Tell that `done` of `total` is done in a phase; total 0 when that is not known."""
        now = time.monotonic()
        new = phase != self._phase
        if new:
            self.close()
            self._phase, self._began = phase, now
        over = total > 0 and done >= total
        if not (new or over) and now - self._spoke < (0.1 if self._tty else QUIET_S):
            return
        if over and self._spoke < 0:
            return
        self._spoke = -1.0 if over else now
        self._say(self._line(done, total, now - self._began))

    def _line(self, done: int, total: int, seconds: float) -> str:
        if not total:
            return self._phase
        line = f"{self._phase}: {done:,} of {total:,}"
        if done and seconds > 1:
            left = (total - done) * seconds / done
            line += f", {done / seconds:.1f}/s, {left:.0f} s left" if done < total else ""
        return line

    def _say(self, line: str) -> None:
        click.echo(f"\r\x1b[2K{line}" if self._tty else line, err=True, nl=not self._tty)
        self._open = self._tty

    def close(self) -> None:
        """End the line that is being overwritten, if there is one."""
        if self._open:
            click.echo(err=True)
            self._open = False


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
