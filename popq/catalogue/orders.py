"""What a person orders of a job: pause, resume, cancel, retry.

A worker in the middle of a batch learns of a pause or a cancellation from its next partial settle:
it records what is finished, and the batch goes back (paused) or is closed (cancelled). A batch of a
cancelled job whose worker is dead is closed by the sweep once its lease has run out; until then the
worker may come back and record what it finished.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from popq.catalogue import enqueuing, jobs, ranges, recheck
from popq.catalogue.db import Tx
from popq.catalogue.enqueuing import Enqueued
from popq.catalogue.models import Batch, Photo
from popq.catalogue.states import ACTIVE_JOBS, BatchState, JobState, PhotoState
from popq.catalogue.work import START, Filter, failed_in, work_of
from popq.errors import BadInput


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What cancelling came to: batches closed at once, and those that workers still hold."""

    job: int
    closed: int
    held: int


@dataclass(frozen=True, slots=True)
class Retried:
    """What a retry came to: photos that came back to the stage's start, and what was enqueued."""

    put_back: int
    enqueued: Enqueued


def pause(tx: Tx, job: int, by: str) -> None:
    """Pause an active job; `BadInput` when it is paused already, or over."""
    row = _active(tx, job, "paused")
    if row.state == JobState.PAUSED:
        raise BadInput(f"Job {job} is paused already: {row.message}.")
    jobs.pause(tx, job, f"paused by {by}")


def resume(tx: Tx, job: int) -> None:
    """Let a paused job go on; `BadInput` when it is not paused."""
    row = _active(tx, job, "resumed")
    if row.state != JobState.PAUSED:
        raise BadInput(f"Job {job} is {row.state}, not paused.")
    jobs.resume(tx, job)


def cancel(tx: Tx, job: int) -> Cancelled:
    """End an active job; what workers have finished is kept. `BadInput` when it is over."""
    row = _active(tx, job, "cancelled")
    work = work_of(row.stage, row.run_id, row.filter)
    closed = ranges.close_all(tx, job, work, Batch.state == BatchState.READY)
    jobs.finish(tx, job, JobState.CANCELLED)
    open_ = (Batch.job_id == job) & (Batch.state != BatchState.DONE)
    held = tx.execute(select(func.count(Batch.id)).where(open_)).scalar_one()
    return Cancelled(job, closed, held)


def retry(
    tx: Tx, job: int, reason: str | None, *, size: int, max_tries: int, requested_by: str
) -> Retried:
    """Enqueue anew, with fresh tries, the photos that an ended job left after transient failures.

    With a reason instead those that it took out as gone or rejected for just that: they come back
    to the stage's start first. Joins the stage's active job as `enqueuing.enqueue` does. Raises
    `BadInput` for a job that is still active: it tries again by itself.
    """
    row = jobs.get(tx, job)
    if row.state in ACTIVE_JOBS:
        message = f"Job {job} is {row.state}: it tries again by itself"
        raise BadInput(f"{message}; let it end, or `popq jobs cancel {job}` first.")
    only: Filter = {"failed_in": job} | ({} if reason is None else {"reason": reason})
    # Photos before jobs, as in a settle, so that neither waits for the other.
    put_back = 0 if reason is None else _put_back(tx, job, row.stage, reason)
    made = enqueuing.enqueue(
        tx,
        row.stage,
        size=size,
        run_id=row.run_id,
        only=only,
        via=row.via,
        requested_by=requested_by,
        max_tries=max_tries,
    )
    return Retried(put_back, made)


def _active(tx: Tx, job: int, verb: str) -> Any:
    row = jobs.lock(tx, job)
    if row.state not in ACTIVE_JOBS:
        raise BadInput(f"Job {job} is {row.state}: only an active job can be {verb}.")
    return row


def _put_back(tx: Tx, job: int, stage: str, reason: str) -> int:
    left = Photo.state.in_((PhotoState.GONE, PhotoState.REJECTED)) & (Photo.reason == reason)
    mine = left & failed_in(job, reason)
    if START[stage] == PhotoState.RESOLVED:
        mine &= Photo.image_url.is_not(None)
    elif START[stage] != PhotoState.LISTED:
        return 0  # scoring takes no photo out
    return len(recheck.bring_back(tx, mine, START[stage]))
