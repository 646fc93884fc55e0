"""Torch's own threads: how many a thread of ours has to compute with.

Torch counts them per thread, and gives one that is new the number that was last set by any other.
So whoever sets it for its helpers puts it back when they are gone, the last of several alone.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_lock = threading.Lock()
_sharing = 0
_before = 0


def cores() -> int:
    """Return how many threads torch has for one computation, whatever helpers have now."""
    with _lock:
        return _before if _sharing else torch.get_num_threads()


def take(number: int) -> None:
    """Give the calling thread, a helper's, so many of torch's threads."""
    torch.get_num_threads()  # now it has read what others set, and will not again
    torch.set_num_threads(number)


@contextmanager
def lent() -> Iterator[None]:
    """Let helpers `take` inside the block; they must be gone at its end."""
    global _sharing, _before  # noqa: PLW0603 - torch's number is the process's, too
    with _lock:
        _before = _before if _sharing else torch.get_num_threads()
        _sharing += 1
    try:
        yield
    finally:
        with _lock:
            _sharing -= 1
            if not _sharing:
                torch.set_num_threads(_before)
