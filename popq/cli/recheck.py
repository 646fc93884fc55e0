"""`popq recheck`: take a second look at photos that were gone."""

from __future__ import annotations

import click

from popq import api
from popq.bootstrap import open_rooms
from popq.catalogue.recheck import REASONS
from popq.cli import show
from popq.cli.progress import progress


@click.command()
@click.option(
    "--older-than-hours",
    type=click.FloatRange(0),
    callback=show.finite,
    default=24.0,
    show_default=True,
    help="Only photos of which nobody has said so for as long.",
)
@click.option(
    "--reason",
    type=click.Choice(sorted(map(str, REASONS))),
    help="Only photos that left for this; those that were corrupt come back by it alone.",
)
@click.option("--limit", type=show.NUMBER, help="At most so many photos, by id.")
@click.option("--dry-run", is_flag=True, help="Count and change nothing.")
@show.json_option
def recheck_command(
    older_than_hours: float,
    reason: str | None,
    limit: int | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """List photos again that Flickr said were gone, so that the next resolve asks once more.

    Flickr has called photos gone that were not, and owners show photos again. A photo that is
    still gone leaves again, and the next recheck waits from then on. After an outage of the image
    host, look again at what it ended: --reason placeholder, and --reason corrupt.
    """
    with open_rooms() as rooms, progress("Looking for photos that are gone"):
        counted = api.recheck(
            rooms,
            older_than_hours=older_than_hours,
            reason=reason,
            limit=limit,
            dry_run=dry_run,
        )
    photos = sum(counted.values())
    if as_json:
        show.data({"photos": photos, "reasons": counted, "dry_run": dry_run})
        return
    if not photos:
        click.echo("Nothing to recheck: no photo has been gone for so long.")
        return
    verb = "would be listed again" if dry_run else "are listed again"
    told = ", ".join(f"{count:,} {why}" for why, count in counted.items())
    click.echo(f"{photos:,} photos {verb}: {told}.")
    if not dry_run:
        show.note("`popq resolve` asks about them here and now, `popq enqueue-resolve` by workers.")
