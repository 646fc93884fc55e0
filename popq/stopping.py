"""How a process of popq stops: a first signal asks, a second one ends it, and so does time."""

from __future__ import annotations

import _thread
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
#: A process that was asked to stop is gone after so long, whatever hangs.
LATEST_S: Final = 9.0
#: How often a process looks whether it was asked, or the one that started it is gone.
_LOOK_S: Final = 1.0


def on_signals(stop: Callable[[], None]) -> None:
    """Call `stop`, in a thread, at the first SIGTERM or SIGINT."""

    def handle(*_: Any) -> None:
        last_call()
        aside(stop)

    for signum in SIGNALS:
        signal.signal(signum, handle)


def wait(stop: threading.Event) -> None:
    """Wait in the main thread until `stop` is set, by a signal's handler too.

    In slices: a signal that comes between Python's last look for one and the sleep of its lock
    wakes nobody, and its handler would not run before the next.
    """
    while not stop.wait(_LOOK_S):
        pass


@contextmanager
def asked(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop`, in a thread, at the first SIGTERM or SIGINT within the block.

    The second does what it did before: what takes long to stop can still be ended at once.
    """
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}

    def give_back() -> None:
        for signum, handler in before.items():
            signal.signal(signum, handler)

    def handle(*_: Any) -> None:
        give_back()
        aside(stop)

    for signum in SIGNALS:
        signal.signal(signum, handle)
    try:
        yield
    finally:
        give_back()


def aside(stop: Callable[[], None]) -> None:
    """Call `stop` in a thread: what the main one was just at may hold a lock that it needs."""
    _thread.start_new_thread(stop, ())  # threading's own way to start one takes a lock, too


def last_call() -> None:
    """End this process at the next signal, or after `LATEST_S` if it has not ended by itself.

    What it holds then is taken by others when its leases run out.
    """
    for signum in SIGNALS:
        signal.signal(signum, lambda number, _: os._exit(128 + number))
    timer = threading.Timer(LATEST_S, os._exit, (0,))
    timer.daemon = True
    timer.start()


def with_parent(stop: Callable[[], None]) -> None:
    """Call `stop`, in a thread, once the process that started this one is gone."""
    parent, never = os.getppid(), threading.Event()

    def watch() -> None:
        while os.getppid() == parent:
            never.wait(_LOOK_S)
        stop()

    threading.Thread(target=watch, name="parent", daemon=True).start()
