"""Permits: the calls that a worker may make of throttled hosts, and why it may make none."""

from __future__ import annotations

import time
from collections.abc import Sequence

from popq.catalogue import hosts
from popq.catalogue.db import Catalogue
from popq.errors import Misconfigured, PopqError


class OutOfPermits(PopqError):
    """No host of the stage has a call to give for `wait_s` seconds; nobody's fault."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"no calls to be had for {wait_s:.1f} s")
        self.wait_s = wait_s


class KeyRefused(Misconfigured):
    """The API refuses the key whose row in `hosts` is `host`."""

    def __init__(self, message: str, host: str) -> None:
        super().__init__(message)
        self.host = host


class Permits:
    """Calls that this worker may make, taken from the catalogue in small grants that expire."""

    def __init__(self, catalogue: Catalogue, names: Sequence[str], size: int) -> None:
        self._catalogue = catalogue
        self._names = names
        self._size = size
        self._host = ""
        self._left = 0
        self._expires = 0.0

    def take(self) -> str:
        """Spend one call and return the host to spend it on; raise `OutOfPermits` without one."""
        if self._left < 1 or time.monotonic() > self._expires:
            self._refill()
        self._left -= 1
        return self._host

    def owe(self, host: str) -> None:
        """Spend one call on `host` that must follow one that was granted, in debt if need be."""
        with self._catalogue.begin() as tx:
            if not hosts.owe(tx, host):
                raise OutOfPermits(hosts.grant(tx, host, 0).wait_s)

    def _refill(self) -> None:
        waits = []
        for name in self._names:
            with self._catalogue.begin() as tx:
                granted = hosts.grant(tx, name, self._size)
            if granted.permits:
                self._host, self._left = name, granted.permits
                self._expires = time.monotonic() + hosts.GRANT_VALID_S
                return
            waits.append(granted.wait_s)
        raise OutOfPermits(min(waits))
