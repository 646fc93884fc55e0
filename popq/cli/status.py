"""`popq status`: where the photos are, who works at what how fast, what waits and what failed."""

from __future__ import annotations

import datetime as dt
import shutil
import sys
import textwrap
import threading
from collections.abc import Iterator
from typing import Any, Final

import click

from popq.bootstrap import Rooms, open_rooms
from popq.catalogue import overview
from popq.catalogue.states import GONE_REASONS, REJECTED_REASONS
from popq.cli import show
from popq.cli.progress import progress
from popq.cli.voice import printable
from popq.errors import ServiceDown, without_password

#: The broker is given so many seconds to answer.
BROKER_S: Final = 2.0
#: Columns of a line.
WIDTH: Final = 80
#: Workers, and batches of one worker, of which a person is told.
MOST_WORKERS: Final = 20
MOST_BATCHES: Final = 8


@click.command()
@click.option(
    "--watch",
    "every_s",
    type=click.FloatRange(0.2, 86_400),
    callback=show.finite,
    is_flag=False,
    flag_value=2.0,
    metavar="[SECONDS]",
    help="Look again every so many seconds (2), until Ctrl-C.",
)
@show.json_option
def status_command(every_s: float | None, as_json: bool) -> None:
    """Show photos by state, jobs, workers, hosts and failures, and if the broker answers.

    All but the last is from the catalogue alone, so it is right when the broker is down. Rates are
    of the last ten minutes. A worker is silent when it has not been seen for a minute.

    --json prints one document: at; photos and reasons (name to count); jobs (job, stage, run,
    state, message, fed_by, photos, done, moved, exited, left, failed_tries, batches, open_batches,
    leased, lost, due_s, per_second, left_s); runs (run, state, done, epochs); workers (name,
    queue, threads, up_s, seen_s, alive, and work: stage, job, batch, lo, hi, since_s, lease_s, or
    run); hosts (name, per_hour, paused_s, opens_at, paused_why, disabled_why); failures of the
    last hour (stage, outcome, count); broker (url, answers, why). Names in _s are seconds,
    per_second is photos a second, null is unknown or none. With --watch: a document each time.
    """
    with open_rooms() as rooms:
        if every_s is None:
            with progress("Counting"):
                status = _look(rooms)
            _print(status, as_json)
            return
        screen = None if as_json or not sys.stdout.isatty() else _Screen()
        while True:
            try:
                status = _look(rooms)
            except ServiceDown as error:
                _say(f"{error} Looking again every {every_s:g} s.", screen)
            else:
                if screen is not None:
                    screen.draw(list(_page(status)))
                else:
                    _print(status, as_json)
                    click.echo("" if as_json else "-" * WIDTH)
            threading.Event().wait(every_s)


def _look(rooms: Rooms) -> dict[str, Any]:
    with rooms.catalogue.read() as tx:
        status = overview.status(tx)
    return status | {"broker": _broker(rooms.settings.broker())}


def _broker(url: str | None) -> dict[str, Any]:
    if url is None:
        return {"url": None, "answers": None, "why": None}
    from popq.celery import broker_silence  # noqa: PLC0415 - Celery, only where it is needed

    why = broker_silence(BROKER_S)
    return {"url": without_password(url), "answers": why is None, "why": why}


