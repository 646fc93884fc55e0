"""Which photos have a file in the store, those that have it no more, and witnesses of hosts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import select, update
from sqlalchemy.sql.elements import ColumnElement

from popq.catalogue import scores
from popq.catalogue.db import Tx
from popq.catalogue.models import Member, Photo
from popq.catalogue.states import PhotoState

T = TypeVar("T")

#: Rows that are read or moved at a time.
_PART = 5000
#: Keys that are asked about at a time: each time all rows are passed over.
_KEYS = 20_000
_STORED = Photo.state == PhotoState.STORED
_MAY_GO_BACK = _STORED & Photo.image_url.is_not(None)


@dataclass(frozen=True, slots=True)
class Kept:
    """A stored photo: its key in the store, and where its image was had from."""

    id: int
    file_key: str
    bytes: int | None
    image_url: str | None


def after(tx: Tx, photo: int) -> list[Kept]:
    """Return the next thousands of stored photos whose catalogue ids are above `photo`, by id."""
    columns = (Photo.id, Photo.file_key, Photo.bytes, Photo.image_url)
    query = select(*columns).where(_STORED, Photo.id > photo).order_by(Photo.id).limit(_PART)
    return [Kept(row.id, str(row.file_key), row.bytes, row.image_url) for row in tx.execute(query)]


def named(tx: Tx, keys: Sequence[str]) -> set[str]:
    """Return those of the keys that a photo, or a member of a data set, names."""
    found: set[str] = set()
    for part in _parts(keys, _KEYS):
        for column in (Photo.file_key, Member.file_key):
            query = select(column).where(column.in_(part)).distinct()
            found.update(str(key) for key in tx.execute(query).scalars())
    return found


def newest_images(tx: Tx, limit: int) -> list[str]:
    """Return where the image host served some photos from, as URLs that worked then."""
    of_host = Photo.flickr_id.is_not(None) & Photo.image_url.is_not(None)
    query = select(Photo.image_url).where(_STORED, of_host).order_by(Photo.id.desc()).limit(limit)
    return [str(url) for url in tx.execute(query).scalars()]


def probably_shown(tx: Tx, limit: int) -> list[int]:
    """Return Flickr ids of the newest photos whose address is known."""
    return _newest(tx, Photo.state.in_((PhotoState.STORED, PhotoState.RESOLVED)), limit)


def listed(tx: Tx, limit: int, *, but: Collection[int]) -> list[int]:
    """Return Flickr ids of the newest photos of which only those are known, `but` some."""
    return _newest(tx, (Photo.state == PhotoState.LISTED) & Photo.flickr_id.not_in(but), limit)


def _newest(tx: Tx, which: ColumnElement[bool], limit: int) -> list[int]:
    query = select(Photo.flickr_id).where(which, Photo.flickr_id.is_not(None))
    found = tx.execute(query.order_by(Photo.id.desc()).limit(limit)).scalars()
    return [int(flickr_id or 0) for flickr_id in found]


def lost(tx: Tx, photos: Sequence[int]) -> int:
    """Move stored photos whose files are gone back to `resolved`; return how many.

    Their sums stay until the next download writes others: data sets that were frozen with these
    photos need them. Their scores and sha256 stay too: if the same bytes come again, the scores are
    still true. A photo whose image URL nobody knows stays where it is.
    """
    return sum(len(_back(tx, Photo.id.in_(part))) for part in _parts(photos))


def has_photos(tx: Tx, sha256: str) -> bool:
    """Return whether `no_photos` would find any photo."""
    query = select(Photo.id).where(_of_flickr(sha256), _MAY_GO_BACK).limit(1)
    return tx.execute(query).first() is not None


def no_photos(tx: Tx, sha256: str) -> int:
    """Move photos that were stored with these bytes back to `resolved`; return how many.

    The bytes are no photo of theirs: what runs said of them goes at once.
    """
    ids = _back(tx, _of_flickr(sha256), sha256=None)
    for part in _parts(ids):
        scores.drop(tx, part)
    return len(ids)


def _of_flickr(sha256: str) -> ColumnElement[bool]:
    return (Photo.sha256 == sha256) & Photo.flickr_id.is_not(None)


def _back(tx: Tx, which: ColumnElement[bool], **more: Any) -> list[int]:
    """Move stored photos back, writing `more` columns beside; return their ids."""
    query = select(Photo.id).where(which, _MAY_GO_BACK).order_by(Photo.id)
    ids = list(tx.execute(query.with_for_update(key_share=True)).scalars())
    nothing = ("file_key", "phash", "bytes", "width", "height", "format", "stored_at")
    values = {"state": PhotoState.RESOLVED, **dict.fromkeys(nothing), **more}
    for part in _parts(ids):
        tx.execute(update(Photo).where(Photo.id.in_(part), _STORED).values(values))
    return ids


def _parts(items: Sequence[T], size: int = _PART) -> Iterator[Sequence[T]]:
    """Yield the items in parts that fit a statement."""
    for at in range(0, len(items), size):
        yield items[at : at + size]
