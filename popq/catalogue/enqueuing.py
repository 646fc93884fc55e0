"""Enqueuing: a request for work becomes a job, cut into batches when it is made.

There is at most one active job a stage (and a run, for scoring): asking again adds what is new.

A resolve job may stream: `then_id` names the download job that takes up what each of its batches
resolved (`hand_on`). That one cannot end before it. Locks are taken in the order that `jobs` tells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from popq.catalogue import datasets, jobs, ranges
from popq.catalogue.db import Tx
from popq.catalogue.models import Job
from popq.catalogue.states import ACTIVE_JOBS, JobState
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
    active = tx.execute(jobs.active(stage, run_id)).one_or_none()
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
    active = tx.execute(jobs.active("score", run_id)).one_or_none()
    if active is not None and _unwidened(active.filter) == only != active.filter:
        return dict(active.filter)
    newest = tx.execute(select(func.coalesce(func.max(Job.id), 0))).scalar_one()
    return {**only, "again_after": int(newest)}


def _unwidened(only: Filter) -> Filter:
    return {key: value for key, value in only.items() if key != "again_after"}


def _checked(tx: Tx, only: Filter | None) -> Filter:
    if only and "dataset" in only:
        datasets.get(tx, only["dataset"])
    if only and not math.isfinite(only.get("min_label", 0.0)):
        message = f"No label can be compared with {only['min_label']:g}"
        raise BadInput(f"{message}; give a finite number.")
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


def _join(tx: Tx, row: dict[str, Any], asked: Filter, limit: int | None) -> _Joined:
    """Make the job that `row` describes, or join the active one and set it going; it is locked."""
    stage, run_id = row["stage"], row["run_id"]
    query = jobs.active(stage, run_id).with_for_update(key_share=True)
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
    jobs.resume(tx, active.id)
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
        jobs.finish_if_over(tx, made.job)
    return made


def hand_on(tx: Tx, upstream: jobs.Row, lo: int, hi: int, max_tries: int | None) -> None:
    """Open batches of the downstream job for its work in a range, if the upstream job streams.

    `upstream` is the upstream job's row from `lock`. What an open batch of the downstream covers
    already is left to it: it does not close while it has work (`batches.close`).
    """
    job = _downstream(tx, upstream)
    if job is None:
        return
    work = work_of(job.stage, job.run_id, job.filter)
    if max_tries is not None:
        work &= ~spent(job.id, max_tries)
    ranges.grow(tx, job.id, work, size=HANDED_ON, within=(lo, hi))


def hand_on_photos(tx: Tx, upstream: jobs.Row, photos: Sequence[int]) -> None:
    """Open batches of the downstream job for these photos alone, if the upstream job streams.

    For an owner's batch, whose range may reach over everybody's photos.
    """
    job = _downstream(tx, upstream)
    if job is not None:
        work = work_of(job.stage, job.run_id, job.filter)
        ranges.scatter(tx, job.id, work, photos, HANDED_ON)


def _downstream(tx: Tx, upstream: jobs.Row) -> jobs.Row | None:
    """Return the downstream job's row, locked; None without one that still takes photos."""
    if upstream.then_id is None:
        return None
    job = jobs.lock(tx, upstream.then_id)
    return job if job.state in ACTIVE_JOBS else None