def _print(status: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show.data(status)
    else:
        click.echo("\n".join(_page(status)))


def _say(words: str, screen: _Screen | None) -> None:
    if screen is None:
        show.note(words)
    else:
        screen.draw(_wrapped(words, "", 0))


class _Screen:
    """A terminal on which each page replaces the last one."""

    def __init__(self) -> None:
        self._show("\x1b[2J")

    def draw(self, lines: list[str]) -> None:
        """Draw the page from the top, as much of it as fits."""
        columns, rows = shutil.get_terminal_size()
        if len(lines) >= rows:
            lines = [*lines[: rows - 2], "... (the terminal is too low for the rest)"]
        drawn = "".join(f"{line[:columns]}\x1b[K\n" for line in lines)
        self._show(f"\x1b[H{drawn}\x1b[J")

    @staticmethod
    def _show(text: str) -> None:
        # `color` says "strip nothing": to move the cursor is no colour, so NO_COLOR may have it.
        click.echo(text, nl=False, color=True)


def _page(status: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of what a person reads, none wider than 80 columns."""
    at = dt.datetime.fromisoformat(status["at"])
    yield from _photos(status["photos"], status["reasons"], at)
    yield "jobs"
    for job in status["jobs"]:
        yield from _job(job)
    for run in status["runs"]:
        yield f"  run {run['run']} train {run['state']}, {run['done']} of {run['epochs']} epochs"
    if not status["jobs"] and not status["runs"]:
        yield "  none yet; `popq import` brings photos in"
    yield "workers"
    for worker in status["workers"][:MOST_WORKERS]:
        yield from _worker(worker, at)
    yield from _more(len(status["workers"]) - MOST_WORKERS, "workers")
    if not status["workers"]:
        yield "  none; `popq worker` starts one"
    if status["hosts"]:
        yield "hosts"
    for host in status["hosts"]:
        yield from _host(host)
    yield "failures of the last hour" if status["failures"] else "no failures in the last hour"
    for row in status["failures"]:
        yield f"  {row['stage']:<9} {row['outcome']:<20} {row['count']:>11,}"
    yield from _wrapped("broker", _broker_words(status["broker"]), 2)


def _photos(photos: dict[str, int], reasons: dict[str, int], at: dt.datetime) -> Iterator[str]:
    total = sum(photos.values())
    yield f"{'photos':<10} {total:>13,}{_time(at):>{WIDTH - 24}}"
    for state, count in photos.items():
        whys = {"gone": GONE_REASONS, "rejected": REJECTED_REASONS}.get(state, frozenset())
        told = ", ".join(f"{why} {n:,}" for why, n in reasons.items() if why in whys)
        share = f"{_percent(count, total):>8}" if total else ""
        yield from _wrapped(f"  {state:<8} {count:>13,}{share} ", told)


def _job(job: dict[str, Any]) -> Iterator[str]:
    words = f"{job['done']:,} of {job['photos']:,} ({_percent(job['done'], job['photos'])})"
    active = job["per_second"] is not None
    if active:
        words += f", {show.rate(job['per_second'])}"
    if job["left_s"] is not None:
        words += f", {show.duration(job['left_s'])} left"
    if job["left"]:
        cancelled = job["state"] == "cancelled"
        words += f"; {job['left']:,} " + ("are left over" if cancelled else "stay after all tries")
    yield from _wrapped(f"  {job['job']:>4} {job['stage']:<8} {job['state']:<9}", words)
    if active:
        yield from _wrapped(" " * 6, _batches(job))
    if job["message"]:
        yield from _wrapped(" " * 6, job["message"])


def _batches(job: dict[str, Any]) -> str:
    waiting = job["open_batches"] - job["leased"] - job["lost"]
    words = f"batches: {job['leased']:,} in work, {waiting:,} waiting"
    if (job["due_s"] or 0.0) > 1.0:
        words += f" (the next for {show.duration(job['due_s'])})"
    if job["lost"]:
        words += f", {job['lost']:,} whose lease ran out"
    if job["fed_by"] is not None:
        words += f"; job {job['fed_by']} adds to it"
    return words


def _worker(worker: dict[str, Any], at: dt.datetime) -> Iterator[str]:
    if worker["alive"] is None:
        words = "works here and now, not on a queue"
    else:
        words = f"{worker['queue']}, {worker['threads']} threads"
    if worker["alive"]:
        words += f", up {show.duration(worker['up_s'])}"
    elif worker["alive"] is not None:
        since = at - dt.timedelta(seconds=worker["seen_s"])
        words += f", SILENT since {_time(since)} ({show.duration(worker['seen_s'])})"
    yield from _wrapped(f"  {worker['name']} ", words, 6)
    for work in worker["work"][:MOST_BATCHES]:
        yield from _wrapped(" " * 5, _work(work), 8)
    yield from _more(len(worker["work"]) - MOST_BATCHES, "batches")


def _work(work: dict[str, Any]) -> str:
    if "run" in work:
        words = f"trains run {work['run']}"
    else:
        words = f"job {work['job']} {work['stage']}, photos {work['lo']:,} to {work['hi']:,}"
        if work["since_s"] is not None:
            words += f", for {show.duration(work['since_s'])}"
    if work["lease_s"] > 0:
        return f"{words}, lease for another {show.duration(work['lease_s'])}"
    return f"{words}; LEASE RAN OUT {show.duration(-work['lease_s'])} ago"


def _host(host: dict[str, Any]) -> Iterator[str]:
    words = f"{host['per_hour']:,.0f}/h, "
    if host["disabled_why"] is not None:
        words += f"TAKEN OUT until `popq doctor` finds it right: {host['disabled_why']}"
    elif host["opens_at"] is not None:
        opens = dt.datetime.fromisoformat(host["opens_at"])
        words += f"PAUSED for another {show.duration(host['paused_s'])}, until {_time(opens)}"
        words += f": {host['paused_why']}" if host["paused_why"] else ""
    else:
        words += "open"
    yield from _wrapped(f"  {host['name']} ", words, 6)


def _broker_words(broker: dict[str, Any]) -> str:
    alone = "workers look into the catalogue by themselves"
    if broker["url"] is None:
        return f"none set; {alone}"
    if broker["answers"]:
        return f"{broker['url']} answers"
    return f"{broker['url']} DOES NOT ANSWER ({broker['why']}); {alone}, and so does this page"


def _more(count: int, what: str) -> Iterator[str]:
    if count > 0:
        yield f"      and {count:,} more {what}; --json has them all"


def _wrapped(head: str, words: str, hang: int | None = None) -> list[str]:
    """Return `head` and the words after it, in lines that fit; all but the first hang in.

    They hang below the first of the words unless told otherwise.
    """
    lines = textwrap.wrap(
        printable(f"{head} {words}"),
        WIDTH,
        subsequent_indent=" " * (len(head) + 1 if hang is None else hang),
        break_on_hyphens=False,
    )
    return lines or [head]


def _percent(count: int, total: int) -> str:
    return f"{100 * count / total:.1f} %" if total else "0.0 %"


def _time(at: dt.datetime) -> str:
    """Return a moment as the clock on the wall shows it, with its day if that is another one."""
    local, today = at.astimezone(), dt.datetime.now().astimezone().date()
    return local.strftime("%H:%M:%S" if local.date() == today else "%Y-%m-%d %H:%M")
