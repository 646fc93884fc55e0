"""The work of the gpu queue, one unit at a time, each in a process of its own.

    python -m popq.gpu train 7 NAME-OF-THE-WORKER

A unit is a training run, or some minutes of a score job. Only its process loads torch, and takes
all memory with it when it ends. The worker that starts it answers, stops it, and lives on when it
is killed (the out-of-memory killer): the unit's lease then runs out and it is taken up again.
"""

from __future__ import annotations

import contextlib
import fcntl
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import structlog

from popq import stopping
from popq.bootstrap import QUEUES, Rooms, open_rooms, torch_stage
from popq.catalogue import batches, jobs, runs
from popq.errors import PopqError
from popq.stages.drain import SWEEP_S

log = structlog.get_logger()

#: A process scores for about so long: torch takes seconds to load, and runs wait meanwhile.
SCORE_S: Final = 600.0
#: A unit that ended badly is left alone for so long by this worker.
REST_S: Final = 30.0
_LOOK_S: Final = 0.2


class Unit(NamedTuple):
    """A run to train, or a job to score."""

    kind: Literal["train", "score"]
    id: int


def waiting(rooms: Rooms) -> list[Unit]:
    """Return what a worker of the gpu queue could begin now, oldest first, runs before scores.

    A score job without an open batch is ended: its last two were closed at once, or by a process
    that ended right then.
    """
    with rooms.catalogue.read() as tx:
        units = [Unit("train", run) for run in runs.claimable(tx)]
        due = {job: batches.next_due_s(tx, job) for job, _ in jobs.claimable(tx, QUEUES["gpu"])}
    for job, due_s in due.items():
        if due_s is None:
            with rooms.catalogue.begin() as tx:
                jobs.finish_if_over(tx, job)
        elif due_s <= 0.0:
            units.append(Unit("score", job))
    return units


def work(rooms: Rooms, unit: Unit, stop: threading.Event) -> bool:
    """Do the unit in this process, which must be a fresh one; return whether work of it is left.

    Setting `stop` ends a run at its last checkpoint and a score job at its last photos, and hands
    the rest back. Does nothing while another process of the same worker is at work.
    """
    with _alone(rooms) as alone:
        if not alone:
            return False
        if unit.kind == "score":
            drain = rooms.drain("score")
            drain.stop = stop
            return drain.work_for(SCORE_S, unit.id, lambda: None)
        fit, place = torch_stage("train").train, rooms.trainer_place()
        fit(rooms.catalogue, unit.id, place, stop=stop, on_progress=_log_phase)
        return False


@contextlib.contextmanager
def _alone(rooms: Rooms) -> Iterator[bool]:
    """Hold the worker's lock; yields False where another process has it. Death lets it go."""
    path = _lock_file(rooms)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _lock_file(rooms: Rooms) -> Path:
    return rooms.settings.data_dir / "locks" / f"{rooms.worker}.lock"


def _log_phase(phase: str, done: int, total: int) -> None:
    if done == total:
        log.info("trained", phase=phase, photos=total)


def serve(rooms: Rooms, stop: threading.Event, ring: Callable[[Unit], bool] | None = None) -> None:
    """Look for units and do each in a process, until `stop` is set; errors are logged.

    `ring` may call somebody else to a unit, and returns whether it was heard.
    """
    rest: dict[Unit, float] = {}
    while not stop.is_set():
        try:
            units = [unit for unit in waiting(rooms) if rest.get(unit, 0.0) < time.monotonic()]
            mine = next((unit for unit in units if ring is None or not ring(unit)), None)
            if mine is None:
                stop.wait(SWEEP_S)
            elif not _run(rooms, mine, stop):
                rest[mine] = time.monotonic() + REST_S
        except PopqError as error:
            log.warning("sweep failed", why=str(error))
            stop.wait(SWEEP_S)
        except Exception:
            # No memory for a process, say: a worker that lives on must go on looking.
            log.exception("sweep failed")
            stop.wait(SWEEP_S)
    _lock_file(rooms).unlink(missing_ok=True)


def _run(rooms: Rooms, unit: Unit, stop: threading.Event) -> bool:
    """Do the unit in a process; return whether that ended well."""
    command = [sys.executable, "-m", "popq.gpu", unit.kind, str(unit.id), rooms.worker]
    with subprocess.Popen(command) as process:  # noqa: S603 - ourselves
        told = False
        while process.poll() is None:
            if stop.is_set() and not told:
                process.terminate()
                told = True
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK_S)
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        log.warning("a unit's process was killed", unit=unit, by=name)
    return process.returncode == 0


def heed(stop: threading.Event) -> None:
    """Let SIGTERM, or the end of the worker that started this process, set `stop`."""
    signal.signal(signal.SIGTERM, lambda *_: stopping.aside(stop.set))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the worker hears it, and says what to do
    stopping.with_parent(stop.set)


def main(kind: Any, number: str, worker: str) -> int:
    """Do one unit in this process; return its exit status."""
    stop = threading.Event()
    heed(stop)
    with open_rooms() as rooms:
        rooms.worker = worker
        rooms.log_as_worker()
        try:
            work(rooms, Unit(kind, int(number)), stop)
        except PopqError as error:
            log.warning("unit ended", kind=kind, id=int(number), why=str(error))
            return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
