"""Permits: the calls that a worker may make of throttled hosts, and why it may make none."""

from __future__ import annotations

import time
from collections.abc import Sequence

from popq.catalogue import hosts
from popq.catalogue.db import Catalogue
from popq.catalogue.hosts import Grant
from popq.errors import Misconfigured, PopqError


class OutOfPermits(PopqError):
    """No host of the stage has a call to give for `wait_s` seconds; nobody's fault."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"no calls to be had for {wait_s:.1f} s")
        self.wait_s = wait_s


class PutOff(OutOfPermits):
    """A photo, or what is left of a batch, waits for a host that has no call to give for now.

    Unlike with `OutOfPermits` itself, other photos of the batch are not held up.
    """


class KeyRefused(Misconfigured):
    """The API refuses the key whose row in `hosts` is `host`."""

    def __init__(self, message: str, host: str) -> None:
        super().__init__(message)
        self.host = host


def grant_of_any(catalogue: Catalogue, names: Sequence[str], want: int) -> Grant:
    """Take up to `want` calls from the first of these hosts that has any.

    Raises `OutOfPermits` when none has.
    """
    if len(names) > 1:
        with catalogue.read() as tx:
            names = hosts.least_asked(tx, names)
    waits = []
    for name in names:
        with catalogue.begin() as tx:
            granted = hosts.grant(tx, name, want)
        if granted.permits:
            return granted
        waits.append(granted.wait_s)
    # A key that is disabled has no wait: what counts is when another has calls again.
    raise OutOfPermits(min(filter(None, waits), default=0.0))


class Permits:
    """Calls that this worker may make, taken from the catalogue in small grants that expire.

    `asked` is the host that a call was last spent on; whoever hears what came of it clears it.
    `heard` is set when a host gave an answer of which nobody is told yet, and cleared likewise.
    """

    def __init__(self, catalogue: Catalogue, names: Sequence[str], size: int) -> None:
        self._catalogue = catalogue
        self._names = names
        self._size = size
        self.asked = ""
        self.heard = False
        self._host = ""
        self._borrowed = ""
        self._left = 0
        self._expires = 0.0

    def take(self) -> str:
        """Spend one call and return the host to spend it on; raise `OutOfPermits` without one."""
        if self._borrowed:
            self.asked, self._borrowed = self._borrowed, ""
            return self.asked
        if self._left < 1 or time.monotonic() > self._expires:
            self._refill()
        self._left -= 1
        self.asked = self._host
        return self._host

    def owe(self, host: str) -> None:
        """Spend one call on `host` that must follow one that was granted, in debt if need be."""
        with self._catalogue.begin() as tx:
            if not hosts.owe(tx, host):
                raise OutOfPermits(hosts.grant(tx, host, 0).wait_s)

    def borrow(self, host: str) -> None:
        """Owe one call on `host`, and spend it on the next `take`."""
        self.owe(host)
        self._borrowed = host

    def _refill(self) -> None:
        granted = grant_of_any(self._catalogue, self._names, self._size)
        self._host, self._left = granted.host, granted.permits
        self._expires = time.monotonic() + hosts.GRANT_VALID_S
