"""A lookout: of the threads of one process that have nothing to do, one looks out for all.

If each looked for itself, an idle worker would ask the catalogue the same question as many times
as it has threads. The others sleep until they are called: because somebody committed, because one
of them claimed a batch (there may be more), or because the work is over. When the lookout goes to
sweep, another takes its place, so that there is one as long as anybody sleeps.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


class Lookout:
    """The place of the one who looks out; any number of threads may share it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls = 0
        self._taken = False

    @property
    def calls(self) -> int:
        """How often all were called. Read before looking for work, and given to `wait` after."""
        return self._calls

    def call(self) -> None:
        """Wake all who sleep, and those who are about to."""
        with self._changed:
            self._calls += 1
            self._changed.notify_all()

    def wait(self, calls: int, look: Callable[[], bool], at_most_s: float | None) -> None:
        """Return when all were called since `calls`, after `at_most_s`, or when `look` returns.

        One thread at a time is in `look`, which waits for news, or for the time to sweep, and
        returns whether there is news for all; the others sleep.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._calls != calls or not self._taken, at_most_s)
            if self._taken or self._calls != calls:
                return
            self._taken = True
        try:
            if look():
                self.call()
        finally:
            with self._changed:
                self._taken = False
                self._changed.notify()
