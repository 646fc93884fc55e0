"""Ranges: how a job's work is cut into batches, and opened again when more of it turns up.

Two batches of a job and owner (`owners`) never overlap, open or closed, so each photo belongs to at
most one batch of a job for as long as the job lives. That is why no photo is worked twice at a
time, and why what the batches count adds up: `photos = moved + exited + left` in every batch that
is closed.

Work inside a closed range opens that batch again; work in no range gets new ones, which reach over
no other. Both happen under the lock of the job's row (`jobs.lock`), of which a batch that closes
holds a share (`jobs.share`): so work that turns up meanwhile is either seen by the closing or opens
the batch again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Select,
    Text,
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

from popq.catalogue import owners
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
    by_owner: bool = False,
) -> list[int]:
    """Open batches for the work that no open batch covers; return how many photos each gained.

    New ones hold up to `size` photos, an owner's all of them. `limit` takes the first photos by id,
    `within` those of a range. With `by_owner` the job is new, and its owners with many photos get
    batches.
    """
    cut = _Cut(job, _first(work, limit), size, within, by_owner)
    return [*_reopen(tx, job, work, within), *_cut(tx, cut)]


def scatter(tx: Tx, job: int, work: ColumnElement[bool], photos: Sequence[int], size: int) -> None:
    """Open batches as `grow` does for those photos alone, which may lie far apart.

    None reaches over more than `size` ids: between the photos may lie any number that are no work
    yet, and a batch that reached over them would have them all.
    """
    work &= Photo.id.in_(photos)
    within = (min(photos), max(photos))
    _reopen(tx, job, work, within)
    _cut(tx, _Cut(job, work, size, within, scattered=True))


def preview(
    tx: Tx,
    job: int | None,
    work: ColumnElement[bool],
    *,
    size: int,
    limit: int | None,
    by_owner: bool = False,
) -> list[tuple[str, int]]:
    """Return (owner or '', photos) of what `grow` would open, and change nothing.

    Without a job, as for a new one.
    """
    again: list[tuple[str, int]] = []
    if job is not None:
        closed = (Batch.job_id == job) & (Batch.state == BatchState.DONE)
        found = tx.execute(select(Batch.owner, _count(job, work)).where(closed))
        again = [(owner, count) for owner, count in found if count]
    cut = _ranges(tx, _Cut(job, _first(work, limit), size, None, by_owner)).subquery()
    rows = tx.execute(select(cut.c.owner, cut.c.photos))
    return again + [(owner, photos) for owner, photos in rows]


def recount(tx: Tx, job: int, work: ColumnElement[bool]) -> None:
    """Bring the open batches' numbers of photos up to a job that has another filter now.

    One that somebody has locked is passed over: it is counted when it closes.
    """
    found = _unlocked(job, Batch.state != BatchState.DONE)
    photos = Batch.moved + Batch.exited + _count(job, work)
    tx.execute(update(Batch).where(Batch.id == found.c.id).values(photos=photos))


def close_all(tx: Tx, job: int, work: ColumnElement[bool], which: ColumnElement[bool]) -> int:
    """Close those batches of the job, counting what is left in them; return how many.

    One that somebody has locked is passed over: its holder is about to claim or to settle it.
    """
    found = _unlocked(job, which)
    close = closing(_count(job, work)).where(Batch.id == found.c.id)
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


def _count(job: int, work: ColumnElement[bool]) -> Any:
    in_range = Photo.id.between(Batch.lo, Batch.hi)
    same_key = owners.key(owners.of_job(job)) == Batch.owner
    return (
        select(func.count(Photo.id))
        .where(in_range, same_key, work)
        .correlate(Batch)
        .scalar_subquery()
    )


def _overlap(within: Span) -> ColumnElement[bool]:
    return (Batch.lo <= within[1]) & (Batch.hi >= within[0])


def _reopen(tx: Tx, job: int, work: ColumnElement[bool], within: Span | None) -> list[int]:
    closed = (Batch.job_id == job) & (Batch.state == BatchState.DONE)
    if within is not None:
        closed &= _overlap(within)
        work &= Photo.id.between(*within)
    found = tx.execute(select(Batch.id, _count(job, work)).where(closed)).all()
    gained = [{"b_id": batch, "b_found": count} for batch, count in found if count]
    if gained:
        count: Any = bindparam("b_found")
        # What was left and has no tries any more is still there.
        left = case((Batch.left > count, Batch.left), else_=count)
        values = {"state": BatchState.READY, "due": db_now(), "left": 0, "expiries": 0, "page": 1}
        again = update(Batch).where(Batch.id == bindparam("b_id"))
        tx.execute(again.values(**values, photos=Batch.moved + Batch.exited + left), gained)
    return [row["b_found"] for row in gained]


@dataclass(frozen=True, slots=True)
class _Cut:
    """What is cut into new batches, and how; see `grow` and `scatter`."""

    job: int | None
    work: ColumnElement[bool]
    size: int
    within: Span | None
    by_owner: bool = False
    scattered: bool = False


def _first(work: ColumnElement[bool], limit: int | None) -> ColumnElement[bool]:
    if limit is None:
        return work
    first = select(Photo.id).where(work).order_by(Photo.id).limit(limit).subquery()
    return work & (Photo.id <= select(func.max(first.c.id)).scalar_subquery())


def _cut(tx: Tx, cut: _Cut) -> list[int]:
    columns = ["job_id", "owner", "lo", "hi", "photos", "due"]
    made = insert(Batch).from_select(columns, _ranges(tx, cut))
    return list(tx.execute(made.returning(Batch.photos)).scalars())


def _ranges(tx: Tx, cut: _Cut) -> Any:
    covered = select(exists().where(Batch.job_id == cut.job))
    new = cut.job is None or not tx.execute(covered).scalar_one()
    # A new job has no ranges to go round: to sweep over all photos would take three times as long.
    chosen = (_all(cut) if new else _uncovered(cut)).subquery()
    keys: Sequence[str] = ("owner", "gap")
    if new and not cut.by_owner:
        keys = ()  # all the same: to sort by them would take as long as all the rest
    place = func.row_number().over(
        partition_by=[chosen.c[key] for key in keys] or None, order_by=chosen.c.id
    )
    part = (type_coerce(place, BigInteger) - 1) // cut.size
    if cut.scattered:
        part = type_coerce(chosen.c.id, BigInteger) // cut.size
    if keys:
        part = case((chosen.c.owner == owners.PLAIN, part), else_=0)
    numbered = select(chosen.c.id, *(chosen.c[key] for key in keys), part.label("part")).subquery()
    return (
        select(
            literal(cut.job, BigInteger),
            (numbered.c.owner if keys else owners.PLAIN).label("owner"),
            func.min(numbered.c.id),
            func.max(numbered.c.id),
            func.count().label("photos"),
            db_now(),
        )
        .group_by(*(numbered.c[key] for key in keys), numbered.c.part)
        .order_by(func.min(numbered.c.id))
    )


def _all(cut: _Cut) -> Select[Any]:
    """Select (id, owner, gap) of the work, of which no range has any."""
    key = _key(cut) if cut.by_owner else owners.PLAIN
    found: Any = select(Photo.id.label("id"), key.label("owner"), literal(0).label("gap"))
    if cut.within is not None:
        found = found.where(Photo.id.between(*cut.within))
    work: Select[Any] = found.where(cut.work)
    return work


def _key(cut: _Cut) -> ColumnElement[str]:
    keyed = owners.with_many(cut.work) if cut.by_owner else owners.of_job(cut.job)
    return type_coerce(owners.key(keyed), Text)


def _uncovered(cut: _Cut) -> Select[Any]:
    """Select (id, owner, gap) of the work in no range of the job that has its key.

    `gap` counts the ranges of that key that begin below: no new one may reach over one of them. One
    sweep over photos and batches, sorted together, since a join of the two takes their product.
    """
    work = select(Photo.id.label("at"), null().label("reach"), literal(1).label("photo"))
    work = work.add_columns(_key(cut).label("owner")).where(cut.work)
    ranges = select(Batch.lo.label("at"), Batch.hi.label("reach"), literal(0).label("photo"))
    ranges = ranges.add_columns(Batch.owner).where(Batch.job_id == cut.job)
    if cut.within is not None:
        work, ranges = (
            work.where(Photo.id.between(*cut.within)),
            ranges.where(_overlap(cut.within)),
        )
    marks = union_all(ranges, work).subquery()
    # A batch sorts before the photo that it begins with.
    so_far: Any = {"partition_by": marks.c.owner, "order_by": [marks.c.at, marks.c.photo]}
    swept = select(
        marks.c.at,
        marks.c.photo,
        marks.c.owner,
        func.max(marks.c.reach).over(**so_far).label("reach"),
        func.count(marks.c.reach).over(**so_far).label("gap"),
    ).subquery()
    free = func.coalesce(swept.c.reach, 0) < swept.c.at
    found = select(swept.c.at.label("id"), swept.c.owner, swept.c.gap)
    return found.where(swept.c.photo == 1, free)
