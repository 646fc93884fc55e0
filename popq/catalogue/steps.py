"""Writing what a settle says of its photos: a handful of statements a batch, whatever its size.

Photos are locked in order of their ids before they are written, as everybody locks photos, so that
no two transactions wait for each other: those that move and those that failed together (`hold`). On
PostgreSQL a group of moves that write the same columns is one UPDATE from an array a column: a
statement a photo costs ten times as much. On SQLite, where a statement is a function call, it is
one statement run once a photo.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Update,
    any_,
    bindparam,
    column,
    func,
    select,
    update,
)

from popq.catalogue import driver
from popq.catalogue.db import Tx
from popq.catalogue.models import Photo
from popq.catalogue.states import PhotoState
from popq.errors import Outcome

#: Which time a photo's row keeps of its arrival in a state.
_STAMPS: Final = {PhotoState.RESOLVED: "resolved_at", PhotoState.STORED: "stored_at"}
_columns: Final = Photo.__table__.c

#: Where a photo goes, and why if it leaves.
Step = tuple[PhotoState, Outcome | None]
#: Columns to write, by the photo's id.
Values = Mapping[int, Mapping[str, Any]]


def hold(tx: Tx, photos: Collection[int], *, moving: bool) -> set[int]:
    """Lock photos, whatever their state, until the transaction ends; return those that there are.

    For one that writes of photos in several statements, which would each lock its own in order but
    not all of them together. `moving` locks as strongly as `move` does, else they are but kept from
    being purged: to lock them so first and more strongly later could wait in a circle, too.
    """
    if tx.dialect.name != "postgresql":
        there = select(Photo.id).where(Photo.id.in_(photos))
        return set(tx.execute(there).scalars())
    ((found,),) = driver.rows(tx, _hold_many(moving=moving), {"ids": sorted(photos)})
    return set(found or ())


def move(
    tx: Tx, start: PhotoState, groups: Mapping[Step, Values], *, held: bool = False
) -> set[int]:
    """Bring photos from the state `start` to others; return those of them that were in it.

    `groups` are the columns to write beside, by the photo's id, of each step that photos take. A
    photo that is not in the state any more is left alone. `held` says that `hold` has locked them.
    """
    everybody = set().union(*groups.values())
    if tx.dialect.name != "postgresql":
        still = select(Photo.id).where(Photo.id.in_(everybody), Photo.state == start)
        everybody = set(tx.execute(still).scalars())
    parts = [(to, *part) for to, values in groups.items() for part in _alike(values, everybody)]
    if tx.dialect.name != "postgresql":
        for to, names, ids in parts:
            of = groups[to]
            each = [{"b_id": p} | {f"b_{name}": of[p][name] for name in names} for p in ids]
            tx.execute(_move_one(start, to, names), each)
        return everybody
    if len(parts) > 1 and not held:
        # Each part locks its own in order, but the parts would one after the other.
        driver.rows(tx, lock_many(start), {"ids": sorted(everybody)})
    moved: set[int] = set()
    for to, names, ids in parts:
        written = [groups[to][photo] for photo in ids]
        arrays = {f"b_{name}": [values[name] for values in written] for name in names}
        ((found,),) = driver.rows(tx, move_many(start, to, names), {"b_id": ids, **arrays})
        moved.update(found or ())
    return moved


def _alike(values: Values, there: set[int]) -> list[tuple[tuple[str, ...], list[int]]]:
    """Part photos by the columns that are written."""
    parts: dict[tuple[str, ...], list[int]] = {}
    for photo, written in values.items():
        if photo in there:
            parts.setdefault(tuple(written), []).append(photo)
    return list(parts.items())


# Statements are made once each: to put one together takes longer than to run it.


@cache
def _hold_many(*, moving: bool) -> Any:
    chosen = select(Photo.id).where(Photo.id == any_(bindparam("ids", type_=ARRAY(BigInteger))))
    locked = chosen.order_by(Photo.id).with_for_update(read=not moving, key_share=True).subquery()
    return select(func.array_agg(locked.c.id))


@cache
def lock_many(start: PhotoState) -> Any:
    """Return PostgreSQL's statement that locks photos :ids in order; a test reads its plan."""
    chosen = Photo.id == any_(bindparam("ids", type_=ARRAY(BigInteger)))
    still = select(Photo.id).where(chosen, Photo.state == start).order_by(Photo.id)
    return select(func.count()).select_from(still.with_for_update(key_share=True).subquery())


@cache
def move_many(start: PhotoState, to: Step, names: tuple[str, ...]) -> Any:
    """Return PostgreSQL's statement that moves the photos of array :b_id; a test reads its plan.

    It locks those that are in the state, in order, writes them, and returns their ids.
    """
    kinds = [_columns[name] for name in ("id", *names)]
    arrays = (bindparam(f"b_{kind.name}", type_=ARRAY(kind.type)) for kind in kinds)
    given = func.unnest(*arrays).table_valued(*(column(kind.name, kind.type) for kind in kinds))
    given = given.render_derived(name="given")
    locked = (
        select(given)
        .join(Photo, Photo.id == given.c.id)
        .where(Photo.state == start)
        .order_by(Photo.id)
        .with_for_update(of=Photo, key_share=True)
        .cte("locked")
    )
    step = _step(start, to, {name: locked.c[name] for name in names}, locked.c.id)
    moved = step.returning(Photo.id).cte("moved")
    return select(func.array_agg(moved.c.id))  # one row is read faster than hundreds


@cache
def _move_one(start: PhotoState, to: Step, names: tuple[str, ...]) -> Update:
    return _step(start, to, {name: bindparam(f"b_{name}") for name in names}, bindparam("b_id"))


def _step(start: PhotoState, to: Step, columns: dict[str, Any], photo: Any) -> Update:
    state, reason = to
    written: dict[str, Any] = {**columns, "state": state, "reason": reason}
    if state in _STAMPS:
        written[_STAMPS[state]] = func.now()
    return update(Photo).where(Photo.id == photo, Photo.state == start).values(written)
