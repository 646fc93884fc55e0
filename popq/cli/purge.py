"""`popq purge`: take photos out for good."""

from __future__ import annotations

import click

from popq import api
from popq.bootstrap import open_rooms
from popq.catalogue.purge import Doomed
from popq.cli import show
from popq.cli.progress import progress


@click.command()
@click.option("--photo", metavar="ID", help="A Flickr id, or a file's path as the list gave it.")
@click.option("--owner", metavar="NSID", help="All photos of this owner: 12345678@N00.")
@click.option("--reason", default="asked for", show_default=True, help="Kept with the tombstone.")
@click.option("--dry-run", is_flag=True, help="Count and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@show.json_option
def purge_command(
    photo: str | None, owner: str | None, reason: str, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Take photos out for good: rows, files, crops, moments, scores and failures.

    Flickr's terms want a photo removed within 24 hours when its owner asks. A tombstone stays in
    the table `tombstones`, so that no later import brings the photo back. Reports and exports that
    were written before, and packs on other machines, are yours to delete.
    """
    if (photo is None) == (owner is None):
        raise click.UsageError("Say what to purge: --photo ID or --owner NSID.")

    with open_rooms() as rooms, progress("Looking up") as ticker:

        def agreed(doomed: Doomed) -> bool:
            with ticker.hold():
                if dry_run:
                    _tell("Would purge", doomed, as_json)
                    return False
                if not yes:
                    _tell("About to purge", doomed, as_json=False)
                    click.confirm("For good?", abort=True, err=True)
                return True

        taken = api.purge(
            rooms, photo=photo, owner=owner, reason=reason, agreed=agreed, on_progress=ticker
        )
    if taken is not None:
        _tell("Purged", taken, as_json)


def _tell(verb: str, doomed: Doomed, as_json: bool) -> None:
    counts = {
        "photos": len(doomed.photos),
        "files": len(doomed.keys),
        "data_sets": len(doomed.fingerprints),
    }
    if as_json:
        show.data(counts)
        return
    members = f"; {counts['data_sets']:,} data sets lose members" if counts["data_sets"] else ""
    line = f"{verb} {counts['photos']:,} photos and {counts['files']:,} files{members}."
    (show.note if verb == "About to purge" else click.echo)(line)
