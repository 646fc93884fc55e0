"""Tasks: the doorbells' other end, one short task a stage, and what rings and serves them.

A task looks into the catalogue for the job's work; it does not matter how often it is rung.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import uuid
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import structlog
from billiard import active_children
from celery.signals import (
    setup_logging,
    worker_init,
    worker_ready,
    worker_shutting_down,
)
from celery.worker import state

from popq import gpu, stopping
from popq.bootstrap import QUEUES, Rooms, open_rooms
from popq.catalogue import batches, enqueuing, jobs, runs
from popq.celery import BELL_EXPIRES_S, app, check_broker
from popq.errors import PopqError, ServiceDown
from popq.gpu import Unit
from popq.stages.drain import Drain
from popq.stages.presence import Presence

log = structlog.get_logger()

#: A task works through batches for about so long, then rings again and makes room for others.
TASK_S: Final = 60.0
#: At most one bell in so many seconds for a job, or a run, beyond those of its enqueuing.
RING_EVERY_S: Final = 2.0
#: Set when this process is to stop.
_stop: Final = threading.Event()


@cache
def _rooms() -> Rooms:
    """Return this worker process's rooms."""
    return open_rooms()


@cache
def _drain() -> Drain:
    drain = _rooms().drain(*QUEUES["io"])
    drain.stop = _stop
    return drain


@app.task(name="popq.resolve")  # type: ignore[untyped-decorator]
def resolve(job: int) -> None:
    """Resolve photos of the job for about a minute."""
    _answer("resolve", job)


@app.task(name="popq.download")  # type: ignore[untyped-decorator]
def download(job: int) -> None:
    """Download photos of the job for about a minute."""
    _answer("download", job)


@app.task(name="popq.score", bind=True)  # type: ignore[untyped-decorator]
def score(self: Any, job: int) -> None:
    """Score photos of the job for some minutes."""
    if _work_alone(self.request.hostname, Unit("score", job)):
        _ring_job(_rooms(), "score", job)


@app.task(name="popq.train", bind=True)  # type: ignore[untyped-decorator]
def train(self: Any, run: int) -> None:
    """Train the run, or do nothing if another worker has it."""
    _work_alone(self.request.hostname, Unit("train", run))


_BELLS: Final = {"resolve": resolve, "download": download, "score": score}


def _answer(stage: str, job: int) -> None:
    rooms = _rooms()
    try:
        left = _drain().work_for(TASK_S, job, lambda: _ring_next(rooms, job))
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


def _work_alone(hostname: str, unit: Unit) -> bool:
    """Do a unit of GPU work in this child of the worker; return whether work of it is left."""
    rooms = _rooms()
    rooms.worker = hostname.partition("@")[2]  # the child is the worker, to all who look
    rooms.log_as_worker()
    gpu.heed(_stop)  # now, since the pool sets signals of its own when the child begins
    try:
        return gpu.work(rooms, unit, _stop)
    except PopqError as error:
        log.warning("unit ended", kind=unit.kind, id=unit.id, why=str(error))
        return False


def enqueue(
    rooms: Rooms, stage: str, *, by: str, then: str | None = None, **ask: Any
) -> enqueuing.Enqueued:
    """Enqueue the stage's work and ring, once for each batch that a worker's threads can take.

    `ask` is what `Rooms.enqueue` takes beside.
    """
    done = rooms.enqueue(stage, by=by, then=then, **ask)
    ring(rooms, stage, done)
    if then is not None and done.then is not None:
        ring(rooms, then, done.then)
    return done


def ring(rooms: Rooms, stage: str, enqueued: enqueuing.Enqueued) -> None:
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
    of = "run" if bell is train else "job"
    # What Flower shows of a bell.
    shown = {"task_id": f"{of}-{subject}-{uuid.uuid4().hex[:8]}", "argsrepr": f"({of} {subject})"}
    try:
        bell.apply_async(args=[subject], expires=BELL_EXPIRES_S, retry=False, **shown)
    except Exception as error:  # noqa: BLE001 - whatever it is, what was enqueued stays
        # kombu wraps what may pass; a RabbitMQ that refuses us raises errors of its own.
        log.warning("no bell: the broker does not answer; workers will sweep", why=str(error))
        return False
    return True


