"""Purge: take photos out for good, with their files, crops, scores and whatever else is kept.

The files go first and the rows after, so that a purge that dies half-way is finished by the same
command again: a row without its file can still be found, a file without its row cannot.

Workers go on meanwhile, and a photo of the same bytes shares the file. So who else names a file is
asked again just before it is deleted, a few files at a time. What is stored in between loses its
file; `doctor --store --repair` has that fetched again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from popq.catalogue import purge as rows
from popq.catalogue.db import Catalogue
from popq.catalogue.purge import Doomed
from popq.errors import BadInput
from popq.images import pack
from popq.images.store import Store

#: Files deleted between two looks at who else names them: each look passes over all photos.
_PART: Final = 200


def look_up(catalogue: Catalogue, *, photo: str | None = None, owner: str | None = None) -> Doomed:
    """Return what a purge of one photo, or of all photos of an owner, would take.

    `photo` is a Flickr id or a file's path as the list gave it. Raises `BadInput` when the
    catalogue has no such photo.
    """
    with catalogue.read() as tx:
        doomed = rows.look_up(tx, photo=photo, owner=owner)
    if not doomed.photos:
        whom = f"no photo {photo}" if owner is None else f"no photo of an owner {owner}"
        message = f"The catalogue has {whom}; purging takes a Flickr id, a file's path as the list"
        raise BadInput(f"{message} gave it, or an owner's NSID (12345678@N00).")
    return doomed


def purge(
    catalogue: Catalogue,
    store: Store,
    packs: Path,
    doomed: Doomed,
    reason: str,
    on_progress: Callable[[str, int, int], None],
) -> Doomed:
    """Purge these photos and return what was taken.

    Packs that hold a crop of theirs are deleted with them, here on this machine; a data set's next
    run builds its pack anew from the photos that are left. `on_progress` is told of the phase, and
    of the files that are deleted.
    """
    _delete(catalogue, store, packs, doomed, on_progress)
    on_progress("purge rows", 0, 0)
    with catalogue.begin() as tx:
        taken = rows.bury(tx, doomed.photos, reason)
    # What was stored, or frozen into a data set, while we were at it; and what is deleted already.
    _delete(catalogue, store, packs, taken, on_progress)
    return taken


def _delete(
    catalogue: Catalogue,
    store: Store,
    packs: Path,
    doomed: Doomed,
    on_progress: Callable[[str, int, int], None],
) -> None:
    keys = doomed.keys
    for start in range(0, len(keys), _PART):
        part = keys[start : start + _PART]
        with catalogue.read() as tx:
            shared = rows.shared(tx, part, doomed.photos)
        for done, key in enumerate(part, start=start + 1):
            if key not in shared:
                store.delete(key)
            on_progress("purge files", done, len(keys))
    for fingerprint in doomed.fingerprints:
        pack.remove(pack.folder_of(packs, fingerprint))
