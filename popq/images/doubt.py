"""When to doubt a host itself rather than the photos that it refuses.

A wrong base URL, a captive portal or a proxy's page refuses every photo, or sends one picture for
all of them; taken at its word it would mark a whole list as gone, or store the same bytes under
every name. Two rules, counted by one process over all of its threads:

* `REFUSALS` photos refused in a row, with no image between them, and the host must prove itself
  on a photo that it served before. Verdicts on photos wait until then (see `stages/verdicts`).
  Pages, damaged bytes and pictures that are too small or too large for a photo count as refusals;
  before pages and damaged bytes end a photo it must do so, too.
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
    """What this process has seen of one host; any number of threads may share one."""

    def __init__(self, most: int = REFUSALS) -> None:
        """`most` refusals in a row are too many."""
        self._lock = threading.Lock()
        self._most = most
        self._refused = 0
        self._owners: OrderedDict[str, set[str]] = OrderedDict()

    @property
    def refusals(self) -> int:
        """How many photos were refused since the last that was served."""
        return self._refused

    @property
    def too_many(self) -> bool:
        """Whether so many were refused in a row that the host must prove itself."""
        return self._refused >= self._most

    def served(self) -> None:
        """Note that the host served a photo."""
        with self._lock:
            self._refused = 0

    def refused(self) -> bool:
        """Note a refusal; return whether it is one too many, and the host must prove itself."""
        with self._lock:
            self._refused += 1
            return self.too_many

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
