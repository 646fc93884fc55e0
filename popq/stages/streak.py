"""A circuit breaker: a host that fails for photo after photo rests, and no photo is blamed for it.

A fault of one photo costs it a try. When so many photos in a row fail that it is the host that is
down, the stage's hosts are paused for all workers, longer each time (`hosts.pause`), and the faults
are kept as `host_down`, which counts next to nothing: an outage of a day costs no photo its tries.
After the pause the first photo that fails again renews it; one that the host answers ends the
streak.
"""

from __future__ import annotations

import threading
from typing import Final

from popq.errors import PopqError

#: So many different photos in a row fail for one reason only: the host.
FAULTS: Final = 8


class HostDown(PopqError):
    """The host failed for photo after photo; nobody's fault, and it may pass.

    `host` is the name of its row in `hosts`; None for those that the stage spends its calls on.
    """

    def __init__(self, message: str, host: str | None = None) -> None:
        super().__init__(message)
        self.host = host


class Streak:
    """The photos that failed in a row, in all threads of a process, since the host answered."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._photos: set[int] = set()

    def failed(self, photo: int) -> bool:
        """Note that the photo's host failed it; return whether the host must be down."""
        with self._lock:
            self._photos.add(photo)
            return len(self._photos) >= FAULTS

    def answered(self) -> None:
        """Note that the host answered, be it that the photo has left."""
        with self._lock:
            self._photos.clear()
