"""`popq worker`: work what is enqueued, with a broker or without."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading

import click

from popq import api, logs
from popq.bootstrap import QUEUES, Rooms, open_rooms
from popq.cli import show


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
def worker_command(queues: str, concurrency: int | None) -> None:
    """Work what is enqueued until stopped (Ctrl-C or SIGTERM).

    With POPQ_BROKER_URL this is a Celery worker, rung by doorbells and seen in Flower. Without it
    the worker looks into the catalogue for work by itself. Any number may run side by side; each
    queue is worked by a process of its own.
    """
    names = [name.strip() for name in queues.split(",") if name.strip()]
    unknown = [name for name in names if name not in QUEUES]
    if unknown or not names:
        raise click.BadParameter(f"queues are {' and '.join(QUEUES)}, not {queues!r}.")
    if len(names) > 1:
        raise SystemExit(_one_process_each(names, concurrency))
    with open_rooms() as rooms:
        if concurrency is not None:
            rooms.settings.io_threads = concurrency
        if rooms.settings.broker() is not None:
            from popq import tasks  # noqa: PLC0415 - Celery, only in a worker

            tasks.serve(names[0], rooms.settings.io_threads)
        else:
            _poll(rooms, names[0])


def _poll(rooms: Rooms, queue: str) -> None:
    logs.for_workers(rooms.settings.log_level)
    with rooms.catalogue.read():
        pass  # no catalogue is an error now, not a line in the log every two seconds
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    show.note(f"Worker of the {queue} queue on {rooms.catalogue}; no broker, so it looks itself.")
    api.serve(rooms, queue, stop)


def _one_process_each(queues: list[str], concurrency: int | None) -> int:
    """Run one worker process for each queue; when one ends, end all."""
    size = [] if concurrency is None else ["--concurrency", str(concurrency)]
    command = [sys.executable, "-m", "popq", "worker", *size, "--queues"]
    children = [subprocess.Popen([*command, queue]) for queue in queues]  # noqa: S603 - ourselves
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    while not stop.wait(0.2) and all(child.poll() is None for child in children):
        pass
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
    return max(abs(child.wait()) for child in children)
