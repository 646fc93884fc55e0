"""`popq import`: a list of photo links and scores, into the catalogue."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from popq import api
from popq.bootstrap import open_rooms
from popq.cli import show
from popq.cli.progress import progress
from popq.stages.ingest import Source

#: Rejected rows that are shown; `--json` has more.
SHOWN = 20


def note_report(report: dict[str, Any]) -> None:
    """List an import's rejected rows on stderr, with file, line number and reason."""
    for row in report["rejections"][:SHOWN]:
        where = f"{row['file']}, line {row['line']}"
        show.note(f"{where}: rejected ({row['reason']}): {row['message']}")
    more = sum(report["reasons"].values()) - SHOWN
    if more > 0:
        show.note(f"… and {more:,} more rejected rows (--json lists up to 1,000 of each file)")


def source_options(command: Any) -> Any:
    """Add the options that say what stands in the list and beside it."""
    path = click.Path(path_type=Path)
    for option in (
        click.option("--labels", type=path, help="One score a line, in the order of LINKS."),
        click.option("--url-col", help="LINKS is a table: the column (or field) of the links."),
        click.option("--label-col", help="The table's column of scores."),
        click.option(
            "--images-dir",
            type=path,
            help="LINKS has paths of image files in this folder, instead of links.",
        ),
        click.option(
            "--metadata",
            type=path,
            multiple=True,
            help="A file about the photos, joined by uid and pid; or a folder or zip of .json"
            " files. May be given several times.",
        ),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("links", type=click.Path(path_type=Path, allow_dash=True))
@source_options
@click.option("--strict", is_flag=True, help="Import nothing if any row is rejected.")
@click.option("--dry-run", is_flag=True, help="Count what would happen, and change nothing.")
@show.json_option
def import_command(
    links: Path,
    strict: bool,
    dry_run: bool,
    as_json: bool,
    metadata: tuple[Path, ...],
    **given: Any,
) -> None:
    """Import LINKS: one Flickr photo page (or image URL) a line, or a table; - is standard input.

    A table is CSV, TSV, JSON, JSON Lines or Parquet; any file may be packed (.gz, .zip). Importing
    the same list again changes nothing. A score that differs is an update. Rows that name no photo
    are rejected, with line number and reason; the others are taken, in one transaction.

    \b
    popq import train_img.txt --labels train_label.txt --metadata train_allmetadata_json.zip
    popq import photos.csv --url-col url --label-col score
    popq import train_img_filepath.txt --labels train_label.txt --images-dir train_images
    popq import PHOTO_URL.txt --url-col url --labels LABEL.txt --label-col logview
    """  # noqa: D301 - \b is click's mark for lines that stay as they are
    source = Source(links, metadata=metadata, **given)
    with open_rooms() as rooms, progress("Importing") as ticker:
        report = api.import_list(rooms, source, strict=strict, dry_run=dry_run, on_progress=ticker)
    counted = asdict(report)
    note_report(counted)
    if as_json:
        show.data(counted)
        return
    click.echo(
        f"{report.read:,} rows read: {report.new:,} new, {report.updated:,} updated,"
        f" {report.unchanged:,} unchanged, {report.rejected:,} rejected."
    )
    for kind, file in report.metadata.items():
        click.echo(f"  {kind}: {file.read:,} rows, {file.joined:,} joined to photos of the list.")
    if report.unlabelled and (source.labels or source.label_col):
        show.warn(f"{report.unlabelled:,} photos of the list have no score.")
    if report.early:
        show.warn(
            f"{report.early:,} photos of the list have ids below a million, which Flickr"
            " gave out in 2004 only. Are they the data set's own numbers (a pid)? Then popq would"
            " ask Flickr for other photos than you mean: name the column of page URLs."
        )
    if dry_run:
        click.echo("A dry run: nothing was changed.")
    elif report.new + report.updated + report.rejected + report.noted == 0:
        click.echo("Nothing changed: the catalogue knew all of them.")
