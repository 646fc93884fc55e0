"""Ranges: how a job's work is cut into batches, and opened again when more of it turns up.

Two batches of a job never overlap, open or closed, so each photo belongs to at most one batch of a
job for as long as the job lives. That is why no photo is worked twice at a time, and why what the
batches count adds up: `photos = moved + exited + left` in every batch that is closed.

Work inside a closed range opens that batch again; work in no range gets new ones, which reach over
no other. Both happen under the lock of the job's row (`jobs.lock`), of which a batch that closes
holds a share (`jobs.share`): so work that turns up meanwhile is either seen by the closing or opens
the batch again.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Select,
    Update,
    bindparam,
    case,
    exists,
    func,
    insert,
    literal,
    null,
    select,
    type_coerce,
    union_all,
    update,
)

from popq.catalogue.db import Tx, db_now
from popq.catalogue.models import Batch, Photo
from popq.catalogue.states import BatchState

#: The first and the last photo id of a range.
Span = tuple[int, int]


def grow(
    tx: Tx,
    job: int,
    work: ColumnElement[bool],
    *,
    size: int,
    limit: int | None = None,
    within: Span | None = None,
) -> list[int]:
    """Open batches for the work that no open batch covers; return how many photos each gained.

    New ones hold up to `size` photos; `limit` takes the first photos by id, `within` those of a
    range.
    """
    return [*_reopen(tx, job, work, within), *_cut(tx, job, work, size, limit, within)]


def preview(
    tx: Tx, job: int | None, work: ColumnElement[bool], *, size: int, limit: int | None
) -> list[int]:
    """Return what `grow` would, and change nothing; without a job, as for a new one."""
    again: list[int] = []
    if job is not None:
        closed = (Batch.job_id == job) & (Batch.state == BatchState.DONE)
        counts = tx.execute(select(_count(work)).where(closed)).scalars()
        again = [count for count in counts if count]
    ranges = _ranges(job, _free(tx, job, work, None), size, limit).subquery()
    return again + list(tx.execute(select(ranges.c.photos)).scalars())


def recount(tx: Tx, job: int, work: ColumnElement[bool]) -> None:
    """Bring the open batches' numbers of photos up to a job that has another filter now.

    One that somebody has locked is passed over: it is counted when it closes.
    """
    found = _unlocked(job, Batch.state != BatchState.DONE)
    photos = Batch.moved + Batch.exited + _count(work)
    tx.execute(update(Batch).where(Batch.id == found.c.id).values(photos=photos))


def close_all(tx: Tx, job: int, work: ColumnElement[bool], which: ColumnElement[bool]) -> int:
    """Close those batches of the job, counting what is left in them; return how many.

    One that somebody has locked is passed over: its holder is about to claim or to settle it.
    """
    found = _unlocked(job, which)
    close = closing(_count(work)).where(Batch.id == found.c.id)
    return len(tx.execute(close.returning(Batch.id)).all())  # SQLite counts no rows after a CTE


def closing(left: ColumnElement[int] | int) -> Update:
    """Return the UPDATE that closes batches with so many photos left; the caller says which."""
    photos = Batch.moved + Batch.exited + left
    values = {"state": BatchState.DONE, "worker": None, "left": left, "photos": photos}
    return update(Batch).values(values)


def _unlocked(job: int, which: ColumnElement[bool]) -> CTE:
    """Lock those batches of the job, but for others' locks: their holders may wait for the job."""
    mine = select(Batch.id).where(Batch.job_id == job, which)
    return mine.with_for_update(skip_locked=True).cte("found")


def _count(work: ColumnElement[bool]) -> Any:
    in_range = Photo.id.between(Batch.lo, Batch.hi)
    return select(func.count(Photo.id)).where(in_range, work).correlate(Batch).scalar_subquery()


def _overlap(within: Span) -> ColumnElement[bool]:
    return (Batch.lo <= within[1]) & (Batch.hi >= within[0])


