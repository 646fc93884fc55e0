"""`popq init`, `photo` and `failures`: the catalogue, made and looked into."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import click

from popq import api, settings
from popq.bootstrap import open_rooms
from popq.catalogue import queries
from popq.cli import show
from popq.cli.progress import progress
from popq.errors import Outcome
from popq.export import failures as export


@click.command()
@show.json_option
def init_command(as_json: bool) -> None:
    """Make the catalogue, or bring it to this version of popq.

    Safe to run at any time: a catalogue that is up to date is left as it is. Where it is:
    POPQ_DATABASE_URL, by default popq-data/popq.db (SQLite) in this folder. Also writes a
    popq.toml with every setting as a comment, where there is none.
    """
    with open_rooms() as rooms, progress("Making the catalogue"):
        made = api.init(rooms)
    made["settings"] = _write_example()
    if as_json:
        show.data(made)
        return
    verb = "is up to date" if made["before"] == made["version"] else "is ready"
    click.echo(f"The catalogue {made['catalogue']} {verb} (version {made['version']}).")
    if made["settings"] is not None:
        show.note(f"{made['settings']} is written: every setting, as a comment to change.")


def _write_example() -> str | None:
    """Write a popq.toml of comments where there is none; return its name if that was done."""
    try:
        with Path(settings.TOML).open("x", encoding="utf-8") as file:
            file.write(settings.example())
    except FileExistsError:
        return None
    except OSError as error:  # a container's folder, say: the settings come from elsewhere then
        show.note(f"{settings.TOML} is not written: {error.strerror}.")
        return None
    return settings.TOML


@click.command()
@click.argument("photo_id", type=int, metavar="ID")
@show.json_option
def photo_command(photo_id: int, as_json: bool) -> None:
    """Show all that is known of one photo, by its Flickr id or its catalogue id."""
    with open_rooms() as rooms, rooms.catalogue.read() as tx:
        story = queries.photo(tx, photo_id)
    if as_json:
        show.data(story)
        return
    show.facts({k: v for k, v in story.items() if k not in _TABLES and v is not None})
    for title, columns in _TABLES.items():
        if story[title]:
            click.echo(f"\n{title}")
            show.table([_in_words(row) for row in story[title]], columns, "")


#: What there may be several of for a photo, with what is told of each.
_TABLES: Final = {
    "failures": ("failed_at", "outcome", "http_status", "message"),
    "scores": ("run_id", "score", "tier", "probabilities"),
    "datasets": ("dataset_id", "tier", "split"),
}


def _in_words(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with its probabilities as one cell."""
    shares = row.get("probabilities")
    return row | ({"probabilities": " ".join(f"{p:.3f}" for p in shares)} if shares else {})


@click.command()
@click.option(
    "--limit",
    type=show.NUMBER,
    default=50,
    show_default=True,
    help="How many, newest first.",
)
@click.option("--job", type=show.NUMBER, help="Only tries of this job.")
@click.option(
    "--outcome", type=click.Choice(sorted(map(str, Outcome))), help="Only what came to this."
)
@click.option(
    "--export",
    "target",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Write all of them, oldest first, to a CSV file; - writes it to stdout.",
)
@show.json_option
def failures_command(
    limit: int, job: int | None, outcome: str | None, target: Path | None, as_json: bool
) -> None:
    """List the newest failed tries: which photo, what came of it, what the host said.

    With --export all of them, with each photo's owner and what became of it. Its cells are data
    from lists and hosts as they came: a spreadsheet should import them as text.
    """
    to_stdout = target is not None and str(target) == "-"
    if to_stdout and as_json:
        raise click.UsageError("Either the CSV goes to stdout (--export -) or JSON does (--json).")
    narrowed: dict[str, Any] = {"job": job, "outcome": outcome}
    with open_rooms() as rooms, progress("Looking through the failures"):
        if target is None:
            with rooms.catalogue.read() as tx:
                rows = queries.failures(tx, limit, **narrowed)
        elif to_stdout:
            export.write(rooms.catalogue, sys.stdout, **narrowed)
            return
        else:
            written = export.save(rooms.catalogue, target, **narrowed)
    if target is not None:
        if as_json:
            show.data({"export": str(target), "failures": written})
        else:
            click.echo(f"{written:,} failed tries are in {target}.")
        return
    if as_json:
        show.data(rows)
        return
    columns = ("failed_at", "flickr_id", "outcome", "http_status", "message")
    show.table(rows, columns, "No try has failed.")
