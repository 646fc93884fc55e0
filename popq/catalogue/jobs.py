"""Jobs: one request for work, cut into batches when it is made.

    queued ──first claim──▶ running ──last batch closes──▶ done
       └──▶ paused ◀──▶ running        any active ──▶ cancelled, failed

There is at most one active job a stage (and a run, for scoring): asking again adds what is new.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    delete,
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
from sqlalchemy.exc import IntegrityError

from popq.catalogue.db import Tx, db_now
from popq.catalogue.models import Batch, Failure, Job, Photo, Score
from popq.catalogue.states import ACTIVE_JOBS, CLAIMABLE_JOBS, BatchState, JobState, PhotoState
from popq.errors import BadInput

#: The state in which a stage finds its photos.
START: Final = {
    "resolve": PhotoState.LISTED,
    "download": PhotoState.RESOLVED,
    "score": PhotoState.STORED,
}


@dataclass(frozen=True, slots=True)
class Enqueued:
    """What enqueuing came to: the job, how many photos and batches it gained, if it is new.

    `job` is None when there was nothing to do, and so no job was made.
    """

    job: int | None
    photos: int
    batches: int
    new: bool


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is: counts of photos, and of tries that failed."""

    job: int
    stage: str
    state: str
    message: str | None
    photos: int
    moved: int
    exited: int
    failed_tries: int
    left: int
    batches: int
    open_batches: int


def work_of(stage: str, run_id: int | None) -> ColumnElement[bool]:
    """Return the condition on `photos` under which a photo is work for the stage."""
    condition = Photo.state == START[stage]
    if stage == "resolve":
        return condition & Photo.flickr_id.is_not(None)
    if stage == "score":
        scored = exists().where(Score.run_id == run_id, Score.photo_id == Photo.id)
        return condition & ~scored
    return condition


