"""`popq worker`: work what is enqueued, with a broker or without."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from typing import Final

import click
import structlog

from popq import api, settings, stopping
from popq.bootstrap import QUEUES, Rooms, open_rooms
from popq.catalogue import workers
from popq.cli import show
from popq.cli.voice import VOICE

log = structlog.get_logger()

#: A worker that has not said for so long that it is there is not well, in seconds.
CHECK_S: Final = 60.0


@click.command()
@click.option(
    "--queues",
    default="io",
    show_default=True,
    help="io (resolve, download), gpu (train, score), or both with a comma between them.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    help="Threads of an io worker; default: POPQ_IO_THREADS.",
)
@click.option(
    "--check",
    is_flag=True,
    help="Start none: exit with 0 if one of this machine was there in the last minute, else 1.",
)
def worker_command(queues: str, concurrency: int | None, check: bool) -> None:
    """Work what is enqueued until stopped (Ctrl-C or SIGTERM).

    A worker that is stopped records what is finished, hands the rest back at once and is gone
    within ten seconds; a second signal ends it at once. Makes the catalogue where there is none.

    With POPQ_BROKER_URL this is a Celery worker, rung by doorbells and seen in Flower. Without it
    the worker looks into the catalogue for work by itself. Any number may run side by side; each
    queue is worked by a process of its own. It logs what POPQ_LOG_LEVEL says; -q only warnings, -vv
    all there is.
    """
    names = [name.strip() for name in queues.split(",") if name.strip()]
    unknown = [name for name in names if name not in QUEUES]
    if unknown or not names:
        raise click.BadParameter(f"queues are {' and '.join(QUEUES)}, not {queues!r}.")
    if VOICE.quiet:
        settings.put("log_level=warning")
    elif VOICE.debug or VOICE.verbose > 1:
        settings.put("log_level=debug")
    if len(names) > 1 and not check:
        raise SystemExit(_one_process_each(names, concurrency))
    with open_rooms() as rooms:
        if check:
            raise SystemExit(_check(rooms))
        if concurrency is not None:
            rooms.settings.io_threads = concurrency
        api.make_ready(rooms)
        if rooms.settings.broker() is not None:
            from popq import tasks  # noqa: PLC0415 - Celery, only in a worker

            tasks.serve(names[0], rooms.settings.io_threads)
        else:
            _poll(rooms, names[0])


def _check(rooms: Rooms) -> int:
    with rooms.catalogue.read() as tx:
        there = workers.is_there(tx, f"{rooms.machine}:", CHECK_S)
    show.note(f"{'A' if there else 'No'} worker of {rooms.machine} was there in the last minute.")
    return 0 if there else 1


def _poll(rooms: Rooms, queue: str) -> None:
    rooms.log_as_worker()
    stop = threading.Event()
    stopping.on_signals(stop.set)
    log.info("no broker: looks for work itself", queue=queue, catalogue=str(rooms.catalogue))
    api.serve(rooms, queue, stop)


def _one_process_each(queues: list[str], concurrency: int | None) -> int:
    """Run one worker process for each queue; when one ends, end all; pass each signal on once."""
    size = [] if concurrency is None else ["--concurrency", str(concurrency)]
    silent = ["--quiet"] if VOICE.quiet else []
    command = [sys.executable, "-m", "popq", *silent, "worker", *size, "--queues"]
    # In groups of their own: Ctrl-C reaches a whole group, and a second signal would end them hard.
    children = [
        subprocess.Popen([*command, queue], process_group=0)  # noqa: S603 - ourselves
        for queue in queues
    ]
    asked = threading.Event()

    def tell() -> None:
        asked.set()
        for child in children:
            child.terminate()  # does nothing to one that has ended

    for signum in stopping.SIGNALS:
        signal.signal(signum, lambda *_: stopping.aside(tell))
    while all(child.poll() is None for child in children):
        time.sleep(0.2)
    if not asked.is_set():
        tell()
    return max(_status(child.wait(), asked=asked.is_set()) for child in children)


def _status(ended: int, *, asked: bool) -> int:
    """Return a child's exit status; one that was stopped before it could listen ended well."""
    return 0 if asked and ended == -signal.SIGTERM else abs(ended)
