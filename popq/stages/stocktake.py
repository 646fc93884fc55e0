"""Stocktaking: compare the catalogue's stored photos with the files in the store.

A file that is missing (or has another size than when it was stored) costs nothing but another
fetch: its photo goes back to `resolved`. A file that no photo names is only reported: it may
belong to a download that is under way, to another catalogue, or to a person. Those of popq's own
names that nobody has named for a day (a photo was purged while a worker held it, a worker died in
the middle of a file) are deleted when a person asks for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from popq.catalogue import files
from popq.catalogue.db import Catalogue
from popq.catalogue.files import Kept
from popq.errors import Misconfigured
from popq.images.store import Store, is_ours

#: What is put is named within minutes, when its batch is settled.
DAY_S = 86_400.0
#: So many keys are shown of each kind.
SHOWN = 20


@dataclass(frozen=True, slots=True)
class Stock:
    """What a stocktaking found, in photos and files; `moved` photos can be fetched again.

    `missing` and `orphans` are counted; of both the first few keys are listed.
    """

    stored: int
    files: int
    missing: int
    missing_keys: list[str]
    orphans: int
    orphan_keys: list[str]
    moved: int
    deleted: int


def take(
    catalogue: Catalogue, store: Store, *, repair: bool, delete_orphans: bool = False
) -> Stock:
    """Compare the catalogue with the store; with `repair` move photos without a file back.

    With `delete_orphans` files of popq's own that nobody has named for a day are deleted, those
    that other catalogues have in the same store too.

    Raises `Misconfigured`, and moves nothing, when none of the photos has its file: then it is the
    store that is missing. Deletes nothing when no photo is stored: it may be the wrong catalogue.
    """
    there = dict(store.files())
    orphans = dict(there)
    missing: list[Kept] = []
    stored = last = 0
    while True:
        with catalogue.read() as tx:
            part = files.after(tx, last)
        if not part:
            break
        stored, last = stored + len(part), part[-1].id
        for photo in part:
            orphans.pop(photo.file_key, None)
            if not _is_whole(photo, there.get(photo.file_key)):
                missing.append(photo)
    # Once more, one by one: some were stored after the store was listed.
    missing = [photo for photo in missing if not _is_whole(photo, store.find_size(photo.file_key))]
    if repair and missing and len(missing) == stored:
        raise _no_store(stored, store)
    moved = 0
    if repair and missing:
        with catalogue.begin() as tx:
            moved = files.lost(tx, [photo.id for photo in missing])
    deleted = _delete(catalogue, store, sorted(orphans)) if delete_orphans and stored else 0
    return Stock(
        stored=stored,
        files=len(there),
        missing=len(missing),
        missing_keys=sorted({photo.file_key for photo in missing})[:SHOWN],
        orphans=len(orphans),
        orphan_keys=sorted(orphans)[:SHOWN],
        moved=moved,
        deleted=deleted,
    )


def check_there(catalogue: Catalogue, store: Store) -> None:
    """Raise `Misconfigured` when none of the first thousands of stored photos has its file.

    For whoever finds one missing: then it is not that photo's file that is lost.
    """
    with catalogue.read() as tx:
        part = files.after(tx, 0)
    if part and not any(store.exists(photo.file_key) for photo in part):
        raise _no_store(len(part), store)


def _no_store(looked_for: int, store: Store) -> Misconfigured:
    message = f"None of the {looked_for:,} stored photos has its file in {store}"
    return Misconfigured(f"{message}; is it mounted? POPQ_STORE_URL names it. Nothing is moved.")


def _delete(catalogue: Catalogue, store: Store, orphans: Sequence[str]) -> int:
    """Delete the files that have been nobody's for a day; return how many."""
    old = [key for key in orphans if is_ours(key) and (store.age_s(key) or 0.0) > DAY_S]
    with catalogue.read() as tx:
        named = files.named(tx, old)
    deleted = 0
    for key in old:
        # Put anew in this moment, it is young again.
        if key not in named and (store.age_s(key) or 0.0) > DAY_S:
            store.delete(key)
            deleted += 1
    return deleted


def _is_whole(photo: Kept, size: int | None) -> bool:
    return size is not None and photo.bytes in (None, size)
