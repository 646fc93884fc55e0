"""One GET over kept connections: libcurl, by pycurl, held to addresses that were checked.

libcurl since this is the hot path of a download: it takes less CPU time than urllib3, and most of
that without Python's lock. It is told to do nothing by itself: no redirects, no second try on a new
connection, no proxy and no address of its own finding. Proxies and certificates are taken from the
environment as requests does, so that popq's clients agree.
"""

from __future__ import annotations

import io
import math
import os
import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

import pycurl
import requests
from requests.utils import DEFAULT_CA_BUNDLE_PATH, select_proxy

from popq.errors import Transient
from popq.images.reach import PORTS, Reach

#: For so long a name leads where it led when it was last resolved and checked.
_RESOLVED_FOR_S = 60.0
#: What may stand in an address as it is; everything else is quoted.
_PLAIN = re.compile(r"[!-~]*")
_SAFE = "%/:=&?~+!$,;'@()*[]"
#: Bytes that libcurl reads at once at most; its own 16 KiB make more steps.
_BUFFER = 128 * 1024
#: Bytes of a body that are taken into memory without asking whether there is room.
LARGE = 2 * 1024 * 1024
#: Digits of a length that libcurl takes for one; Python reads no number of thousands of them.
_LENGTH_DIGITS = 18
#: Answers of lower statuses announce another.
_FINAL = 200
_TOO_SLOW = "too slow: its time is up before the answer is whole"


@dataclass(slots=True)
class Head:
    """The head of an HTTP answer: its status (0: none that can be read), and its headers."""

    status: int = 0
    headers: dict[str, list[str]] = field(default_factory=dict)

    def get(self, name: str) -> str | None:
        """Return the first header of that name, which is given in lower case."""
        return self.headers.get(name, [None])[0]

    @property
    def length(self) -> int | None:
        """Return the length of the body in bytes, if it is announced and can be one."""
        length = self.get("content-length") or ""
        return int(length) if length.isdecimal() and len(length) <= _LENGTH_DIGITS else None


class _Reading:
    """What arrives of one answer, as libcurl hands it over; what returns -1 ends it."""

    def __init__(
        self, wanted: Callable[[Head], int], room: Callable[[Head], None], patience_s: float
    ) -> None:
        self.head = Head()
        # Gives its bytes without a copy, where parts that are joined take twice their size.
        self._body = io.BytesIO()
        #: Whether we ended it, since no more is wanted.
        self.cut = False
        #: Whether we ended it, since nothing came for too long.
        self.silent = False
        self._wanted = wanted
        self._room = room
        self._has_room = False
        self._left: int | None = None
        self._asked = False
        self._patience_s = patience_s
        self._arrived = 0
        self._since = math.inf

    def take(self) -> bytes:
        """Return what has arrived and keep nothing of it."""
        body, self._body = self._body, io.BytesIO()
        return body.getvalue()

    def on_request(self, *_: object) -> int:
        """Let one request go out: when a kept connection dies libcurl would send it again."""
        first, self._asked = not self._asked, True
        self._since = time.monotonic()
        return int(pycurl.PREREQFUNC_OK if first else pycurl.PREREQFUNC_ABORT)

    def on_progress(self, _: int, arrived: int, *__: int) -> int | None:
        if arrived != self._arrived:
            self._arrived, self._since = arrived, time.monotonic()
        self.silent = time.monotonic() - self._since > self._patience_s
        return -1 if self.silent else None

    def on_header(self, line: bytes) -> int | None:
        if not self._asked:
            return None  # what a proxy says of a tunnel: its 403 is no word of the host's
        text = line.decode("latin-1").strip()
        if text.startswith("HTTP/"):  # perhaps not the first: some announce another
            status = text.partition(" ")[2][:3]
            self.head, self._left = Head(int(status) if status.isdecimal() else 0), None
        elif text:
            name, _, value = text.partition(":")
            self.head.headers.setdefault(name.strip().lower(), []).append(value.strip())
        elif self.head.status >= _FINAL and self._left is None:
            self._left = self._wanted(self.head)
            self.cut = self._left < (self.head.length or 0) or not self._left
        return -1 if self.cut else None

    def on_body(self, part: bytes) -> int | None:
        if not self._has_room and self._body.tell() > LARGE:
            self._room(self.head)
            self._has_room, self._since = True, time.monotonic()  # we waited, not the host
        self._body.write(part)
        self._left = (self._left or 0) - len(part)
        self.cut = self._left < 0
        return -1 if self.cut else None


