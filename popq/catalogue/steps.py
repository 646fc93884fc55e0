"""Writing what a settle says of its photos: a handful of statements a batch, whatever its size.

Photos are locked in order of their ids before they are written, as everybody locks photos, so that
no two transactions wait for each other. On PostgreSQL a group of moves that write the same columns
is one UPDATE from one JSON parameter: a statement a photo costs ten times as much, and arrays are
written by the driver at twice the cost of `json`. On SQLite, where a statement is a function call,
it is one statement run once a photo.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    Text,
    Update,
    any_,
    bindparam,
    cast,
    column,
    func,
    select,
    update,
)

from popq.catalogue.db import Tx
from popq.catalogue.models import Photo
from popq.catalogue.states import PhotoState
from popq.errors import Outcome

#: Which time a photo's row keeps of its arrival in a state.
_STAMPS: Final = {PhotoState.RESOLVED: "resolved_at", PhotoState.STORED: "stored_at"}
_columns: Final = Photo.__table__.c


def lock(tx: Tx, start: PhotoState, photos: Sequence[int]) -> set[int]:
    """Lock those of the photos that are in the state, in order of ids, and return their ids."""
    if tx.dialect.name == "postgresql":
        return set(tx.execute(lock_many(start), {"ids": list(photos)}).scalar_one() or ())
    still = select(Photo.id).where(Photo.id.in_(photos), Photo.state == start)
    return set(tx.execute(still).scalars())


def write(
    tx: Tx,
    start: PhotoState,
    to: tuple[PhotoState, Outcome | None],
    values: Mapping[int, Mapping[str, Any]],
) -> None:
    """Bring photos from the state `start` to another, for a reason if they leave.

    `values` are the columns to write beside, by the photo's id. A photo that is not in the state
    any more is left alone.
    """
    groups: dict[tuple[str, ...], list[int]] = {}
    for photo, written in values.items():
        groups.setdefault(tuple(written), []).append(photo)
    for names, ids in groups.items():
        if tx.dialect.name == "postgresql":
            rows = [{**values[photo], "id": photo} for photo in ids]
            text = json.dumps(rows, default=dt.datetime.isoformat)
            tx.execute(write_many(start, to, names), {"rows": text})
        else:
            each = [{"b_id": p} | {f"b_{name}": values[p][name] for name in names} for p in ids]
            tx.execute(_write_one(start, to, names), each)


# Statements are made once each: to put one together takes longer than to run it.


@cache
def lock_many(start: PhotoState) -> Any:
    """Return PostgreSQL's statement of `lock`; a test reads its plan."""
    chosen = Photo.id == any_(bindparam("ids", type_=ARRAY(BigInteger)))
    still = select(Photo.id).where(chosen, Photo.state == start).order_by(Photo.id)
    locked = still.with_for_update(key_share=True).subquery()
    return select(func.array_agg(locked.c.id))  # one row is read faster than hundreds


@cache
def write_many(
    start: PhotoState, to: tuple[PhotoState, Outcome | None], names: tuple[str, ...]
) -> Update:
    """Return PostgreSQL's statement of `write` for one group; a test reads its plan."""
    rows = func.json_to_recordset(cast(bindparam("rows", type_=Text), JSON))
    kinds = [_columns[name] for name in ("id", *names)]
    given = rows.table_valued(*(column(kind.name, kind.type) for kind in kinds))
    given = given.render_derived(name="given", with_types=True)
    return _step(start, to, {name: given.c[name] for name in names}, given.c.id)


@cache
def _write_one(
    start: PhotoState, to: tuple[PhotoState, Outcome | None], names: tuple[str, ...]
) -> Update:
    return _step(start, to, {name: bindparam(f"b_{name}") for name in names}, bindparam("b_id"))


def _step(
    start: PhotoState, to: tuple[PhotoState, Outcome | None], columns: dict[str, Any], photo: Any
) -> Update:
    state, reason = to
    written: dict[str, Any] = {**columns, "state": state, "reason": reason}
    if state in _STAMPS:
        written[_STAMPS[state]] = func.now()
    return update(Photo).where(Photo.id == photo, Photo.state == start).values(written)
