"""Jobs: one request for work, cut into batches when it is made.

    queued ──first claim──▶ running ──last batch closes──▶ done
       └──▶ paused ◀──▶ running        any active ──▶ cancelled, failed

There is at most one active job a stage (and a run, for scoring): asking again adds what is new.

A resolve job may stream: `then_id` names the download job that takes up what each of its batches
resolved (`hand_on`). That one cannot end before it.

Locks are taken in this order, so no two transactions wait for each other: a batch's row, rows of
photos, the row of its job, the row of the job downstream of it. What goes the other way waits for
nobody: it passes over batches that are locked (`cancel`), or writes only closed ones. Closing
shares the job's row, opening batches has it alone: so work that turns up while a batch closes is
seen by one of the two. Two that close the last batches at once, or the last one of a downstream job
and of its upstream, may each take the other's for open; then the next look of any worker at the job
finds nothing open and ends it (`finish_if_over`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import aliased

from popq.catalogue import datasets, ranges
from popq.catalogue.db import Tx, db_now
from popq.catalogue.models import Batch, Failure, Job
from popq.catalogue.states import ACTIVE_JOBS, CLAIMABLE_JOBS, BatchState, JobState
from popq.catalogue.work import Filter, describe, spent, work_of
from popq.errors import BadInput

#: Photos in a batch that one job hands on to the next, at most.
HANDED_ON: Final = 250


@dataclass(frozen=True, slots=True)
class Enqueued:
    """What enqueuing came to: the job, how many photos and batches it gained, if it is new.

    `job` is None when there was nothing to do, and so no job was made. `widened`: the active job
    had a filter, and has none any more. `resumed`: it was paused. `then`: what came of the job
    that takes up what this one finishes.
    """

    job: int | None
    photos: int
    batches: int
    new: bool
    widened: bool = False
    resumed: bool = False
    then: Enqueued | None = None


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


def enqueue(
    tx: Tx,
    stage: str,
    *,
    size: int,
    run_id: int | None = None,
    only: Filter | None = None,
    limit: int | None = None,
    then: tuple[str, int] | None = None,
    via: str | None = None,
    requested_by: str | None = None,
    max_tries: int | None = None,
) -> Enqueued:
    """Make a job of all the stage's work, cut into batches of `size` photos, or add what is new.

    `only` narrows the work (or widens it: `again`), `limit` takes its first photos by id. An active
    job of the same stage (and run) is joined, and set going again if it was paused: it gains the
    work that no open batch of it covers and that has tries left (of `max_tries`, if given). `then`
    is a stage, with its batches' size, whose job takes up what this one finishes; without a limit
    it takes up what is its work already, too. `via` is another way to do the stage than its first
    (`oembed`).

    Raises `BadInput` when the active job has another filter or way, or for a limit beside one.
    """
    asked = _checked(tx, only)
    row = {"stage": stage, "run_id": run_id, "via": via, "requested_by": requested_by}
    up = _join(tx, row, asked, limit)
    down = None
    if then is not None:
        down = _join(tx, row | {"stage": then[0], "run_id": None, "via": None}, asked, None)
    made, after = _grow(tx, up, size, limit, max_tries), None
    if then is not None and down is not None:
        tx.execute(update(Job).where(Job.id == up.job).values(then_id=down.job))
        after = down.so_far()
        if limit is None:
            after = _grow(tx, down, then[1], None, max_tries)
    made = _drop_or_end(tx, made)
    if after is not None:
        after = after if made.job is not None else _drop_or_end(tx, after)
    return replace(made, then=after)


def preview(
    tx: Tx,
    stage: str,
    *,
    size: int,
    run_id: int | None = None,
    only: Filter | None = None,
    limit: int | None = None,
    via: str | None = None,
    max_tries: int | None = None,
) -> tuple[Enqueued, list[tuple[str, int]]]:
    """Return what `enqueue` would come to, errors included, and change nothing.

    Beside it (owner or '', photos) of each batch that would be opened; see `owners`.
    """
    asked = _checked(tx, only)
    active = tx.execute(_active(stage, run_id)).one_or_none()
    work = work_of(stage, run_id, asked)
    if active is None:
        by_owner = _by_owner(stage, via)
        gained = ranges.preview(tx, None, work, size=size, limit=limit, by_owner=by_owner)
        return Enqueued(None, _sum(gained), len(gained), new=bool(gained)), gained
    only = _common(active, asked, limit, via)
    joined = _Joined(active.id, stage, run_id, asked, only, via, active)
    if max_tries is not None:
        work &= ~spent(active.id, max_tries)
    gained = ranges.preview(tx, active.id, work, size=size, limit=None)
    found = replace(joined.so_far(), photos=_sum(gained), batches=len(gained))
    return found, gained


def again(tx: Tx, run_id: int | None, only: Filter) -> Filter:
    """Return `only` widened to photos that the run has scored by now.

    An active job that was asked for just that goes on with what it took for scored then.
    """
    active = tx.execute(_active("score", run_id)).one_or_none()
    if active is not None and _unwidened(active.filter) == only != active.filter:
        return dict(active.filter)
    newest = tx.execute(select(func.coalesce(func.max(Job.id), 0))).scalar_one()
    return {**only, "again_after": int(newest)}


def _unwidened(only: Filter) -> Filter:
    return {key: value for key, value in only.items() if key != "again_after"}


def _checked(tx: Tx, only: Filter | None) -> Filter:
    if only and "dataset" in only:
        datasets.get(tx, only["dataset"])
    return only or {}


def _sum(gained: Sequence[tuple[str, int]]) -> int:
    return sum(photos for _, photos in gained)


def _by_owner(stage: str, via: str | None) -> bool:
    """Return whether a new job has batches of owners: only the API lists an owner's photos."""
    return stage == "resolve" and via is None


