"""`popq` alone: where things stand, and the command that comes next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import click

import popq
from popq.bootstrap import Rooms, open_rooms
from popq.catalogue import datasets, migrate, overview, queries, runs, scores
from popq.catalogue.db import Tx


class Step(NamedTuple):
    """A command that makes sense now, and why."""

    command: str
    why: str


def start() -> None:
    """Print where the catalogue stands and what to do next, the most useful first."""
    with open_rooms() as rooms:
        version, head = migrate.versions(rooms.catalogue)
        where = f"popq {popq.__version__}"
        if version is None:
            click.echo(f"{where}: there is no catalogue at {rooms.catalogue} yet.")
            steps = list(_beginning())
        elif version != head:
            click.echo(f"{where}: {rooms.catalogue} was made by an older popq.")
            steps = [Step("popq init", "bring it to this version; its rows stay")]
        else:
            with rooms.catalogue.read() as tx:
                counts = queries.photos_by_state(tx)
                steps = list(_next(tx, counts, rooms))
            there = ", ".join(f"{count:,} {state}" for state, count in counts.items() if count)
            click.echo(f"{where}: {there or 'no photos'} in {rooms.catalogue}.")
    click.echo("\nNext:")
    size = max(len(step.command) for step in steps)
    for number, step in enumerate(steps):
        line = click.style(step.command.ljust(size), bold=number == 0)
        click.echo(f"  {line}  {step.why}")
    click.echo("\n`popq --help` lists all commands, `popq status` shows who works at what.")


def _beginning() -> Iterator[Step]:
    yield Step("popq demo", "see the whole chain on generated photos: no key needed")
    yield Step("popq init", "make the catalogue, and a popq.toml to set things in")
    yield _IMPORT


_IMPORT = Step("popq import LIST --labels SCORES", "bring photos in: a link and a score a row")


def _next(tx: Tx, counts: dict[str, int], rooms: Rooms) -> Iterator[Step]:
    """Yield the steps that the catalogue is ready for, what is begun before what is new."""
    if not sum(counts.values()):
        yield _IMPORT
        return
    if any(job["left_s"] is not None or job["open_batches"] for job in overview.jobs(tx)):
        yield Step("popq status --watch", "jobs are under way: see how far they are")
    listed, resolved, stored = (counts[state] for state in ("listed", "resolved", "stored"))
    if listed and rooms.settings.flickr_keys is None:
        yield Step("popq resolve --via oembed", f"{listed:,} listed photos and no key: without one")
        yield Step("popq --set flickr_keys=KEY:SECRET resolve", "or with a key of your own")
    elif listed:
        yield Step("popq resolve", f"find the images of {listed:,} listed photos")
    if resolved:
        yield Step("popq download", f"fetch the images of {resolved:,} resolved photos")
    if stored:
        yield from _learning(tx, stored)


def _learning(tx: Tx, stored: int) -> Iterator[Step]:
    made = [row.name for row in datasets.list_all(tx)]
    unfinished = [row for row in runs.list_all(tx) if row.state in {"queued", "running"}]
    run = queries.newest_run(tx)
    if not made:
        yield Step("popq dataset create NAME", f"cut {stored:,} stored photos into tiers")
    elif run is None and not unfinished:
        yield Step(f"popq train --dataset {made[0]}", "learn to tell a photo's tier")
    for row in unfinished[:1]:
        yield Step(f"popq runs {row.id}", f"run {row.id} is {row.state}: see how far it is")
    if run is None:
        return
    left = stored - scores.count(tx, run)
    if left > 0:
        yield Step(f"popq score --run {run}", f"score {left:,} photos with run {run}")
    yield Step("popq report", f"one HTML page about run {run}")
    if left <= 0:
        yield Step("SELECT * FROM scored_photos", "all scores, in any SQL client")
