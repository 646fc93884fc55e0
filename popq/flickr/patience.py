"""An end to answers whose head never ends.

requests has a time-out for each read alone, so that a server that drips its headers would hold a
thread for ever. `answers` bounds the body; here a clock runs until the head is whole.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from typing import Any, ClassVar

import requests
from urllib3.connection import HTTPConnection, HTTPSConnection

_MAX_CONNECTIONS = 32  # kept open for as many threads

# Of a head that is cut short it would log all that came, under a stack trace.
logging.getLogger("urllib3.connection").setLevel(logging.ERROR)


class PatientAdapter(requests.adapters.HTTPAdapter):
    """requests' way out, with `total_s` seconds for the head of an answer."""

    def __init__(self, total_s: float) -> None:
        kinds = {"http": HTTPConnection, "https": HTTPSConnection}
        self._kinds: dict[str, Any] = {
            scheme: type("Timed", (_Timed, kind), {"total_s": total_s})
            for scheme, kind in kinds.items()
        }
        super().__init__(pool_maxsize=_MAX_CONNECTIONS)

    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:
        """Return requests' pool, which from now on makes connections with a clock."""
        pool: Any = super().get_connection_with_tls_context(*args, **options)
        pool.ConnectionCls = self._kinds[pool.scheme]
        return pool


class _Timed:
    """A connection that is hung up on when the head of an answer takes too long.

    What reads it then meets its end: no answer, or a head that is cut short.
    """

    total_s: ClassVar[float]
    sock: Any

    def getresponse(self) -> Any:
        clock = threading.Timer(self.total_s, _hang_up, (self.sock,))
        clock.daemon = True
        clock.start()
        try:
            return super().getresponse()  # type: ignore[misc]  # of the connection beside it
        finally:
            clock.cancel()


def _hang_up(connection: Any) -> None:
    # Past TLS's own shutdown, which would pull the session from under the thread that reads.
    with contextlib.suppress(OSError, TypeError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
