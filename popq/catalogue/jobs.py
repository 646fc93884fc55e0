"""Jobs: one request for work, cut into batches when it is made.

    queued ──first claim──▶ running ──last batch closes──▶ done
       └──▶ paused ◀──▶ running        any active ──▶ cancelled, failed

There is at most one active job a stage (and a run, for scoring): see `enqueuing`.

Locks are taken in this order, so no two transactions wait for each other: a batch's row, rows of
photos, the row of its job, the row of the job downstream of it, rows of hosts by name. What goes
the other way waits for nobody: it passes over batches that are locked (`cancel`), or writes only
closed ones. Closing shares the job's row, opening batches has it alone: so work that turns up while
a batch closes is seen by one of the two. Two that close the last batches at once, or the last one
of a downstream job and of its upstream, may each take the other's for open; then the next look of
any worker at the job finds nothing open and ends it (`finish_if_over`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    bindparam,
    exists,
    func,
    literal_column,
    select,
    update,
)
from sqlalchemy.orm import aliased

from popq.catalogue import driver
from popq.catalogue.db import Tx, db_now
from popq.catalogue.models import Batch, Failure, Job
from popq.catalogue.states import ACTIVE_JOBS, CLAIMABLE_JOBS, BatchState, JobState
from popq.catalogue.work import Filter
from popq.errors import BadInput

#: So many batches behind one are looked at before all: more than others claim meanwhile.
NEAR: Final = 100


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is: counts of photos, and of tries that failed.

    When no batch is open, `photos` = `moved` + `exited` + `left`.
    """

    job: int
    stage: str
    state: str
    message: str | None
    filter: Filter
    then: int | None
    requested_by: str | None
    photos: int
    moved: int
    exited: int
    failed_tries: int
    left: int
    batches: int
    open_batches: int

    @property
    def finished(self) -> int:
        """Photos with which the job is through."""
        return self.moved + self.exited + self.left


class Row(NamedTuple):
    """One row of `jobs`, as far as anybody asks for it."""

    id: int
    stage: str
    run_id: int | None
    via: str | None
    filter: Filter
    state: str
    then_id: int | None
    message: str | None


def active(stage: str, run_id: int | None) -> Any:
    """Return the query for the stage's active job: its id, filter, state and way."""
    same_run = Job.run_id == run_id if run_id is not None else Job.run_id.is_(None)
    query = select(Job.id, Job.filter, Job.state, Job.via)
    return query.where(Job.stage == stage, same_run, Job.state.in_(ACTIVE_JOBS))


def claimable(tx: Tx, stages: tuple[str, ...]) -> list[tuple[int, str]]:
    """Return (id, stage) of the jobs of these stages that hand out batches, oldest first."""
    query = select(Job.id, Job.stage).where(Job.stage.in_(stages), Job.state.in_(CLAIMABLE_JOBS))
    return [(row.id, row.stage) for row in tx.execute(query.order_by(Job.id))]


def get(tx: Tx, job: int) -> Row:
    """Return the job's row; `BadInput` when unknown."""
    return _row(tx, job, GET)


def lock(tx: Tx, job: int) -> Row:
    """Return the job's row as `get` does, locked until the transaction ends.

    Not with the strongest lock: rows of `failures` written before hold the job's key, and two that
    hold it may not wait for each other.
    """
    return _row(tx, job, _LOCK)


def share(tx: Tx, job: int) -> Row:
    """Return the job's row as `lock` does, held together with others that share it.

    So any number of workers close batches at once, each waiting for the disk beside the others,
    but nobody enqueues, cancels or ends the job meanwhile.
    """
    return _row(tx, job, SHARE)


# Statements of every settle are put together once: that takes longer than to run them.
_MINE: Final = bindparam("job", type_=BigInteger)
GET: Final = select(*(Job.__table__.c[name] for name in Row._fields)).where(Job.id == _MINE)
_LOCK: Final = GET.with_for_update(key_share=True)
SHARE: Final = GET.with_for_update(read=True)
_UNHELD: Final = GET.with_for_update(key_share=True, skip_locked=True)
#: Whether the job has an open batch, or another job that hands on to it.
_GOES_ON: Final = select(
    exists().where(Batch.job_id == _MINE, Batch.state != literal_column("'done'"))
    | exists().where(Job.then_id == _MINE, Job.state.in_(ACTIVE_JOBS))
)
_TRIES_OF: Final = (
    select(Failure.photo_id, Failure.outcome, func.count())
    .where(Failure.job_id == _MINE, Failure.photo_id.in_(bindparam("photos", expanding=True)))
    .group_by(Failure.photo_id, Failure.outcome)
)
_TRIES: Final = (
    select(Failure.photo_id, Failure.outcome, func.count())
    .where(Failure.job_id == _MINE, Failure.photo_id.between(bindparam("lo"), bindparam("hi")))
    .group_by(Failure.photo_id, Failure.outcome)
)


def _row(tx: Tx, job: int, query: Any) -> Row:
    for row in driver.rows(tx, query, {"job": job}):
        return Row(*row)
    raise BadInput(f"There is no job {job}; `popq jobs` lists those there are.")


