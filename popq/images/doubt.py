"""When to doubt the image host itself rather than the photos that it refuses.

A wrong base URL, a captive portal or a proxy's page refuses every photo, or sends one picture for
all of them; taken at its word it would mark a whole list as gone, or store the same bytes under
every name. Two rules, counted by one process over all of its threads:

* `REFUSALS` photos refused in a row, with no image between them, and the host must prove itself
  on a photo that it served before. Verdicts on photos wait until then (see `stages/download`).
  Pages and damaged bytes count as refusals; before they end a photo it must do so, too.
* The same bytes for photos of `OWNERS` different people are a stand-in, whatever they show.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

#: So many photos refused in a row, and the host is doubted.
REFUSALS = 40
#: The same bytes for photos of so many owners are no photo. Re-uploads are mostly of one owner.
OWNERS = 10
#: So many of the last pictures are known by their hash: a stand-in comes again and again.
_REMEMBERED = 20_000


class Doubt:
    """What this process has seen of the image host; any number of threads may share one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._refused = 0
        self._owners: OrderedDict[str, set[str]] = OrderedDict()

    @property
    def refusals(self) -> int:
        """How many photos were refused since the last image."""
        return self._refused

    def served(self) -> None:
        """Note that the host sent an image."""
        with self._lock:
            self._refused = 0

    def refused(self) -> bool:
        """Note a refusal; return whether it is one too many, and the host must prove itself."""
        with self._lock:
            self._refused += 1
            return self._refused >= REFUSALS

    def is_stand_in(self, sha256: str, owner: str) -> bool:
        """Note who came with these bytes; return whether they come for too many people.

        `owner` is anything that names the photo's owner, or the photo where nobody knows.
        """
        with self._lock:
            owners = self._owners.setdefault(sha256, set())
            self._owners.move_to_end(sha256)
            if len(owners) < OWNERS:
                owners.add(owner)
            if len(self._owners) > _REMEMBERED:
                self._owners.popitem(last=False)
            return len(owners) >= OWNERS