class Wire:
    """Connections that are kept; any number of threads may share one.

    Sends `headers` (lines). Time-outs are in seconds: to connect, and between two reads, which
    libcurl looks at once a second.
    """

    def __init__(
        self,
        reach: Reach,
        headers: Collection[str],
        *,
        connect_timeout_s: float,
        read_timeout_s: float,
    ) -> None:
        self._reach = reach
        self._headers = list(headers)
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        # Each with the connections that it made. As many as threads that were here at once; to
        # append and to pop is atomic.
        self._idle: list[pycurl.Curl] = []
        self._proxies: dict[str, str] = {}
        self._resolved: dict[tuple[str, int], tuple[float, list[str]]] = {}

    def close(self) -> None:
        """Close the connections that are kept; a later request opens new ones."""
        while self._idle:
            self._idle.pop().close()

    def get(
        self,
        url: str,
        timeout_s: float,
        wanted: Callable[[Head], int],
        room: Callable[[Head], None] = lambda _: None,
    ) -> tuple[Head, bytes]:
        """Ask for `url`, which the reach allows, once; return the answer's head and its body.

        `wanted` says from the head how many bytes of the body are wanted at most; when there are
        more, the answer ends there, and its connection with it. `room` is called once, and may
        wait, before more than `LARGE` bytes of a body are taken into memory. Raises `Transient`
        when no answer comes, or not whole within `timeout_s`, and `Misconfigured` for a host with
        an address in one's own network.
        """
        if timeout_s <= 0:
            raise Transient(_TOO_SLOW)
        reading = _Reading(wanted, room, self._read_timeout_s)
        try:
            curl = self._idle.pop()
        except IndexError:
            curl = self._new()
        start = time.monotonic()
        try:
            self._aim(curl, url)
            curl.setopt(pycurl.TIMEOUT_MS, math.ceil(timeout_s * 1000))
            curl.setopt(pycurl.PREREQFUNCTION, reading.on_request)
            curl.setopt(pycurl.XFERINFOFUNCTION, reading.on_progress)
            curl.setopt(pycurl.HEADERFUNCTION, reading.on_header)
            curl.setopt(pycurl.WRITEFUNCTION, reading.on_body)
            curl.perform()
            return reading.head, reading.take()
        except pycurl.error as error:
            if reading.cut:
                return reading.head, reading.take()
            self._resolved.clear()  # the next address may answer
            if reading.silent:
                message = f"timed out: nothing came for {self._read_timeout_s:g} s"
            elif time.monotonic() - start >= timeout_s:
                message = _TOO_SLOW
            else:
                message = _what_failed(curl, error)
            raise Transient(message) from error
        finally:
            reading.take()  # the handle keeps `reading` until it is used again
            self._idle.append(curl)

    def _aim(self, curl: pycurl.Curl, url: str) -> None:
        """Direct the handle to the URL, at an address that was checked or through a proxy."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = parts.port or PORTS[parts.scheme]
        # Put together from what was checked: no two parsers may read two hosts out of it.
        base = (
            f"{parts.scheme}://[{host}]:{port}"
            if ":" in host
            else f"{parts.scheme}://{host}:{port}"
        )
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        if not _PLAIN.fullmatch(target):
            target = quote(target, safe=_SAFE)
        curl.setopt(pycurl.URL, f"{base}{target}".encode())
        proxy = self._proxy(base)
        curl.setopt(pycurl.PROXY, proxy)
        if not proxy and ":" not in host:
            addresses = ",".join(self._addresses(host, port))
            curl.setopt(pycurl.RESOLVE, [f"{host}:{port}:{addresses}".encode()])

    def _addresses(self, host: str, port: int) -> list[str]:
        """Return the host's addresses, checked, as libcurl writes them."""
        at, found = self._resolved.get((host, port), (-math.inf, []))
        if time.monotonic() - at > _RESOLVED_FOR_S:
            try:
                known = self._reach.addresses(host, port)
            except OSError as error:
                raise Transient(f"{host} cannot be resolved: {error}") from error
            found = [f"[{address}]" if ":" in address else address for address in known]
            self._resolved[host, port] = time.monotonic(), found
        return found

    def _proxy(self, base: str) -> str:
        """Return the environment's proxy for the URL, "" for none."""
        found = self._proxies.get(base)
        if found is None:
            with requests.Session() as session:
                environment = session.merge_environment_settings(base, {}, None, None, None)
            found = select_proxy(base, environment["proxies"]) or ""
            found = f"http://{found}" if found and "://" not in found else found
            self._proxies[base] = found
        return found

    def _new(self) -> pycurl.Curl:
        with requests.Session() as session:
            verify = session.merge_environment_settings("", {}, None, None, None)["verify"]
        trusted = verify if isinstance(verify, str) else DEFAULT_CA_BUNDLE_PATH
        curl = pycurl.Curl()
        curl.setopt(pycurl.CAPATH if Path(trusted).is_dir() else pycurl.CAINFO, trusted)
        curl.setopt(pycurl.NOSIGNAL, 1)  # it would use signals for its time-outs
        curl.setopt(pycurl.NOPROXY, "")  # `_proxy` has looked at no_proxy
        curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        curl.setopt(pycurl.HTTPHEADER, self._headers)
        curl.setopt(pycurl.BUFFERSIZE, _BUFFER)
        curl.setopt(pycurl.CONNECTTIMEOUT_MS, max(1, int(self._connect_timeout_s * 1000)))
        curl.setopt(pycurl.NOPROGRESS, 0)  # it tells of it, once a second at least
        return curl


def _what_failed(curl: pycurl.Curl, error: pycurl.error) -> str:
    code, said = error.args
    if code == pycurl.E_ABORTED_BY_CALLBACK:
        return "the connection was closed before an answer came"
    number = curl.getinfo(pycurl.OS_ERRNO)
    return f"{said}: {os.strerror(number)}" if number else str(said)
