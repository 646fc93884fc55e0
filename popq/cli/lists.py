"""`popq import`: a list of photo links and scores, into the catalogue."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from popq import api
from popq.bootstrap import open_rooms
from popq.cli import show
from popq.stages.ingest import Source

#: Rejected rows that are shown; `--json` has more.
SHOWN = 20


def note_rejections(report: dict[str, Any]) -> None:
    """List an import's rejected rows on stderr, with line number and reason."""
    for row in report["rejections"][:SHOWN]:
        show.note(f"line {row['line']}: rejected ({row['reason']}): {row['message']}")
    if report["rejected"] > SHOWN:
        more = report["rejected"] - SHOWN
        show.note(f"… and {more} more rejected rows (--json lists up to 1,000)")


@click.command()
@click.argument("links", type=click.Path(path_type=Path))
@click.option(
    "--labels", type=click.Path(path_type=Path), help="One score a line, in the order of LINKS."
)
@click.option("--url-col", help="LINKS is a CSV or TSV table: the column of the links.")
@click.option("--label-col", help="The table's column of scores.")
@click.option("--strict", is_flag=True, help="Import nothing if any row is rejected.")
@show.json_option
def import_command(
    links: Path,
    labels: Path | None,
    url_col: str | None,
    label_col: str | None,
    strict: bool,
    as_json: bool,
) -> None:
    """Import LINKS: one Flickr photo page (or image URL) a line, or a CSV or TSV table.

    Importing the same list again changes nothing. A score that differs is an update. Rows that
    name no photo are rejected, with line number and reason; the others are taken.

    \b
    popq import train_img.txt --labels train_label.txt
    popq import photos.csv --url-col url --label-col score
    """  # noqa: D301 - \b is click's mark for lines that stay as they are
    source = Source(links, labels, url_col, label_col)
    with open_rooms() as rooms:
        report = api.import_list(rooms, source, strict=strict)
    counted = asdict(report)
    note_rejections(counted)
    if as_json:
        show.data(counted)
        return
    click.echo(
        f"{report.read:,} rows read: {report.new:,} new, {report.updated:,} updated,"
        f" {report.unchanged:,} unchanged, {report.rejected:,} rejected."
    )
    if report.new + report.updated + report.rejected == 0:
        click.echo("Nothing changed: the catalogue knew all of them.")
