"""Tasks: the doorbells' other end, one short task a stage, and what rings and serves them.

A task looks into the catalogue for the job's work; it does not matter how often it is rung.
"""

from __future__ import annotations

import os
import sys
import threading
from functools import cache
from typing import Any, Final

import structlog
from celery.signals import worker_init, worker_ready, worker_shutting_down
from kombu.exceptions import OperationalError

from popq import logs
from popq.bootstrap import QUEUES, Rooms, open_rooms, torch_stage
from popq.catalogue import batches, jobs, runs
from popq.celery import BELL_EXPIRES_S, app
from popq.errors import PopqError
from popq.stages.drain import SWEEP_S, Drain

log = structlog.get_logger()

#: A task works through batches for about so long, then rings again and makes room for others.
TASK_S: Final = 60.0
#: At most one bell in so many seconds for a job, or a run, beyond those of its enqueuing.
RING_EVERY_S: Final = 2.0


@cache
def _rooms() -> Rooms:
    """Return this worker process's rooms."""
    return open_rooms()


@cache
def _drain(queue: str) -> Drain:
    return _rooms().drain(*QUEUES[queue])


@app.task(name="popq.resolve")  # type: ignore[untyped-decorator]
def resolve(job: int) -> None:
    """Resolve photos of the job for about a minute."""
    _answer("io", "resolve", job)


@app.task(name="popq.download")  # type: ignore[untyped-decorator]
def download(job: int) -> None:
    """Download photos of the job for about a minute."""
    _answer("io", "download", job)


@app.task(name="popq.score")  # type: ignore[untyped-decorator]
def score(job: int) -> None:
    """Score photos of the job for about a minute."""
    _answer("gpu", "score", job)


@app.task(name="popq.train")  # type: ignore[untyped-decorator]
def train(run: int) -> None:
    """Train the run, or do nothing if another worker has it."""
    rooms = _rooms()
    try:
        where, fit = rooms.trainer_place(), torch_stage("train").train
        fit(rooms.catalogue, run, where, stop=threading.Event(), on_progress=_quiet)
    except PopqError as error:
        log.warning("run ended", run=run, why=str(error))


_BELLS: Final = {"resolve": resolve, "download": download, "score": score}


def _answer(queue: str, stage: str, job: int) -> None:
    rooms = _rooms()
    try:
        left = _drain(queue).work_for(TASK_S, job, lambda: _ring_next(rooms, job))
    except PopqError as error:
        log.warning("bell came to nothing", stage=stage, job=job, why=str(error))
        return
    if left:
        _ring_job(rooms, stage, job)


def _ring_next(rooms: Rooms, job: int) -> None:
    """Ring for the job that takes up what this one has just finished, if it streams."""
    with rooms.catalogue.read() as tx:
        then = jobs.get(tx, job).then_id
        if then is None:
            return
        due_s, stage = batches.next_due_s(tx, then), jobs.get(tx, then).stage
    if due_s is not None and due_s <= 0:
        _ring_job(rooms, stage, then)


def enqueue(
    rooms: Rooms, stage: str, *, by: str, then: str | None = None, **ask: Any
) -> jobs.Enqueued:
    """Enqueue the stage's work and ring, once for each batch that a worker's threads can take.

    `ask` is what `Rooms.enqueue` takes beside.
    """
    done = rooms.enqueue(stage, by=by, then=then, **ask)
    ring(rooms, stage, done)
    if then is not None and done.then is not None:
        ring(rooms, then, done.then)
    return done


def ring(rooms: Rooms, stage: str, enqueued: jobs.Enqueued) -> None:
    """Ring for batches that were enqueued, if there is a broker to carry the bells."""
    if rooms.settings.broker() is None or enqueued.job is None:
        return
    for _ in range(min(enqueued.batches, rooms.settings.io_threads)):
        if not _ring(_BELLS[stage], enqueued.job):
            break


def ring_run(rooms: Rooms, run: int) -> None:
    """Ring for a queued run, if there is a broker to carry the bell."""
    if rooms.settings.broker() is not None:
        _ring(train, run)


def _ring_job(rooms: Rooms, stage: str, job: int) -> None:
    with rooms.catalogue.begin() as tx:
        due = jobs.ring_due(tx, job, RING_EVERY_S)
    if due:
        _ring(_BELLS[stage], job)


def _ring(bell: Any, subject: int) -> bool:
    """Send one bell; return whether a broker took it. Work is found without it, only later."""
    try:
        bell.apply_async(args=[subject], expires=BELL_EXPIRES_S, retry=False)
    except OperationalError as error:
        log.warning("no bell: the broker does not answer; workers will sweep", why=str(error))
        return False
    return True


def serve(queue: str, threads: int) -> None:
    """Run a Celery worker of one queue until it is told to stop, with a sweep beside it.

    The io queue's tasks run in `threads` threads. The gpu queue's run one at a time in a child of
    its own that is spawned for each, so that only the child loads torch and takes memory with it.
    """
    rooms = _rooms()
    logs.for_workers(rooms.settings.log_level)
    if queue == "gpu":
        stop = threading.Event()
        sweeper = threading.Thread(target=_sweep_gpu, args=(rooms, stop), daemon=True)
        options = ["-P", "prefork", "-c", "1", "--max-tasks-per-child", "1"]
        app.conf.worker_pool_start_method = "spawn"
    else:
        drain = _drain(queue)
        stop = drain.stop
        sweeper = threading.Thread(target=drain.serve, args=(1,), daemon=True)
        options = ["-P", "threads", "-c", str(threads)]

    @worker_init.connect(weak=False)  # type: ignore[untyped-decorator]
    def _start(**_: Any) -> None:
        sweeper.start()  # before the broker answers, and whether it does or not

    @worker_shutting_down.connect(weak=False)  # type: ignore[untyped-decorator]
    def _stop(**_: Any) -> None:
        stop.set()  # threads settle what is finished and hand the rest back

    was_ready = threading.Event()

    @worker_ready.connect(weak=False)  # type: ignore[untyped-decorator]
    def _ready(**_: Any) -> None:
        was_ready.set()

    name = f"popq-{queue}@{rooms.worker}"
    common = ["-Q", queue, "-n", name, "-E", "--without-mingle", "--without-gossip"]
    app.worker_main(["worker", *common, *options, "-l", rooms.settings.log_level])
    if was_ready.is_set() and not stop.is_set():
        # At times kombu's own clean-up fails when the broker dies, and Celery gives up (1 of 3
        # kills of Redis). A worker outlives its broker, so it becomes a fresh one of its kind.
        log.error("Celery gave up: this worker starts anew")
        stop.set()
        sweeper.join()
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - ourselves, as we were started


def _sweep_gpu(rooms: Rooms, stop: threading.Event) -> None:
    """Ring for runs and score jobs that nobody rang for; the parent itself never loads torch."""
    while not stop.wait(SWEEP_S):
        try:
            with rooms.catalogue.begin() as tx:
                waiting = [
                    run for run in runs.claimable(tx) if runs.ring_due(tx, run, BELL_EXPIRES_S)
                ]
                scoring = [
                    job
                    for job, _ in jobs.claimable(tx, QUEUES["gpu"])
                    if (batches.next_due_s(tx, job) or 0.0) <= 0.0
                    and jobs.ring_due(tx, job, BELL_EXPIRES_S)
                ]
        except PopqError as error:
            log.warning("sweep failed", why=str(error))
            continue
        for run in waiting:
            _ring(train, run)
        for job in scoring:
            _ring(score, job)


def _quiet(phase: str, done: int, total: int) -> None:
    del phase, done, total
