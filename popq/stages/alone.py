"""A photo that may have killed its worker is worked alone, so that nothing dies beside it.

A worker process holds a batch in each of its threads. When one photo kills it, the leases of all
run out together, are claimed together, and die together again: without this rule an innocent
photo that is alone in its batch would be given up with the one that is guilty.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from popq.catalogue.batches import Lease


class Alone:
    """What the threads of one process hold: any number of batches, or one suspect."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held = 0
        self._suspect = False

    @contextmanager
    def holding(
        self, claim: Callable[[], Lease | None], put_off: Callable[[Lease], None]
    ) -> Iterator[tuple[Lease | None, bool]]:
        """Claim a batch and hold it for the length of the block.

        Yields the lease and whether there was a batch to claim. There is no lease for a suspect
        that was claimed beside others: `put_off` gave it back, for a time when its worker has
        nothing else. Beside a suspect nothing is claimed.
        """
        with self._lock:
            lease = None if self._suspect else claim()
            found = lease is not None
            if lease is not None and lease.suspect and self._held:
                put_off(lease)
                lease = None
            if lease is not None:
                self._held += 1
                self._suspect = lease.suspect
        try:
            yield lease, found
        finally:
            if lease is not None:
                with self._lock:
                    self._held -= 1
                    self._suspect = self._suspect and not lease.suspect