def progress(tx: Tx, job: int | None = None) -> list[Progress]:
    """Return how far the jobs are (or one of them), newest first."""
    done = Batch.state == BatchState.DONE
    about = (Job.id, Job.stage, Job.state, Job.message, Job.filter, Job.then_id, Job.requested_by)
    sums = (
        func.coalesce(func.sum(column), 0)
        for column in (Batch.photos, Batch.moved, Batch.exited, Batch.failed, Batch.left)
    )
    query = (
        select(*about, *sums, func.count(Batch.id), func.count(Batch.id).filter(~done))
        .join(Batch, Batch.job_id == Job.id, isouter=True)
        .group_by(Job.id)
        .order_by(Job.id.desc())
    )
    if job is not None:
        query = query.where(Job.id == job)
    told = len(about)
    return [Progress(*row[:told], *map(int, row[told:])) for row in tx.execute(query)]


def pause(tx: Tx, job: int, why: str) -> None:
    """Hand out no more batches of the job until it is resumed, or its stage is enqueued again.

    Workers that hold batches of it hand them back at their next partial settle.
    """
    values = {"state": JobState.PAUSED, "message": why}
    tx.execute(update(Job).where(Job.id == job, Job.state.in_(CLAIMABLE_JOBS)).values(values))


def resume(tx: Tx, job: int) -> None:
    """Hand out batches of a paused job again."""
    values = {"state": JobState.RUNNING, "message": None}
    tx.execute(update(Job).where(Job.id == job, Job.state == JobState.PAUSED).values(values))


def finish(tx: Tx, job: int, state: JobState) -> None:
    """End the job, and the one downstream of it if that has waited only for this.

    Why it was paused, if it was, tells of a cancelled job, and nothing of one that is done.
    """
    values: dict[str, Any] = {"state": state, "finished_at": func.now()}
    if state == JobState.DONE:
        values["message"] = None
    ended = update(Job).where(Job.id == job).values(values).returning(Job.then_id)
    then = tx.execute(ended).scalar_one()
    if then is not None:
        finish_if_over(tx, then)


def finish_if_over(tx: Tx, job: int, *, wait: bool = True) -> bool:
    """End the job when its last batch is closed and nobody hands on to it; return if it is over.

    Without `wait` it is left alone while somebody else holds its row: whoever looks next ends it.
    """
    if _goes_on(tx, job):
        return False
    if not wait and tx.execute(_UNHELD, {"job": job}).first() is None:
        return False
    state = lock(tx, job).state
    if state not in ACTIVE_JOBS:
        return True
    if _goes_on(tx, job):
        return False
    finish(tx, job, JobState.DONE)
    return True


def _goes_on(tx: Tx, job: int) -> bool:
    ((goes_on,),) = driver.rows(tx, _GOES_ON, {"job": job})
    return bool(goes_on)


def goes_on_without(batch: Any, job: Any) -> ColumnElement[bool]:
    """Return the condition that the job has an open batch beside this one, or is handed on to.

    Those just behind it are looked at first: among all, what is kept of closed ones comes first.
    """
    other = aliased(Batch)
    open_ = (other.job_id == job) & (other.state != literal_column("'done'"))
    near = other.id.between(batch + 1, batch + NEAR)
    any_ = exists().where(open_, near) | exists().where(open_, other.id != batch)
    return any_ | exists().where(Job.then_id == job, Job.state.in_(ACTIVE_JOBS))


def waits_for(tx: Tx, job: int) -> int | None:
    """Return the paused job for which this one waits, if it has nothing else to do."""
    is_open = exists().where(Batch.job_id == job, Batch.state != BatchState.DONE)
    feeds = (Job.then_id == job) & Job.state.in_(ACTIVE_JOBS)
    states = tx.execute(select(Job.id, Job.state).where(feeds, ~is_open)).all()
    paused = [row.id for row in states if row.state == JobState.PAUSED]
    return paused[0] if paused and len(paused) == len(states) else None


def tries(
    tx: Tx, job: int, lo: int, hi: int, photos: Sequence[int] | None = None
) -> dict[int, dict[str, int]]:
    """Return the failed tries in the job of each photo in the range, by outcome.

    `photos` are the only ones in a wide range that matter.
    """
    counts: dict[int, dict[str, int]] = {}
    asked = {"lo": lo, "hi": hi} if photos is None else {"photos": list(photos)}
    query = _TRIES if photos is None else _TRIES_OF
    for photo, outcome, count in tx.execute(query, {"job": job, **asked}):
        counts.setdefault(photo, {})[outcome] = count
    return counts


def ring_due(tx: Tx, job: int, every_s: float) -> bool:
    """Return whether the job's doorbell may ring now, and note that it did.

    At most one ring in `every_s`, so that doubled deliveries and many sweepers do not multiply.
    """
    due = Job.rung + every_s <= db_now()
    ring = update(Job).where(Job.id == job, due, Job.state.in_(CLAIMABLE_JOBS))
    return tx.execute(ring.values(rung=db_now())).rowcount == 1
