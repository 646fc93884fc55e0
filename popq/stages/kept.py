"""What one process keeps of its last photos, so that it need not ask for it again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

#: Beyond so many the oldest are forgotten, and asked for again: a few MB at most.
_MOST: Final = 20_000


class Kept(Generic[K, V]):
    """Notes by key, each to be taken once; any number of threads may share them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._notes: OrderedDict[K, V] = OrderedDict()

    def keep(self, key: K, note: V) -> None:
        """Keep the note until it is taken, or too many others have come since."""
        with self._lock:
            self._notes[key] = note
            self._notes.move_to_end(key)
            if len(self._notes) > _MOST:
                self._notes.popitem(last=False)

    def take(self, key: K) -> V | None:
        """Return the key's note and forget it; None without one."""
        with self._lock:
            return self._notes.pop(key, None)
