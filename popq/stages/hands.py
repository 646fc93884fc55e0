"""What a process holds while it works, so that its end can put all of it down.

A thread may hang in one photo for minutes (a host that drips, a name server that is silent), and
a process that was told to stop has seconds. So whoever ends it settles and hands back, from
outside, the batches of threads that do not end by themselves. If such a thread wakes up again, its
settle finds that the batch is no longer its own and changes nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from popq.errors import PopqError

log = structlog.get_logger()


class Hands:
    """The batches that the threads of this process hold; each is known by how to let it go."""

    def __init__(self) -> None:
        self._held: set[Callable[[], None]] = set()
        self._changed = threading.Condition()
        self._closed = False

    @contextmanager
    def holding(self, let_go: Callable[[], None]) -> Iterator[bool]:
        """Hold a batch for the length of the block; yields whether work on it may begin.

        `let_go` settles it and hands it back, and may be called from another thread.
        """
        with self._changed:
            may_begin = not self._closed
            self._held.add(let_go)
        try:
            yield may_begin
        finally:
            with self._changed:
                self._held.discard(let_go)
                self._changed.notify_all()

    def put_down(self, grace_s: float) -> int:
        """Wait up to `grace_s` for all to be put down, let the rest go; return how many those were.

        Nothing may be begun any more.
        """
        until = time.monotonic() + grace_s
        with self._changed:
            self._closed = True
            while self._held and (left_s := until - time.monotonic()) > 0:
                self._changed.wait(left_s)
            hanging = list(self._held)
        for let_go in hanging:
            try:
                let_go()
            except PopqError as error:
                log.warning("batch not handed back: its lease will run out", why=str(error))
        return len(hanging)