@dataclass(frozen=True, slots=True)
class _Joined:
    """A job that was asked for with the filter `asked` and has `only` now.

    `was` is its row before that, None for a new job.
    """

    job: int
    stage: str
    run_id: int | None
    asked: Filter
    only: Filter
    via: str | None
    was: Any

    def so_far(self) -> Enqueued:
        """Return what joining alone came to."""
        if self.was is None:
            return Enqueued(self.job, 0, 0, new=True)
        widened, resumed = self.was.filter != self.only, self.was.state == JobState.PAUSED
        return Enqueued(self.job, 0, 0, new=False, widened=widened, resumed=resumed)


def _active(stage: str, run_id: int | None) -> Any:
    same_run = Job.run_id == run_id if run_id is not None else Job.run_id.is_(None)
    query = select(Job.id, Job.filter, Job.state, Job.via)
    return query.where(Job.stage == stage, same_run, Job.state.in_(ACTIVE_JOBS))


def _join(tx: Tx, row: dict[str, Any], asked: Filter, limit: int | None) -> _Joined:
    """Make the job that `row` describes, or join the active one and set it going; it is locked."""
    stage, run_id = row["stage"], row["run_id"]
    query = _active(stage, run_id).with_for_update(key_share=True)
    active = tx.execute(query).one_or_none()
    if active is None:
        try:
            with tx.begin_nested():
                job = tx.execute(
                    insert(Job).values(**row, filter=asked).returning(Job.id)
                ).scalar_one()
        except IntegrityError:
            # Another process made it between our look and our insert.
            active = tx.execute(query).one_or_none()
            if active is None:
                raise
        else:
            return _Joined(job, stage, run_id, asked, asked, row["via"], None)
    only = _common(active, asked, limit, row["via"])
    tx.execute(update(Job).where(Job.id == active.id).values(filter=only))
    resume(tx, active.id)
    return _Joined(active.id, stage, run_id, asked, only, row["via"], active)


def _common(active: Any, asked: Filter, limit: int | None, via: str | None) -> Filter:
    """Return the filter of an active job that is asked for more; `BadInput` when it cannot be."""
    if via != active.via:
        there, here = (f"by {way}" if way else "by the API" for way in (active.via, via))
        message = f"Job {active.id} is active and asks {there}, so it cannot ask {here}"
        raise BadInput(f"{message}; let it end or cancel it (`popq jobs cancel {active.id}`).")
    if limit is not None:
        message = f"Job {active.id} is active, so a limit would not hold"
        raise BadInput(f"{message}; let it end first, or leave the limit out.")
    if asked == active.filter:
        return asked
    if "again_after" in active.filter and "again_after" not in asked:
        # It scores all of these, and those that are scored already.
        if _unwidened(active.filter) in ({}, asked):
            return dict(active.filter)
    elif "again_after" not in asked and not (asked and active.filter):
        return {}
    raise BadInput(
        f"Job {active.id} is active for {describe(active.filter)}, so it cannot take"
        f" {describe(asked)}: let it end or cancel it (`popq jobs cancel {active.id}`) first, or"
        " ask without a filter, which widens it to all photos."
    )


