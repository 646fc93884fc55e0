"""What `popq status` asks: the funnel, jobs with rate and time left, workers, hosts, failures.

All of it from the catalogue alone, in a handful of statements of which only the first, one pass
over the photos, grows with their number.

**Rate.** A batch's photos count as spread evenly from its first claim (`begun`) to its last results
(`settled`); a job's rate is those that fall into the last ten minutes, by that time. While a job is
younger than that, the time since its first claim stands instead of the ten minutes. So a worker's
photos are seen with its next partial settle, waits (a paused host, a retry) count as time, and a
job that stands still comes to 0.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import case, func, literal_column, or_, select

from popq.catalogue.db import Tx, db_now
from popq.catalogue.hosts import opens_at
from popq.catalogue.models import Batch, Epoch, Failure, Host, Job, Photo, Run, Worker
from popq.catalogue.states import (
    ACTIVE_JOBS,
    CLAIMABLE_JOBS,
    BatchState,
    JobState,
    PhotoState,
    RunState,
)

#: Seconds of which a job's rate tells.
RATE_S: Final = 600.0
#: Of jobs that have ended, those among so many of the newest are shown.
NEWEST_JOBS: Final = 5
#: A worker that has not been seen for so many seconds is silent.
ALIVE_S: Final = 60.0
#: Seconds of which failures are told.
FAILURES_S: Final = 3600.0


def status(tx: Tx) -> dict[str, Any]:
    """Return all that `popq status` shows of the catalogue, as JSON can hold it.

    Seconds end in `_s`, photos a second in `per_second`; moments are ISO 8601 in UTC by the
    database's clock, `at` above all.
    """
    now = clock(tx)
    photos, reasons = funnel(tx)
    return {
        "at": moment(now),
        "photos": photos,
        "reasons": reasons,
        "jobs": jobs(tx),
        "runs": runs(tx),
        "workers": workers(tx),
        "hosts": hosts(tx),
        "failures": failures(tx),
    }


def clock(tx: Tx) -> float:
    """Return the database's clock in epoch seconds."""
    return float(tx.execute(select(db_now())).scalar_one())


def moment(epoch: float) -> str:
    """Return epoch seconds in ISO 8601, in UTC."""
    return dt.datetime.fromtimestamp(epoch, dt.UTC).isoformat(timespec="seconds")


def funnel(tx: Tx) -> tuple[dict[str, int], dict[str, int]]:
    """Return the photos by state, zeros included, and those that left by reason; in one pass."""
    query = select(Photo.state, Photo.reason, func.count()).group_by(Photo.state, Photo.reason)
    photos = dict.fromkeys(map(str, PhotoState), 0)
    reasons: dict[str, int] = {}
    for state, reason, count in tx.execute(query):
        photos[state] += count
        if reason is not None:
            reasons[reason] = reasons.get(reason, 0) + count
    return photos, dict(sorted(reasons.items()))


def jobs(tx: Tx) -> list[dict[str, Any]]:
    """Return the active jobs and the newest of those that ended, newest first.

    Of `photos` are `done` those that moved, left, or stayed after all tries (`left`). Of a job that
    was cancelled `left` has also those that it never came to: they are not done. A time left
    (`left_s`) and a rate (`per_second`) have only jobs that are active; a paused one has no time
    left, nor has one that stands still. A job that `fed_by` another names still grows.
    """
    newest = select(Job.id).order_by(Job.id.desc()).limit(NEWEST_JOBS)
    columns = (Job.id, Job.stage, Job.run_id, Job.state, Job.message, Job.then_id)
    query = select(*columns).where(or_(Job.state.in_(ACTIVE_JOBS), Job.id.in_(newest)))
    rows = tx.execute(query.order_by(Job.id.desc())).all()
    counts = _counts(tx, [row.id for row in rows])
    active = [row for row in rows if row.state in ACTIVE_JOBS]
    per_second = rates(tx, [row.id for row in active])
    feeds = {row.then_id: row.id for row in active}
    found = []
    for row in rows:
        count = counts.get(row.id, _NO_BATCHES)
        done = count["moved"] + count["exited"]
        if row.state != JobState.CANCELLED:
            done += count["left"]
        speed = per_second.get(row.id, 0.0) if row in active else None
        going = row.state in CLAIMABLE_JOBS
        told = {
            "job": row.id,
            "stage": row.stage,
            "run": row.run_id,
            "state": row.state,
            "message": row.message,
            "fed_by": feeds.get(row.id),
            "done": done,
            "per_second": speed,
            "left_s": left_s(count["photos"] - done, speed or 0.0) if going else None,
        }
        found.append(told | count)
    return found


