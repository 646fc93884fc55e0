"""A heartbeat: renews a lease while its worker gets on, also through one slow photo or step."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from typing import Self

import structlog

from popq.errors import LeaseLost, PopqError

log = structlog.get_logger()


class Heartbeat:
    """Calls `renew` three times in `lease_s` until the block ends.

    Without progress for `patience_s` it stops, and the lease runs out: a worker that hangs is as
    good as dead. It stops too once `renew` says that the lease is another's; `check` tells.
    """

    def __init__(self, renew: Callable[[], None], *, lease_s: float, patience_s: float) -> None:
        self._renew = renew
        self._every_s = lease_s / 3
        self._patience_s = patience_s
        self._last = time.monotonic()
        self._over = threading.Event()
        self._lost: LeaseLost | None = None
        # The lines of its thread name the same batch or run as those of the thread that begins it.
        beat = contextvars.copy_context().run
        self._thread = threading.Thread(
            target=beat, args=(self._beat,), name="heartbeat", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def progress(self) -> None:
        """Note that the work got on."""
        self._last = time.monotonic()

    def check(self) -> None:
        """Raise `LeaseLost` when the lease was found to be another's."""
        if self._lost is not None:
            raise self._lost

    def _beat(self) -> None:
        while not self._over.wait(self._every_s):
            if time.monotonic() - self._last > self._patience_s:
                log.warning("no progress: the lease is left to run out", seconds=self._patience_s)
                return
            try:
                self._renew()
            except LeaseLost as lost:
                self._lost = lost
                return
            except PopqError as error:
                log.warning("lease not renewed", why=str(error))
