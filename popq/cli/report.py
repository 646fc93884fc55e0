"""`popq report`: one HTML page about a run, its data set and its photos."""

from __future__ import annotations

from pathlib import Path

import click

from popq.bootstrap import open_rooms
from popq.cli import show
from popq.cli.progress import progress


@click.command()
@click.option("--run", type=show.NUMBER, help="The run; default: the newest that is done.")
@click.option(
    "--compare",
    "against",
    type=show.NUMBER,
    help="Another run to set beside it; see `popq runs compare`.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    default=Path("popq-report.html"),
    show_default=True,
    help="The page's file; - writes it to stdout.",
)
@show.json_option
def report_command(run: int | None, against: int | None, output: Path, as_json: bool) -> None:
    """Write one HTML page about a run: labels, tiers, learning, mistakes, photos, settings.

    The page needs nothing beside it and asks nobody for anything. Where no run is done it has
    what there is, and the commands that make the rest.
    """
    from popq.report import page  # noqa: PLC0415 - loads matplotlib

    to_stdout = str(output) == "-"
    if to_stdout and as_json:
        raise click.UsageError("Either the page goes to stdout (-o -) or JSON does (--json).")
    with open_rooms() as rooms, progress("Making the report"):
        if to_stdout:
            html = page.make(rooms.catalogue, rooms.store, run, against).html
            click.echo(html, nl=False)
            return
        made = page.write(rooms.catalogue, rooms.store, run, output, against)
    if as_json:
        show.data(made)
        return
    of = f"run {made['run']} on {made['dataset']}" if made["run"] else "no run is done yet"
    click.echo(f"The report is in {made['report']} ({made['bytes'] / 1e6:.1f} MB): {of}.")
