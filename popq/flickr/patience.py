"""An end to answers that never end.

requests has a time-out for each read alone, so that a server that drips its headers would hold a
thread for ever; so would one that drips the line before a chunk, or the lines after the last, which
are read inside of one step of the body. Here a clock runs until `answers` has read all of it.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from typing import Any, ClassVar

import requests

_MAX_CONNECTIONS = 32  # kept open for as many threads

# Of a head that is cut short it would log all that came, under a stack trace.
logging.getLogger("urllib3.connection").setLevel(logging.ERROR)


class PatientAdapter(requests.adapters.HTTPAdapter):
    """requests' way out, with `total_s` seconds for an answer; its raw answers have a `clock`."""

    def __init__(self, total_s: float) -> None:
        self._total_s = total_s
        super().__init__(pool_maxsize=_MAX_CONNECTIONS)

    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:
        """Return requests' pool, which from now on makes connections with a clock."""
        pool: Any = super().get_connection_with_tls_context(*args, **options)
        kind = pool.ConnectionCls  # not one of two: a SOCKS proxy's are of another kind
        if not issubclass(kind, _Timed):
            pool.ConnectionCls = type("Timed", (_Timed, kind), {"total_s": self._total_s})
        return pool


class _Timed:
    """A connection that is hung up on when an answer takes too long.

    What reads it then meets its end: no answer, or one that is cut short.
    """

    total_s: ClassVar[float]
    sock: Any

    def getresponse(self) -> Any:
        clock = threading.Timer(self.total_s, _hang_up, (self.sock,))
        clock.daemon = True
        clock.start()
        try:
            answer = super().getresponse()  # type: ignore[misc]  # of the connection beside it
        except BaseException:
            clock.cancel()
            raise
        answer.clock = clock  # stopped by who has read it, before others use the connection long
        return answer


def _hang_up(connection: Any) -> None:
    # Past TLS's own shutdown, which would pull the session from under the thread that reads.
    with contextlib.suppress(OSError, TypeError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
