"""A bound on the memory that all threads of a process spend on one thing together."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_M_MMAP_THRESHOLD = -3
_LARGE = 4 * 1024 * 1024


def give_back_large_blocks() -> None:
    """Let the C library give large blocks back to the system as soon as they are freed.

    By itself it moves the bound up to the largest block that it has seen freed, and keeps what lies
    below in a heap of each thread: 120 MB for eight threads that fetch files of 19 MB. For workers
    that download; a network's arithmetic wants its blocks kept.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another library than glibc
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE)


class Budget:
    """Bytes that all threads together may spend; who wants more than all of them waits for all."""

    def __init__(self, size: int) -> None:
        self._size = self._left = size
        self._freed = threading.Condition()

    @contextmanager
    def open(self) -> Iterator[Callable[[int], None]]:
        """Yield what spends bytes, once, waiting for them; they come back at the end."""
        spent: list[int] = []

        def spend(wanted: int) -> None:
            share = min(wanted, self._size)
            with self._freed:
                self._freed.wait_for(lambda: self._left >= share)
                self._left -= share
            spent.append(share)

        try:
            yield spend
        finally:
            with self._freed:
                self._left += sum(spent)
                self._freed.notify_all()
