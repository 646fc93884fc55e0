"""Claims: taking the lease of a batch that is due, and halving one that kills its workers.

A batch whose lease runs out three times probably holds a photo that kills its worker. It is halved,
again and again; a photo that is alone with three expiries of its own is given up. From the second
on its worker holds nothing beside it (`stages.alone`), so that no photo is blamed for another.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Double,
    Text,
    bindparam,
    case,
    exists,
    func,
    insert,
    literal_column,
    select,
    true,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate

from popq.catalogue import batches, driver, jobs
from popq.catalogue.batches import Failed, Lease, Move, Tally
from popq.catalogue.db import Tx, db_now
from popq.catalogue.models import Batch, Failure, Job
from popq.catalogue.states import CLAIMABLE_JOBS, BatchState, JobState, PhotoState
from popq.errors import Outcome

#: A batch whose lease ran out this often is halved, or its lone photo given up.
POISON_EXPIRIES: Final = 3


def claim_sound(
    tx: Tx, job: int, worker: str, lease_s: float, *, behind: int | None = None
) -> Lease | None:
    """Lease the job's first batch that is due and need not be halved, as `claim` does.

    By single statements, so that it needs no transaction around it (`Catalogue.single`). `behind`
    is the batch that this process claimed last: those just behind it are looked at first. While
    somebody holds a snapshot (a backup, a long question), PostgreSQL keeps what batches were before
    they were claimed, and each search from the first would step over all of that.
    """
    given = {"job": job, "worker": worker, "lease_s": lease_s}
    lease = None
    if behind is not None:
        lease = _take(tx, take(near=True), given | {"behind": behind})
    return lease or _take(tx, take(sound=True), given)


def claim(tx: Tx, job: int, worker: str, lease_s: float) -> Lease | None:
    """Lease the job's first batch that is due; None when there is none or the job is paused.

    A batch whose lease ran out counts as due. One that ran out too often is halved here.
    """
    while True:
        lease = _take(tx, take(), {"job": job, "worker": worker, "lease_s": lease_s})
        if lease is None or lease.expiries < POISON_EXPIRIES:
            return lease
        shortened = _halve(tx, lease)
        if shortened is not None:
            return shortened


@cache
def take(*, sound: bool = False, near: bool = False) -> ReturningUpdate[*tuple[Any, ...]]:
    """Return the statement of a claim, of :job by :worker for :lease_s seconds.

    If `sound`, it passes over batches that would have to be halved; if `near`, it does so and looks
    at the `jobs.NEAR` batches behind :behind alone. It is put together once; a test reads its plan
    on both databases.
    """
    job = bindparam("job", type_=BigInteger)
    # Literals, not parameters: the partial index serves only a condition that it can recognise.
    open_ = Batch.state != literal_column("'done'")
    # A subquery is evaluated once, so that the index can end the search at what is due.
    now = select(db_now()).scalar_subquery()
    claimable = exists().where(Job.id == job, Job.state.in_(CLAIMABLE_JOBS))
    poisoned = (Batch.state == BatchState.LEASED) & (Batch.expiries >= POISON_EXPIRIES - 1)
    wanted = ~poisoned if sound or near else true()
    order: tuple[Any, ...] = (Batch.due, Batch.id)
    if near:
        behind = bindparam("behind", type_=BigInteger)
        wanted, order = wanted & Batch.id.between(behind + 1, behind + jobs.NEAR), (Batch.id,)
    first = (
        select(Batch.id)
        .where(Batch.job_id == job, open_, Batch.due <= now, claimable, wanted)
        .order_by(*order)
        .limit(1)
        .with_for_update(skip_locked=True)
        .cte("first")
    )
    expired = case((Batch.state == BatchState.LEASED, 1), else_=0)
    in_batch = Failure.photo_id.between(Batch.lo, Batch.hi)
    return (
        update(Batch)
        .where(Batch.id == first.c.id)
        .values(
            state=BatchState.LEASED,
            worker=bindparam("worker", type_=Text),
            term=Batch.term + 1,
            due=db_now() + bindparam("lease_s", type_=Double),
            begun=func.coalesce(Batch.begun, db_now()),
            claimed=db_now(),
            expiries=Batch.expiries + expired,
        )
        .returning(
            *(Batch.id, Batch.lo, Batch.hi, Batch.term, Batch.expiries),
            *(Batch.owner, Batch.page, (Batch.moved + Batch.exited).label("got")),
            *(_of_job(name) for name in ("stage", "run_id", "filter")),
            _of_job("state").label("job_state"),
            exists().where(Failure.job_id == Batch.job_id, in_batch).label("tried"),
        )
    )


def _of_job(name: str) -> Any:
    """Return a column of a batch's job, for RETURNING."""
    column = Job.__table__.c[name]
    return select(column).where(Job.id == Batch.job_id).scalar_subquery().label(name)


def _take(tx: Tx, take_: Any, given: dict[str, Any]) -> Lease | None:
    job = given["job"]
    for row in driver.rows(tx, take_, given):
        batch, lo, hi, term, expiries, owner, page, got, stage, run_id, only, state, tried = row
        if state == JobState.QUEUED:
            start = update(Job).where(Job.id == job, Job.state == JobState.QUEUED)
            tx.execute(start.values(state=JobState.RUNNING))
        keyed = {"owner": owner or None, "page": page, "got": got}
        of = (batch, job, stage, run_id, lo, hi, term, expiries, only)
        return Lease(*of, **keyed, tried=tried)
    return None


def _halve(tx: Tx, lease: Lease) -> Lease | None:
    """Cut a suspicious batch in two, keep the lower half; None if a lone photo was given up."""
    # Under the job's row, since what becomes work between the halves belongs to neither.
    job = jobs.lock(tx, lease.job)
    ids = [photo.id for photo in batches.work(tx, lease, max_tries=None)]
    if not ids:
        return lease  # all of it was settled before the worker died: it will close
    if lease.lo == lease.hi:
        _give_up(tx, lease, lease.lo)
        return None
    lower, upper = ids[: (len(ids) + 1) // 2], ids[(len(ids) + 1) // 2 :]
    kept = _range(lower)
    photos = Batch.moved + Batch.exited + len(lower)
    tx.execute(update(Batch).where(Batch.id == lease.batch).values(**kept, photos=photos))
    if upper:
        half = {**_range(upper), "job_id": lease.job, "photos": len(upper), "due": db_now()}
        half |= {"owner": lease.owner or "", "page": 0}
        tx.execute(insert(Batch).values(half))
    # What it finished lies in no half's range any more.
    batches.hand_on(tx, job, lease, None)
    return dataclasses.replace(lease, lo=kept["lo"], hi=kept["hi"], expiries=kept["expiries"])


def _range(ids: Sequence[int]) -> dict[str, int]:
    # One more expiry halves it again; a lone photo must earn its three by itself, since an
    # unrelated kill (a deployment, say) must not cost a live photo.
    expiries = POISON_EXPIRIES - 1 if len(ids) > 1 else 0
    return {"lo": ids[0], "hi": ids[-1], "expiries": expiries}


def _give_up(tx: Tx, lease: Lease, photo: int) -> None:
    message = f"its worker died {POISON_EXPIRIES} times with this photo alone in its hands"
    failures = [Failed(photo, Outcome.KILLS_WORKER, message)]
    moves = []
    if lease.stage != "score":
        moves = [Move(photo, PhotoState.REJECTED, Outcome.KILLS_WORKER)]
    batches.settle(tx, lease, moves, failures, Tally(exited=len(moves), failed=1), lease_s=0.0)
    batches.close(tx, lease, max_tries=0)
