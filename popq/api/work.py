"""Work: a stage done here and now or left to workers, and its jobs."""

from __future__ import annotations

import getpass
import threading
from dataclasses import asdict, replace
from typing import Any

from popq import gpu
from popq.api.learning import scored_run
from popq.api.progress import FOLLOW_S, OnProgress
from popq.bootstrap import BATCH_SIZES, QUEUES, Rooms
from popq.catalogue import (
    enqueuing,
    hosts,
    jobs,
    orders,
    overview,
    queries,
)
from popq.catalogue.states import ACTIVE_JOBS, JobState
from popq.catalogue.work import Filter
from popq.stages import stream
from popq.stages.presence import Presence


def work(
    rooms: Rooms,
    stage: str,
    *,
    run_id: int | None = None,
    only: Filter | None = None,
    limit: int | None = None,
    via: str | None = None,
    again: bool = False,
    on_progress: OnProgress,
) -> jobs.Progress | None:
    """Do the stage's work here and now, beside whatever other workers do, until none is left.

    `only` narrows it (see `catalogue.work`), `limit` takes the first photos, `via` is another
    way to do it (`oembed` resolves without a key), `again` scores what is scored, too. Returns how
    its job ended, or None when there was nothing to do. Raises `Misconfigured` when the job was
    paused, and where nothing can be asked for want of a key.
    """
    if stage == "score":
        run_id = scored_run(rooms, run_id)
    needs_key = stage == "resolve" and via is None and not rooms.flickr_clients
    if needs_key and preview(rooms, stage, only=only, limit=limit)["photos"]:
        # Before a job is made that asks by keys: it would be in the way of one that needs none.
        rooms.makers()[stage](run_id)
    ask: dict[str, Any] = {"only": only, "limit": limit, "via": via, "again": again}
    done = rooms.enqueue(stage, run_id=run_id, by=person(), **ask)
    if done.job is None:
        return None
    # A score batch has the whole device; several would only fight for it.
    threads = 1 if stage == "score" else rooms.settings.io_threads

    def tell(progress: jobs.Progress) -> None:
        on_progress(stage, progress.finished, progress.photos)

    return rooms.drain(stage).run_job(done.job, threads, tell)


def preview(
    rooms: Rooms,
    stage: str,
    *,
    run_id: int | None = None,
    only: Filter | None = None,
    limit: int | None = None,
    via: str | None = None,
    again: bool = False,
    after: int = 0,
    alone: bool = False,
) -> dict[str, Any]:
    """Return what enqueuing would come to: photos, batches, and seconds at the current rate.

    `after` are photos that an earlier stage hands on; its batches are not known yet. `alone`: this
    stage takes up no others, since the earlier one has a limit.

    The rate is the budget of the keys or of the image host; for scoring, what the last job did.
    Changes nothing and calls nobody. `per_second` and `seconds` are None where no rate is known.
    Resolving has bounds of its calls, retries left out; the seconds are for a call a photo.
    """
    size, tries = BATCH_SIZES[stage], rooms.settings.max_tries
    if stage == "score":
        run_id = scored_run(rooms, run_id)
    with rooms.catalogue.read() as tx:
        if again:
            only = enqueuing.again(tx, run_id, only or {})
        found, cut = enqueuing.preview(
            tx, stage, size=size, run_id=run_id, only=only, limit=limit, via=via, max_tries=tries
        )
    rate = _rate(rooms, stage, via)
    if alone:
        found = replace(found, photos=0, batches=0)
    found = replace(found, photos=found.photos + after)
    seconds = None if rate is None else found.photos / rate
    told = {"stage": stage, **asdict(found), "per_second": rate, "seconds": seconds}
    if stage == "resolve":
        told["fewest_calls"], told["most_calls"] = stream.bounds(cut)
    return told


def _rate(rooms: Rooms, stage: str, via: str | None) -> float | None:
    s = rooms.settings
    if via is not None:
        return s.flickr_calls_per_hour / 3600
    with rooms.catalogue.read() as tx:
        if stage == "score":
            return queries.score_rate(tx)
        if stage == "download":
            return s.images_per_second
        keys = sum(hosts.disabled(tx, [name]) is None for name in rooms.flickr_clients)
    return s.flickr_calls_per_hour * keys / 3600 or None


def follow(rooms: Rooms, job: int, *, on_progress: OnProgress) -> jobs.Progress:
    """Tell of a job's progress until it is over, working nothing; return how it ended."""
    never = threading.Event()
    while True:
        with rooms.catalogue.read() as tx:
            (progress,) = jobs.progress(tx, job)
        phase = f"job {job} ({progress.stage})"
        if progress.state == JobState.PAUSED:
            phase += f", paused: {progress.message}"
        on_progress(phase, progress.finished, progress.photos)
        if progress.state not in ACTIVE_JOBS:
            return progress
        never.wait(FOLLOW_S)


def pause_job(rooms: Rooms, job: int) -> None:
    """Pause an active job; `BadInput` when it is unknown, over, or paused already."""
    with rooms.catalogue.begin() as tx:
        orders.pause(tx, job, person())


def resume_job(rooms: Rooms, job: int) -> None:
    """Let a paused job go on; `BadInput` when it is not paused."""
    with rooms.catalogue.begin() as tx:
        orders.resume(tx, job)


def cancel_job(rooms: Rooms, job: int) -> orders.Cancelled:
    """End an active job, keeping what is finished; `BadInput` when it is over."""
    with rooms.catalogue.begin() as tx:
        return orders.cancel(tx, job)


def retry_job(rooms: Rooms, job: int, reason: str | None) -> orders.Retried:
    """Enqueue again what an ended job left after failures, or took out for a reason."""
    tries = rooms.settings.max_tries
    with rooms.catalogue.begin() as tx:
        size = BATCH_SIZES[jobs.get(tx, job).stage]
        return orders.retry(tx, job, reason, size=size, max_tries=tries, requested_by=person())


def show_job(rooms: Rooms, job: int) -> dict[str, Any]:
    """Return a job with its progress, batches by state and outcomes; `BadInput` when unknown.

    `per_second` is the rate of late and `left_s` the time left by it, None where it cannot be told.
    """
    with rooms.catalogue.read() as tx:
        jobs.get(tx, job)
        (progress,) = jobs.progress(tx, job)
        told = asdict(progress) | queries.job(tx, job)
        rate = overview.rates(tx, [job]).get(job, 0.0)
    told["per_second"] = rate
    told["left_s"] = overview.left_s(progress.photos - progress.finished, rate)
    return told


def serve(rooms: Rooms, queue: str, stop: threading.Event) -> None:
    """Work one queue off the catalogue alone, without a broker, until `stop` is set."""
    threads = rooms.settings.io_threads if queue == "io" else 1
    with Presence(rooms.catalogue, rooms.worker, queue, threads):
        if queue == "gpu":
            gpu.serve(rooms, stop)
            return
        drain = rooms.drain(*QUEUES[queue])
        drain.stop = stop
        drain.serve(threads)


def person() -> str:
    """Return who asks, for the jobs' log."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"