_COUNTED: Final = {
    "photos": Batch.photos,
    "moved": Batch.moved,
    "exited": Batch.exited,
    "failed_tries": Batch.failed,
    "left": Batch.left,
}
_NO_BATCHES: Final = {
    **dict.fromkeys((*_COUNTED, "batches", "open_batches", "leased", "lost"), 0),
    "due_s": None,
}


def _counts(tx: Tx, ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Return the sums of each job's batches, by job.

    Of its open batches, `leased` are in a worker's hands, `lost` those whose lease ran out, and
    `due_s` is when the next of the others may be claimed (negative: it may be now).
    """
    now = clock(tx)
    open_, leased = Batch.state != BatchState.DONE, Batch.state == BatchState.LEASED
    columns = {
        **{name: func.sum(column) for name, column in _COUNTED.items()},
        "batches": func.count(),
        "open_batches": func.count().filter(open_),
        "leased": func.count().filter(leased, Batch.due > now),
        "lost": func.count().filter(leased, Batch.due <= now),
        "due_s": func.min(Batch.due).filter(Batch.state == BatchState.READY) - now,
    }
    query = select(Batch.job_id, *columns.values()).where(Batch.job_id.in_(ids))
    counted = {}
    for job, *values in map(tuple, tx.execute(query.group_by(Batch.job_id))):
        named = zip(columns, values, strict=True)
        counted[job] = {name: v if name == "due_s" else int(v) for name, v in named}
    return counted


def runs(tx: Tx) -> list[dict[str, Any]]:
    """Return the training runs that wait or train, newest first, with the epochs they have done."""
    epochs = select(func.max(Epoch.epoch)).where(Epoch.run_id == Run.id).scalar_subquery()
    query = select(Run.id, Run.state, Run.config, epochs.label("done"))
    rows = tx.execute(query.where(Run.state.in_(_ACTIVE_RUNS)).order_by(Run.id.desc()))
    return [
        {"run": r.id, "state": r.state, "done": r.done or 0, "epochs": r.config.get("epochs")}
        for r in rows
    ]


_ACTIVE_RUNS: Final = (RunState.QUEUED, RunState.RUNNING)


def workers(tx: Tx) -> list[dict[str, Any]]:
    """Return the workers, those that live first, and what each has in its hands (`work`).

    `alive` are those that said so within a minute. Whoever holds a lease and is no registered
    worker (`popq download`, here and now) comes last, with `alive` None.
    """
    now = clock(tx)
    work = _work(tx, now)
    query = select(*Worker.__table__.c).order_by(Worker.seen.desc(), Worker.name)
    found = [
        {
            "name": row.name,
            "queue": row.queue,
            "threads": row.threads,
            "up_s": now - row.started_at.timestamp(),
            "seen_s": now - row.seen,
            "alive": now - row.seen <= ALIVE_S,
            "work": work.pop(row.name, []),
        }
        for row in tx.execute(query)
    ]
    unknown = dict.fromkeys(("queue", "threads", "up_s", "seen_s", "alive"))
    return found + [{"name": name, **unknown, "work": work[name]} for name in sorted(work)]


def _work(tx: Tx, now: float) -> dict[str, list[dict[str, Any]]]:
    """Return what is leased, by the worker that has it; a negative `lease_s`: it ran out."""
    # Literals, not parameters: the partial index serves only a condition that it can recognise.
    leased = (literal_column("'leased'") == Batch.state) & (Batch.state != literal_column("'done'"))
    columns = (Batch.worker, Batch.job_id, Job.stage, Batch.id, Batch.lo, Batch.hi, Batch.claimed)
    query = select(*columns, Batch.due).join(Job, Job.id == Batch.job_id).where(leased)
    work: dict[str, list[dict[str, Any]]] = {}
    for row in tx.execute(query.order_by(Batch.claimed, Batch.id)):
        batch = {
            "stage": row.stage,
            "job": row.job_id,
            "batch": row.id,
            "lo": row.lo,
            "hi": row.hi,
            "since_s": None if row.claimed is None else now - row.claimed,
            "lease_s": row.due - now,
        }
        work.setdefault(str(row.worker), []).append(batch)
    training = select(Run.worker, Run.id, Run.leased_until).where(Run.state == RunState.RUNNING)
    for run in tx.execute(training.order_by(Run.id)):
        trains = {"stage": "train", "run": run.id, "lease_s": run.leased_until - now}
        work.setdefault(str(run.worker), []).append(trains)
    return work


def hosts(tx: Tx) -> list[dict[str, Any]]:
    """Return each throttled host: its calls an hour, and if and why it is paused or taken out.

    `paused_s` is 0 and `opens_at` and `paused_why` are None when it is open.
    """
    now = clock(tx)
    query = select(*Host.__table__.c).order_by(Host.name)
    found = []
    for row in tx.execute(query):
        opens = opens_at(row.paused_until, now)
        found.append(
            {
                "name": row.name,
                "per_hour": row.per_hour,
                "paused_s": 0.0 if opens is None else opens - now,
                "opens_at": None if opens is None else moment(opens),
                "paused_why": None if opens is None else row.paused_why,
                "disabled_why": row.disabled_why,
            }
        )
    return found


def failures(tx: Tx) -> list[dict[str, Any]]:
    """Return how many tries failed in the last hour, by stage and outcome, most first."""
    since = dt.datetime.fromtimestamp(clock(tx) - FAILURES_S, dt.UTC)
    count = func.count()
    query = (
        select(Job.stage, Failure.outcome, count.label("count"))
        .join(Job, Job.id == Failure.job_id)
        .where(Failure.failed_at > since)
        .group_by(Job.stage, Failure.outcome)
        .order_by(count.desc(), Job.stage, Failure.outcome)
    )
    return [{"stage": r.stage, "outcome": r.outcome, "count": r[2]} for r in tx.execute(query)]


def rates(tx: Tx, ids: Sequence[int]) -> dict[int, float]:
    """Return the photos a second that each of these jobs finished of late; see the module.

    Photos that moved or left count, failed tries do not. A job without any is left out.
    """
    now = clock(tx)
    start = now - RATE_S
    done = Batch.moved + Batch.exited
    within = case(
        (Batch.begun >= start, done * 1.0),
        else_=done * (Batch.settled - start) / (Batch.settled - Batch.begun),
    )
    began = func.min(case((Batch.begun >= start, Batch.begun), else_=start))
    query = select(Batch.job_id, func.sum(within), began).group_by(Batch.job_id)
    # One that was in work when its catalogue was brought to this version never began.
    counted = Batch.job_id.in_(ids) & (Batch.settled > start) & Batch.begun.is_not(None)
    rows = tx.execute(query.where(counted))
    # In a job's first second there is nothing to tell by.
    return {job: float(photos) / max(now - since, 1.0) for job, photos, since in rows}


def left_s(photos: int, per_second: float) -> float | None:
    """Return the seconds that so many photos take; None where that cannot be told."""
    if photos <= 0:
        return 0.0
    return photos / per_second if per_second > 0 else None