def enqueue(
    tx: Tx,
    stage: str,
    *,
    size: int,
    run_id: int | None = None,
    limit: int | None = None,
    requested_by: str | None = None,
) -> Enqueued:
    """Make a job of all the stage's work, cut into batches of `size` photos, or add what is new.

    An active job of the same stage (and run) is joined, and set going again if it was paused: it
    gains the work that no open batch of it covers. Takes the first `limit` photos by id, if given.
    """
    job, new = _active_or_new(tx, stage, run_id, requested_by)
    chosen = _uncovered(job, work_of(stage, run_id)).limit(limit).subquery()
    place = func.row_number().over(partition_by=chosen.c.gap, order_by=chosen.c.id)
    part = ((type_coerce(place, BigInteger) - 1) // size).label("part")
    numbered = select(chosen.c.id, chosen.c.gap, part).subquery()
    ranges = (
        select(
            literal(job),
            func.min(numbered.c.id),
            func.max(numbered.c.id),
            func.count(),
            db_now(),
        )
        .group_by(numbered.c.gap, numbered.c.part)
        .order_by(func.min(numbered.c.id))
    )
    cut = insert(Batch).from_select(["job_id", "lo", "hi", "photos", "due"], ranges)
    gained = tx.execute(cut.returning(Batch.photos)).scalars().all()
    if not gained and new:
        # Nothing to do: a job that never had work would only clutter the list.
        tx.execute(delete(Job).where(Job.id == job))
        return Enqueued(None, 0, 0, new=False)
    if not gained:
        finish_if_over(tx, job)
    return Enqueued(job, sum(gained), len(gained), new)


def _uncovered(job: int, is_work: ColumnElement[bool]) -> Select[Any]:
    """Select (id, gap) of the work that no open batch of the job covers, in order of ids.

    `gap` counts the open batches that begin below: no new range may reach over one of them. One
    sweep over photos and batches, sorted together, since a join of the two takes their product.
    """
    work = select(Photo.id.label("at"), null().label("reach"), literal(1).label("photo"))
    open_ = (Batch.job_id == job) & (Batch.state != BatchState.DONE)
    covered = select(Batch.lo.label("at"), Batch.hi.label("reach"), literal(0).label("photo"))
    marks = union_all(covered.where(open_), work.where(is_work)).subquery()
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


def _active_or_new(
    tx: Tx, stage: str, run_id: int | None, requested_by: str | None
) -> tuple[int, bool]:
    active = find_active(tx, stage, run_id)
    if active is None:
        row = {"stage": stage, "run_id": run_id, "requested_by": requested_by}
        try:
            with tx.begin_nested():
                job = tx.execute(insert(Job).values(row).returning(Job.id)).scalar_one()
        except IntegrityError:
            # Another process made it between our look and our insert.
            active = find_active(tx, stage, run_id)
            if active is None:
                raise
        else:
            return job, True
    resumed = {"state": JobState.RUNNING, "message": None}
    tx.execute(update(Job).where(Job.id == active, Job.state == JobState.PAUSED).values(resumed))
    return active, False


def find_active(tx: Tx, stage: str, run_id: int | None = None) -> int | None:
    """Return the id of the stage's active job, if there is one; its row is locked."""
    same_run = Job.run_id == run_id if run_id is not None else Job.run_id.is_(None)
    query = select(Job.id).where(Job.stage == stage, same_run, Job.state.in_(ACTIVE_JOBS))
    return tx.execute(query.with_for_update(key_share=True)).scalar_one_or_none()


def claimable(tx: Tx, stages: tuple[str, ...]) -> list[tuple[int, str]]:
    """Return (id, stage) of the jobs of these stages that hand out batches, oldest first."""
    query = select(Job.id, Job.stage).where(Job.stage.in_(stages), Job.state.in_(CLAIMABLE_JOBS))
    return [(row.id, row.stage) for row in tx.execute(query.order_by(Job.id))]


def get(tx: Tx, job: int) -> Any:
    """Return the job's row (id, stage, run_id, state, message); `BadInput` when unknown."""
    query = select(Job.id, Job.stage, Job.run_id, Job.state, Job.message)
    row = tx.execute(query.where(Job.id == job)).one_or_none()
    if row is None:
        raise BadInput(f"There is no job {job}; `popq jobs` lists those there are.")
    return row


def progress(tx: Tx, job: int | None = None) -> list[Progress]:
    """Return how far the jobs are (or one of them), newest first."""
    done = Batch.state == BatchState.DONE
    sums = (
        func.coalesce(func.sum(column), 0)
        for column in (Batch.photos, Batch.moved, Batch.exited, Batch.failed, Batch.left)
    )
    query = (
        select(
            Job.id,
            Job.stage,
            Job.state,
            Job.message,
            *sums,
            func.count(Batch.id),
            func.count(Batch.id).filter(~done),
        )
        .join(Batch, Batch.job_id == Job.id, isouter=True)
        .group_by(Job.id, Job.stage, Job.state, Job.message)
        .order_by(Job.id.desc())
    )
    if job is not None:
        query = query.where(Job.id == job)
    return [Progress(*row[:4], *map(int, row[4:])) for row in tx.execute(query)]


def pause(tx: Tx, job: int, why: str) -> None:
    """Hand out no more batches of the job until somebody enqueues its stage again."""
    values = {"state": JobState.PAUSED, "message": why}
    tx.execute(update(Job).where(Job.id == job, Job.state.in_(CLAIMABLE_JOBS)).values(values))


def finish(tx: Tx, job: int, state: JobState) -> None:
    """End the job."""
    values = {"state": state, "finished_at": func.now()}
    tx.execute(update(Job).where(Job.id == job).values(values))


def finish_if_over(tx: Tx, job: int) -> bool:
    """End the job when its last batch is closed; return whether it is over."""
    # The lock makes two workers that close the last two batches take turns, so one of them sees.
    # Not the strongest lock: rows of `failures` written before hold the job's key, and two that
    # hold it may not wait for each other.
    row = select(Job.state).where(Job.id == job).with_for_update(key_share=True)
    state = tx.execute(row).scalar_one()
    still_open = exists().where(Batch.job_id == job, Batch.state != BatchState.DONE)
    if state not in ACTIVE_JOBS or tx.execute(select(still_open)).scalar_one():
        return state not in ACTIVE_JOBS
    finish(tx, job, JobState.DONE)
    return True


def tries(tx: Tx, job: int, lo: int, hi: int) -> dict[int, dict[str, int]]:
    """Return the failed tries in the job of each photo in the range, by outcome."""
    query = (
        select(Failure.photo_id, Failure.outcome, func.count())
        .where(Failure.job_id == job, Failure.photo_id.between(lo, hi))
        .group_by(Failure.photo_id, Failure.outcome)
    )
    counts: dict[int, dict[str, int]] = {}
    for photo, outcome, count in tx.execute(query):
        counts.setdefault(photo, {})[outcome] = count
    return counts


def ring_due(tx: Tx, job: int, every_s: float) -> bool:
    """Return whether the job's doorbell may ring now, and note that it did.

    At most one ring in `every_s`, so that doubled deliveries and many sweepers do not multiply.
    """
    due = Job.rung + every_s <= db_now()
    ring = update(Job).where(Job.id == job, due, Job.state.in_(CLAIMABLE_JOBS))
    return tx.execute(ring.values(rung=db_now())).rowcount == 1
