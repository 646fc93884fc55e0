"""Taking a list into `photos`: staged in a temporary table, then merged by a few statements.

The merge is set-based, so its result does not depend on the order of the rows: a photo that stands
in the list with two labels is refused on every line, whichever came first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    MetaData,
    Table,
    Text,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from popq.catalogue.db import Tx, bulk_insert
from popq.catalogue.models import Photo, Tombstone
from popq.catalogue.states import PhotoState
from popq.errors import Outcome


class IncomingPhoto(NamedTuple):
    """One row of a list, parsed; `image_url` is set when the list itself has it."""

    line: int
    flickr_id: int
    page_url: str
    owner: str | None
    label: float | None
    server: str | None
    secret: str | None
    image_url: str | None


@dataclass(slots=True)
class Merged:
    """How many rows were new, changed a photo, changed nothing; and (line, why) of the refused."""

    new: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: list[tuple[int, Outcome, str]] = field(default_factory=list)


_INCOMING: Final = Table(
    "incoming",
    MetaData(),
    Column("line", BigInteger),
    Column("flickr_id", BigInteger),
    Column("page_url", Text),
    Column("owner", Text),
    Column("label", Double),
    Column("server", Text),
    Column("secret", Text),
    Column("image_url", Text),
    prefixes=["TEMPORARY"],
)
#: Any number that no other user of the same PostgreSQL database takes a lock on.
_IMPORT_LOCK: Final = 0x706F7072
_COLUMNS: Final = IncomingPhoto._fields
_new = _INCOMING.c


def merge(tx: Tx, chunks: Iterable[list[IncomingPhoto]]) -> Merged:
    """Merge parsed rows into `photos` within the open transaction.

    New photos get ids in the order of their lines. A known photo takes a label that differs, and a
    `listed` one the image URL if the list has it. Nothing else about it changes.
    """
    _INCOMING.create(tx)
    for chunk in chunks:
        bulk_insert(tx, _INCOMING, _COLUMNS, chunk)
    if tx.dialect.name == "postgresql":
        # One import at a time (SQLite: always), so that each sees the photos of the one before.
        tx.execute(select(func.pg_advisory_xact_lock(_IMPORT_LOCK)))
    merged = Merged()
    _refuse_purged(tx, merged)
    rows, distinct = tx.execute(
        select(func.count(), func.count(func.distinct(_new.flickr_id)))
    ).one()
    if rows != distinct:
        rows -= _refuse_conflicts(tx, merged)
        _drop_repeats(tx)
        distinct = tx.execute(select(func.count(_new.flickr_id))).scalar_one()
    known = _changes()
    known_rows, merged.updated = tx.execute(
        select(func.count(), func.coalesce(func.sum(case((known, 1), else_=0)), 0)).select_from(
            _INCOMING.join(Photo, Photo.flickr_id == _new.flickr_id)
        )
    ).one()
    merged.new = distinct - known_rows
    merged.unchanged = rows - merged.new - merged.updated
    if merged.updated:
        _update_known(tx)
    if merged.new:
        _insert_new(tx)
    _INCOMING.drop(tx)
    return merged


def _refuse_purged(tx: Tx, merged: Merged) -> None:
    purged = select(_new.line, _new.page_url).join(Tombstone, Tombstone.flickr_id == _new.flickr_id)
    for line, url in tx.execute(purged.order_by(_new.line)).all():
        merged.refused.append((line, Outcome.PURGED, f"{url} was purged from this catalogue"))
    if merged.refused:
        ids = select(Tombstone.flickr_id).where(Tombstone.flickr_id.is_not(None))
        tx.execute(delete(_INCOMING).where(_new.flickr_id.in_(ids)))


def _refuse_conflicts(tx: Tx, merged: Merged) -> int:
    """Refuse every row of a photo that has several labels; return how many rows."""
    low, high = func.min(_new.label), func.max(_new.label)
    torn = (
        select(_new.flickr_id, low.label("low"), high.label("high"))
        .group_by(_new.flickr_id)
        .having(low != high)
        .subquery()
    )
    query = select(_new.line, _new.flickr_id, torn.c.low, torn.c.high).join(
        torn, torn.c.flickr_id == _new.flickr_id
    )
    found = tx.execute(query.order_by(_new.line)).all()
    for line, photo, lowest, highest in found:
        why = f"photo {photo} stands in the list with labels {lowest:g} and {highest:g}"
        merged.refused.append((line, Outcome.CONFLICTING_LABEL, why))
    if found:
        tx.execute(delete(_INCOMING).where(_new.flickr_id.in_(select(torn.c.flickr_id))))
    return len(found)


def _drop_repeats(tx: Tx) -> None:
    """Keep one row a photo: with a label, an image URL, an owner; ties go by text, not by line."""
    known = [_missing(column) for column in (_new.label, _new.image_url, _new.owner)]
    by_text = [_new.image_url, _new.owner, _new.page_url, _new.line]
    best = func.row_number().over(partition_by=_new.flickr_id, order_by=[*known, *by_text])
    ranked = select(_new.line, best.label("rank")).subquery()
    repeats = select(ranked.c.line).where(ranked.c.rank > 1)
    tx.execute(delete(_INCOMING).where(_new.line.in_(repeats)))


def _missing(column: Any) -> Any:
    return case((column.is_(None), 1), else_=0)


def _changes() -> Any:
    """Return the condition under which a row changes the photo that it names."""
    relabelled = _new.label.is_not(None) & (Photo.label.is_(None) | (Photo.label != _new.label))
    owned = _new.owner.is_not(None) & Photo.owner.is_(None)
    found = _new.image_url.is_not(None) & (Photo.state == PhotoState.LISTED)
    return or_(relabelled, owned, found)


def _update_known(tx: Tx) -> None:
    found = _new.image_url.is_not(None) & (Photo.state == PhotoState.LISTED)
    values = {
        "label": func.coalesce(_new.label, Photo.label),
        "owner": func.coalesce(Photo.owner, _new.owner),
        "server": case((found, _new.server), else_=Photo.server),
        "secret": case((found, _new.secret), else_=Photo.secret),
        "image_url": case((found, _new.image_url), else_=Photo.image_url),
        "resolved_at": case((found, func.now()), else_=Photo.resolved_at),
        "state": case((found, PhotoState.RESOLVED), else_=Photo.state),
    }
    same = Photo.flickr_id == _new.flickr_id
    # Lock them in order of ids first, as a settle does, so that no two wait for each other.
    in_order = select(Photo.id).join(_INCOMING, same).where(_changes()).order_by(Photo.id)
    tx.execute(in_order.with_for_update(of=Photo, key_share=True)).all()
    tx.execute(update(Photo).where(same, _changes()).values(values))


def _insert_new(tx: Tx) -> None:
    resolved = _new.image_url.is_not(None)
    known = select(Photo.id).where(Photo.flickr_id == _new.flickr_id).exists()
    columns = [name for name in _COLUMNS if name != "line"]
    rows = (
        select(
            *(_new[name] for name in columns),
            case((resolved, PhotoState.RESOLVED), else_=PhotoState.LISTED),
            case((resolved, func.now()), else_=None),
        )
        .where(~known)
        .order_by(_new.line)
    )
    tx.execute(insert(Photo).from_select([*columns, "state", "resolved_at"], rows))