def _grow(tx: Tx, joined: _Joined, size: int, limit: int | None, max_tries: int | None) -> Enqueued:
    job, made = joined.job, joined.so_far()
    work = work_of(joined.stage, joined.run_id, joined.asked)
    if not made.new and max_tries is not None:
        work &= ~spent(job, max_tries)
    by_owner = made.new and _by_owner(joined.stage, joined.via)
    gained = ranges.grow(tx, job, work, size=size, limit=limit, by_owner=by_owner)
    if made.widened or joined.asked != joined.only:
        ranges.recount(tx, job, work_of(joined.stage, joined.run_id, joined.only))
    return replace(made, photos=sum(gained), batches=len(gained))


def _drop_or_end(tx: Tx, made: Enqueued) -> Enqueued:
    """Take a new job without work away: it would only clutter the list."""
    if made.new and not made.photos:
        tx.execute(delete(Job).where(Job.id == made.job))
        return Enqueued(None, 0, 0, new=False)
    if made.job is not None and not made.photos:
        finish_if_over(tx, made.job)
    return made


def hand_on(tx: Tx, upstream: Any, lo: int, hi: int, max_tries: int | None) -> None:
    """Open batches of the downstream job for its work in a range, if the upstream job streams.

    `upstream` is the upstream job's row from `lock`. What an open batch of the downstream covers
    already is left to it: it does not close while it has work (`batches.close`).
    """
    if upstream.then_id is None:
        return
    job = lock(tx, upstream.then_id)
    if job.state not in ACTIVE_JOBS:
        return
    work = work_of(job.stage, job.run_id, job.filter)
    if max_tries is not None:
        work &= ~spent(job.id, max_tries)
    ranges.grow(tx, job.id, work, size=HANDED_ON, within=(lo, hi))


def hand_on_photos(tx: Tx, upstream: Any, photos: Sequence[int]) -> None:
    """Open batches of the downstream job for these photos alone, if the upstream job streams.

    For an owner's batch, whose range may reach over everybody's photos.
    """
    if upstream.then_id is None:
        return
    job = lock(tx, upstream.then_id)
    if job.state in ACTIVE_JOBS:
        work = work_of(job.stage, job.run_id, job.filter)
        ranges.scatter(tx, job.id, work, photos, HANDED_ON)


def find_active(tx: Tx, stage: str, run_id: int | None = None) -> int | None:
    """Return the id of the stage's active job, if there is one."""
    row = tx.execute(_active(stage, run_id)).one_or_none()
    return None if row is None else int(row.id)


def claimable(tx: Tx, stages: tuple[str, ...]) -> list[tuple[int, str]]:
    """Return (id, stage) of the jobs of these stages that hand out batches, oldest first."""
    query = select(Job.id, Job.stage).where(Job.stage.in_(stages), Job.state.in_(CLAIMABLE_JOBS))
    return [(row.id, row.stage) for row in tx.execute(query.order_by(Job.id))]


def get(tx: Tx, job: int) -> Any:
    """Return the job's row (id, stage, run_id, via, filter, state, then_id, message).

    `BadInput` when unknown.
    """
    return _row(tx, job, GET)


def lock(tx: Tx, job: int) -> Any:
    """Return the job's row as `get` does, locked until the transaction ends.

    Not with the strongest lock: rows of `failures` written before hold the job's key, and two that
    hold it may not wait for each other.
    """
    return _row(tx, job, _LOCK)


def share(tx: Tx, job: int) -> Any:
    """Return the job's row as `lock` does, held together with others that share it.

    So any number of workers close batches at once, each waiting for the disk beside the others,
    but nobody enqueues, cancels or ends the job meanwhile.
    """
    return _row(tx, job, SHARE)


# Statements of every settle are put together once: that takes longer than to run them.
_MINE: Final = bindparam("job", type_=BigInteger)
GET: Final = select(
    *(Job.id, Job.stage, Job.run_id, Job.via, Job.filter, Job.state, Job.then_id, Job.message)
).where(Job.id == _MINE)
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


def _row(tx: Tx, job: int, query: Any) -> Any:
    row = tx.execute(query, {"job": job}).one_or_none()
    if row is None:
        raise BadInput(f"There is no job {job}; `popq jobs` lists those there are.")
    return row


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
    """End the job, and the one downstream of it if that has waited only for this."""
    values = {"state": state, "finished_at": func.now()}
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
    return bool(tx.execute(_GOES_ON, {"job": job}).scalar_one())


def goes_on_without(batch: Any, job: Any) -> ColumnElement[bool]:
    """Return the condition that the job has an open batch beside this one, or is handed on to."""
    other = aliased(Batch)
    open_ = (other.job_id == job) & (other.state != literal_column("'done'")) & (other.id != batch)
    return exists().where(open_) | exists().where(Job.then_id == job, Job.state.in_(ACTIVE_JOBS))


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