def _reopen(tx: Tx, job: int, work: ColumnElement[bool], within: Span | None) -> list[int]:
    closed = (Batch.job_id == job) & (Batch.state == BatchState.DONE)
    if within is not None:
        closed &= _overlap(within)
        work &= Photo.id.between(*within)
    found = tx.execute(select(Batch.id, _count(work)).where(closed)).all()
    gained = [{"b_id": batch, "b_found": count} for batch, count in found if count]
    if gained:
        count: Any = bindparam("b_found")
        # What was left and has no tries any more is still there.
        left = case((Batch.left > count, Batch.left), else_=count)
        values = {"state": BatchState.READY, "due": db_now(), "left": 0, "expiries": 0}
        again = update(Batch).where(Batch.id == bindparam("b_id"))
        tx.execute(again.values(**values, photos=Batch.moved + Batch.exited + left), gained)
    return [row["b_found"] for row in gained]


def _cut(
    tx: Tx,
    job: int,
    work: ColumnElement[bool],
    size: int,
    limit: int | None,
    within: Span | None,
) -> list[int]:
    columns = ["job_id", "lo", "hi", "photos", "due"]
    free = _free(tx, job, work, within)
    cut = insert(Batch).from_select(columns, _ranges(job, free, size, limit))
    return list(tx.execute(cut.returning(Batch.photos)).scalars())


def _ranges(job: int | None, free: Select[int, int], size: int, limit: int | None) -> Any:
    chosen = free.limit(limit).subquery()
    place = func.row_number().over(partition_by=chosen.c.gap, order_by=chosen.c.id)
    part = ((type_coerce(place, BigInteger) - 1) // size).label("part")
    numbered = select(chosen.c.id, chosen.c.gap, part).subquery()
    return (
        select(
            literal(job, BigInteger),
            func.min(numbered.c.id),
            func.max(numbered.c.id),
            func.count().label("photos"),
            db_now(),
        )
        .group_by(numbered.c.gap, numbered.c.part)
        .order_by(func.min(numbered.c.id))
    )


def _free(
    tx: Tx, job: int | None, is_work: ColumnElement[bool], within: Span | None
) -> Select[int, int]:
    """Select (id, gap) of the work that new ranges may take; see `_uncovered`."""
    covered = select(exists().where(Batch.job_id == job))
    if job is not None and tx.execute(covered).scalar_one():
        return _uncovered(job, is_work, within)
    # A new job has no ranges to go round: to sweep over all photos would take three times as long.
    inside = is_work if within is None else is_work & Photo.id.between(*within)
    found = select(Photo.id.label("id"), literal(0).label("gap"))
    return found.where(inside).order_by(Photo.id)


def _uncovered(job: int, is_work: ColumnElement[bool], within: Span | None) -> Select[int, int]:
    """Select (id, gap) of the work in no range of the job, in order of ids.

    `gap` counts the ranges that begin below: no new one may reach over one of them. One sweep over
    photos and batches, sorted together, since a join of the two takes their product.
    """
    work = select(Photo.id.label("at"), null().label("reach"), literal(1).label("photo"))
    work = work.where(is_work)
    ranges = select(Batch.lo.label("at"), Batch.hi.label("reach"), literal(0).label("photo"))
    ranges = ranges.where(Batch.job_id == job)
    if within is not None:
        work, ranges = work.where(Photo.id.between(*within)), ranges.where(_overlap(within))
    marks = union_all(ranges, work).subquery()
    # A batch sorts before the photo that it begins with.
    so_far: Any = {"order_by": [marks.c.at, marks.c.photo]}
    swept = select(
        marks.c.at,
        marks.c.photo,
        func.max(marks.c.reach).over(**so_far).label("reach"),
        func.count(marks.c.reach).over(**so_far).label("gap"),
    ).subquery()
    free = func.coalesce(swept.c.reach, 0) < swept.c.at
    found = select(swept.c.at.label("id"), swept.c.gap).where(swept.c.photo == 1, free)
    return found.order_by(swept.c.at)
