"""Purging: taking photos out for good, with a tombstone that says so and keeps them out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Select, Text, column, delete, insert, select, union_all, values

from popq.catalogue import runs
from popq.catalogue.db import Tx
from popq.catalogue.models import Dataset, Member, Photo, Tombstone

#: Digits of the largest Flickr id that there can be; more also end `int`.
_ID_DIGITS = 19
#: Photos deleted by one statement: SQLite takes no more than 32,766 parameters.
_TOGETHER = 10_000

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Doomed:
    """What a purge would take: catalogue ids, keys of files, fingerprints of data sets.

    `keys` are the files that no other photo shares; `fingerprints` those of the data sets that hold
    one of the photos, whose packs hold its crop.
    """

    photos: tuple[int, ...]
    keys: tuple[str, ...]
    fingerprints: tuple[str, ...]


def look_up(tx: Tx, *, photo: str | None = None, owner: str | None = None) -> Doomed:
    """Return what a purge of these photos would take; nothing when the catalogue has none.

    `photo` is a Flickr id or the path of a file of a folder (never a catalogue id, which could be
    another photo's Flickr id); `owner` an NSID. Exactly one of both is given.
    """
    if photo is None:
        asked = Photo.owner == owner
    elif photo.isdecimal() and len(photo) <= _ID_DIGITS and int(photo) < 2**63:
        asked = Photo.flickr_id == int(photo)
    else:
        asked = Photo.source_key == photo
    ids = tx.execute(select(Photo.id).where(asked).order_by(Photo.id)).scalars().all()
    return _all_of(tx, ids)


def bury(tx: Tx, photos: Sequence[int], reason: str) -> Doomed:
    """Delete the photos with their moments, scores, failures and memberships; leave tombstones.

    Runs that were interrupted while they learnt from one of the photos fail; see `runs`.
    Returns what was taken as of now: the files of `keys` are the caller's to delete.
    """
    taken = _all_of(tx, photos, lock=True)
    shrunk: set[int] = set()
    for ids in _chunks(taken.photos):
        gone = select(Photo.flickr_id, Photo.source_key).where(Photo.id.in_(ids))
        rows = [
            {"flickr_id": row.flickr_id, "source_key": row.source_key, "reason": reason}
            for row in tx.execute(gone)
        ]
        tx.execute(insert(Tombstone), rows)
        # No run sees the test split before it is done.
        learnt = select(Member.dataset_id).where(Member.photo_id.in_(ids), Member.split != "test")
        shrunk.update(tx.execute(learnt.distinct()).scalars())
        tx.execute(delete(Photo).where(Photo.id.in_(ids)))
    if shrunk:
        runs.fail_shrunk(tx, sorted(shrunk))
    return taken


def _all_of(tx: Tx, photos: Sequence[int], *, lock: bool = False) -> Doomed:
    ids: list[int] = []
    keys: set[str] = set()
    fingerprints: set[str] = set()
    for chunk in _chunks(photos):
        # In order of ids, as everybody locks photos, so that no two wait for each other.
        found = select(Photo.id, Photo.file_key).where(Photo.id.in_(chunk)).order_by(Photo.id)
        rows = tx.execute(found.with_for_update() if lock else found).all()
        ids.extend(row.id for row in rows)
        keys.update(row.file_key for row in rows if row.file_key is not None)
        fingerprints.update(tx.execute(_fingerprints(chunk)).scalars())
    others = {key for chunk in _chunks(sorted(keys)) for key in shared(tx, chunk, ids)}
    return Doomed(tuple(ids), tuple(sorted(keys - others)), tuple(sorted(fingerprints)))


def _fingerprints(ids: Sequence[int]) -> Select[str]:
    query = select(Dataset.fingerprint).distinct().join(Member, Member.dataset_id == Dataset.id)
    return query.where(Member.photo_id.in_(ids))


def shared(tx: Tx, keys: Sequence[str], photos: Sequence[int]) -> set[str]:
    """Return the keys that others than these photos share: equal bytes are one file."""
    if not keys:
        return set()
    doomed = set(photos)
    # Rows, not a list: PostgreSQL would compare each photo with each item of a list.
    rows_of_keys = values(column("key", Text), name="given").data([(key,) for key in keys])
    given = rows_of_keys.cte("given")
    own = select(Photo.id, Photo.file_key).where(Photo.file_key.in_(select(given.c.key)))
    frozen = select(Member.photo_id, Member.file_key).where(
        Member.file_key.in_(select(given.c.key))
    )
    rows: Sequence[Any] = tx.execute(union_all(own, frozen)).all()
    return {str(key) for photo, key in rows if photo not in doomed}


def _chunks(items: Sequence[_Item]) -> list[Sequence[_Item]]:
    return [items[at : at + _TOGETHER] for at in range(0, len(items), _TOGETHER)]