def _ring_gpu(unit: Unit) -> bool:
    """Ring for a unit unless somebody did just now; return whether a broker took the bell.

    A worker that has a bell in hand rings for nothing: it may be at that for days, and expired
    bells would pile up in the broker meanwhile. Workers that are free ring for themselves.
    """
    if state.active_requests or state.reserved_requests:
        return True
    with _rooms().catalogue.begin() as tx:
        due = runs.ring_due if unit.kind == "train" else jobs.ring_due
        if not due(tx, unit.id, BELL_EXPIRES_S):
            return True
    return _ring(train if unit.kind == "train" else score, unit.id)


@setup_logging.connect  # type: ignore[untyped-decorator]
def _our_logs(**_: Any) -> None:
    """Log as all workers do, in the worker and in each child of it."""
    _rooms().log_as_worker()


def serve(queue: str, threads: int) -> None:
    """Run a Celery worker of one queue until it is told to stop, with a sweep beside it.

    The io queue's tasks run in `threads` threads. The gpu queue's run one at a time in a child of
    its own that is spawned for each, so that only the child loads torch and takes memory with it.
    The sweep runs whether the broker answers or not; when it does not, the gpu queue's starts the
    child itself.
    """
    rooms = _rooms()
    rooms.log_as_worker()
    if queue == "gpu":
        threads = 1
        options = ["-P", "prefork", "-c", "1", "--max-tasks-per-child", "1"]
        app.conf.worker_pool_start_method = "spawn"
        beside = _Beside(Presence(rooms.catalogue, rooms.worker, queue, 1), _sweep_gpu)
    else:
        options = ["-P", "threads", "-c", str(threads)]
        presence = Presence(rooms.catalogue, rooms.worker, queue, threads)
        beside = _Beside(presence, lambda: _drain().serve(1))

    @worker_init.connect(weak=False)  # type: ignore[untyped-decorator]
    def _start(**_: Any) -> None:
        beside.start()  # before the broker answers, and whether it does or not

    @worker_shutting_down.connect(weak=False)  # type: ignore[untyped-decorator]
    def _end(**_: Any) -> None:
        if not _stop.is_set():
            stopping.last_call()
            beside.stop()

    was_ready = threading.Event()

    @worker_ready.connect(weak=False)  # type: ignore[untyped-decorator]
    def _ready(**_: Any) -> None:
        was_ready.set()

    # Celery hears signals only later; until then a stop ends in our own last call.
    stopping.on_signals(beside.stop)
    name = f"popq-{queue}@{rooms.worker}"
    common = ["-Q", queue, "-n", name, "-E", "--without-mingle", "--without-gossip"]
    # What is logged, `_our_logs` says. This is for what a spawned child says before it: plain text.
    silent = ["-l", "critical"]
    try:
        app.worker_main(["--quiet", "worker", *common, *options, *silent])
    finally:
        gave_up = not _stop.is_set()
        beside.stop()
        if beside.is_alive():
            beside.join()
    if gave_up and not was_ready.is_set():
        check_broker()  # says why: a RabbitMQ that refuses the login, say, is not asked again
        raise ServiceDown("Celery ended before it was ready; its own words are in the log.")
    if gave_up:
        # At times kombu's own clean-up fails when the broker dies, and Celery gives up (1 of 3
        # kills of Redis). A worker outlives its broker, so it becomes a fresh one of its kind.
        log.error("Celery gave up: this worker starts anew")
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - ourselves, as we were started


def _sweep_gpu() -> None:
    gpu.serve(_rooms(), _stop, _ring_gpu)


class _Beside(threading.Thread):
    """What runs beside Celery in a worker: the sweep, and the worker's row in the catalogue."""

    def __init__(self, presence: Presence, sweep: Callable[[], None]) -> None:
        super().__init__(name="beside", daemon=True)
        self._presence = presence
        self._sweep = sweep

    def run(self) -> None:
        with self._presence:
            self._sweep()

    def stop(self) -> None:
        """Ask for the end: tasks settle what is finished and hand the rest back."""
        _stop.set()
        for child in active_children():
            os.kill(child.pid, signal.SIGTERM)
