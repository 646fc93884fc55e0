"""The catalogue as a whole: made, filled from a list, looked at again, purged."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

from popq.api.progress import OnProgress
from popq.bootstrap import Rooms
from popq.catalogue import (
    migrate,
)
from popq.catalogue import recheck as rechecking
from popq.catalogue.db import Catalogue
from popq.catalogue.purge import Doomed
from popq.catalogue.states import PhotoState
from popq.stages import ingest
from popq.stages import purge as purging


def init(rooms: Rooms) -> dict[str, Any]:
    """Make the catalogue, or bring it to this version; return where it is and both versions."""
    before = migrate.upgrade(rooms.catalogue)
    _, after = migrate.versions(rooms.catalogue)
    return {"catalogue": str(rooms.catalogue), "before": before, "version": after}


def make_ready(rooms: Rooms) -> None:
    """Make the catalogue where there is none; any number of workers may begin so at once.

    One of an older version is left as it is, since other workers may be at work on it: whoever
    wants it brought to this version says so with `popq init`. Raises `Misconfigured` then.
    """
    before, head = migrate.versions(rooms.catalogue)
    if before is None:
        before = migrate.upgrade(rooms.catalogue) or head
    migrate.refuse_older(rooms.catalogue, before, head)


def import_list(
    rooms: Rooms,
    source: ingest.Source,
    *,
    strict: bool = False,
    dry_run: bool = False,
    on_progress: OnProgress | None = None,
) -> ingest.Report:
    """Import a list, making the catalogue first where there is none; see `ingest.ingest`."""
    ingest.check_readable(source)  # before there is a catalogue of nothing
    version, _ = migrate.versions(rooms.catalogue)
    options: dict[str, Any] = {
        "image_base": rooms.settings.flickr_image_url,
        "image_size": rooms.settings.image_size,
        "strict": strict,
        "dry_run": dry_run,
        "on_progress": on_progress,
    }
    if version is None and dry_run:
        with tempfile.TemporaryDirectory() as folder:
            empty = Catalogue(f"sqlite:///{folder}/popq.db")
            try:
                migrate.upgrade(empty)
                return ingest.ingest(empty, source, **options)
            finally:
                empty.close()
    if version is None:
        init(rooms)
    return ingest.ingest(rooms.catalogue, source, **options)


def recheck(
    rooms: Rooms,
    *,
    older_than_hours: float,
    reason: str | None = None,
    limit: int | None = None,
    dry_run: bool = False,
) -> dict[str, int]:
    """List gone photos again whose last word is so old; return how many, by why they had left.

    `limit` takes the first by id. What resolves them is another call: `work`, or a worker.
    """
    with rooms.catalogue.begin() as tx:
        which = rechecking.gone_since(tx, older_than_hours * 3600, reason)
        counted = rechecking.count(tx, which, limit)
        if not dry_run:
            rechecking.bring_back(tx, which, PhotoState.LISTED, limit)
    return counted


def purge(
    rooms: Rooms,
    *,
    photo: str | None = None,
    owner: str | None = None,
    reason: str,
    agreed: Callable[[Doomed], bool],
    on_progress: OnProgress,
) -> Doomed | None:
    """Take one photo, or all of an owner, out for good and return what was taken.

    `agreed` is shown what would be taken first; without its consent nothing is, and None returned.
    Raises `BadInput` for photos that the catalogue does not know.
    """
    doomed = purging.look_up(rooms.catalogue, photo=photo, owner=owner)
    if not agreed(doomed):
        return None
    packs = rooms.settings.data_dir / "packs"
    return purging.purge(rooms.catalogue, rooms.store, packs, doomed, reason, on_progress)
