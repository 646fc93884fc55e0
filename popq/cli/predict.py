"""`popq predict`: score pictures that are in no catalogue."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from popq.bootstrap import Rooms, open_rooms, torch_stage
from popq.cli import show
from popq.cli.progress import Ticker, progress
from popq.cli.voice import printable
from popq.export.tables import csv_by_name

#: Name, what the network says (None if it could not be read), and why it could not.
Said = tuple[str, dict[str, Any] | None, str | None]


@click.command()
@click.argument("model", metavar="RUN")
@click.argument("sources", metavar="FILE|DIR|URL|-", nargs=-1, required=True)
@click.option("--rank", is_flag=True, help="The highest score first.")
@click.option("as_csv", "--csv", is_flag=True, help="Print CSV on stdout.")
@show.json_option
def predict_command(
    model: str, sources: tuple[str, ...], rank: bool, as_csv: bool, as_json: bool
) -> None:
    """Score pictures with RUN: files, all images in folders, links, or what `-` reads from stdin.

    RUN is a run's number or the folder of an exported model. Links may lead to Flickr's image hosts
    only. What cannot be read is named on stderr and skipped, and the exit status is 1 then.
    """
    if as_csv and as_json:
        raise click.UsageError("Either CSV or JSON; not both.")
    bad: list[dict[str, Any]] = []
    _take_any_name()
    with open_rooms() as rooms:
        with progress("Loading the network") as ticker:
            found = _good(_predicted(rooms, model, sources, ticker), bad)
            if as_csv and not rank and not sys.stdout.isatty():
                _write_csv(found)  # as they come, so that memory does not grow with them
            rows = list(found)
        if rank:
            rows.sort(key=lambda row: -row["score"])
        if as_csv:
            _write_csv(rows)
        elif as_json:
            show.data({"model": model, "pictures": rows, "skipped": bad})
        else:
            _print(rows)
    if bad:
        show.note(f"{len(bad):,} could not be read.")
        raise SystemExit(1)


def _take_any_name() -> None:
    """Let names of files that are no UTF-8 come in and go out as the bytes that they are."""
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")


def _predicted(
    rooms: Rooms, model: str, sources: tuple[str, ...], ticker: Ticker
) -> Iterator[Said]:
    stage = torch_stage("predict")
    run = show.NUMBER.convert(int(model), None, None) if model.isdecimal() else None
    scorer = rooms.scorer(Path(model) if run is None else int(run))
    names, total = stage.sources(sources, iter(sys.stdin)), 0
    if "-" not in sources:  # what is piped in has no end that is known
        names = list(names)
        total = len(names)
    ticker("predict", 0, total)
    for done, said in enumerate(stage.predict(scorer, names, rooms.image_client), start=1):
        ticker("predict", done, total)
        yield said


def _good(found: Iterator[Said], bad: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield what was said of those that could be read; name the others."""
    for name, said, why in found:
        if said is None:
            bad.append({"picture": name, "why": why})
            named = str(why).startswith(name)  # what is not there, or not asked, says so itself
            show.note(printable(str(why) if named else f"{name}: {why}"))
        else:
            yield {"picture": name, **said}


def _columns(row: dict[str, Any]) -> dict[str, Any]:
    likely = row["probabilities"] or ()
    shares = {f"p{tier}": share for tier, share in enumerate(likely, start=1)}
    return {"picture": row["picture"], "score": row["score"], "tier": row["tier"], **shares}


def _write_csv(found: Iterable[dict[str, Any]]) -> None:
    table = None
    for row in map(_columns, found):
        if table is None:
            table = csv_by_name(sys.stdout, list(row))
        table.writerow(row)


def _print(found: list[dict[str, Any]]) -> None:
    rows = [_columns(row) for row in found]
    columns = list(rows[0]) if rows else ()
    show.table(rows, columns, "No picture could be scored.")
