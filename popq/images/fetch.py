"""Getting one image file, over HTTP or from a folder, and saying what came of it for the photo.

One request is one try: nothing is repeated here, the queue does that. What the host answers
becomes one of the errors of `popq.errors`:

| answer                                                         | raised                     |
|----------------------------------------------------------------|----------------------------|
| 404, 410                                                       | `Permanent` GONE           |
| 403, or an X-Robots-Tag that forbids this use (noai, noindex)  | `Permanent` PRIVATE        |
| a redirect off the allow-list, a fourth redirect, no image     | `Permanent` PLACEHOLDER    |
| more than `max_bytes`                                          | `Permanent` TOO_LARGE      |
| 429                                                            | `Throttled`                |
| time-outs, resets, a short body, every other status            | `Transient`                |
| a host that is neither Flickr's nor the operator's: not asked  | `Transient` NOT_FLICKR     |
| a host with an address in one's own network: not asked         | `Misconfigured`            |
| a file of a folder (`file://…`) that is not there              | `Transient` FILE_MISSING   |

urllib3 itself, not requests on top of it: a quarter of the CPU time a photo (0.36 ms, not 1.43,
over TLS), and its connections can be held to addresses that were checked (see `reach`). Proxies
and certificates are taken from the environment as requests does, so that both clients agree.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import os
import socket
import threading
import time
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self, cast
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

import requests
import urllib3
from requests.utils import DEFAULT_CA_BUNDLE_PATH, select_proxy
from urllib3.exceptions import HTTPError
from urllib3.util import create_urllib3_context

from popq import __version__
from popq.errors import Outcome, Permanent, ServiceDown, Throttled, Transient, retry_after_s
from popq.images.reach import Lookup, Reach

#: The name of the image host's row in the catalogue's `hosts`.
HOST = "images"
USER_AGENT = f"popq/{__version__} (batch job system for research on photo popularity)"

#: How the addresses of files in a folder begin.
FILE_URL = "file://"

_REDIRECTS = 3
_REDIRECTING = (301, 302, 303, 307, 308)
#: Connections that are kept open to one host; a worker has seldom more threads.
_KEPT = 64
#: A short answer that is no photo is read to its end, so that its connection can be kept.
_SHORT = 16 * 1024
#: What Flickr's stand-in picture is called, on whatever host it lies.
_STAND_IN = "photo_unavailable"
_OUTCOME_OF_STATUS = {
    403: Outcome.PRIVATE,
    404: Outcome.GONE,
    410: Outcome.GONE,
}
_OK, _TOO_MANY = 200, 429
#: Of X-Robots-Tag: what forbids to learn from an image, or to keep it where it can be found.
_FORBIDDING = frozenset({"noai", "noimageai", "noindex", "noimageindex", "none"})
#: Directives that have a value after a colon, where another's colon follows a robot's name.
_WITH_VALUE = frozenset(
    {"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"}
)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that came whole, its sha256 in hex, and its Content-Type ("" when not sent)."""

    data: bytes
    sha256: str
    content_type: str


class _Deadlined(io.RawIOBase):
    """A socket's bytes until a deadline, which is looked at before each of them is waited for.

    A host that drips a byte every few seconds never runs into a time-out between two reads: not
    in the body, and not in the headers either.
    """

    def __init__(self, source: io.RawIOBase, deadline: float) -> None:
        self._source = source
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if time.monotonic() > self._deadline:
            raise Transient("too slow: its time is up before the answer is whole")
        return cast("int | None", self._source.readinto(buffer))

    def close(self) -> None:
        self._source.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    """An answer that must be whole before a deadline (of `time.monotonic`)."""

    def __init__(self, sock: socket.socket, *args: Any, deadline: float, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp = io.BufferedReader(_Deadlined(self.fp.detach(), deadline), 64 * 1024)


class ImageClient:
    """Fetches image files; any number of threads may share one client.

    `base_url` is the image host's, which may lie in one's own network; time-outs are in seconds:
    to connect, between two reads, and for one whole fetch. `lookup` resolves names.
    """

    def __init__(
        self,
        *,
        base_url: str,
        max_bytes: int,
        connect_timeout_s: float,
        read_timeout_s: float,
        total_timeout_s: float = 120,
        lookup: Lookup = socket.getaddrinfo,
    ) -> None:
        self._lookup = lookup
        self._base_url = base_url
        self._max_bytes = max_bytes
        self._timeouts = urllib3.Timeout(connect=connect_timeout_s, read=read_timeout_s)
        self._total_timeout_s = total_timeout_s
        self._reach = Reach([base_url], lookup)
        self._managers: dict[str, urllib3.PoolManager] = {}
        self._lock = threading.Lock()
        self._local = threading.local()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are kept; a later fetch opens new ones."""
        with self._lock:
            for manager in self._managers.values():
                manager.clear()

    def check(self) -> int:
        """Ask the host for its front page, once, and return the HTTP status that it answers with.

        Raises `Misconfigured` for a host that is not to be asked and `ServiceDown` for one that
        does not answer.
        """
        self._local.deadline = time.monotonic() + self._total_timeout_s
        try:
            answer = self._ask(self._base_url)
        except (HTTPError, Transient) as error:
            message = f"The image host {self._base_url} does not answer ({error})"
            hint = "look at the network and at POPQ_FLICKR_IMAGE_URL"
            raise ServiceDown(f"{message}; {hint}.") from error
        answer.close()
        return int(answer.status)

    def fetch(self, url: str) -> Fetched:
        """Return the file at `url`, all of it in memory; raises as the table above says."""
        if url.startswith(FILE_URL):
            return self._read_file(Path(os.fsdecode(unquote_to_bytes(url.removeprefix(FILE_URL)))))
        if not self._reach.allows(url):
            message = f"{url} lies on no image host of Flickr's, so it is not asked"
            raise Transient(message, outcome=Outcome.NOT_FLICKR)
        self._local.deadline = time.monotonic() + self._total_timeout_s
        try:
            return self._follow(url)
        except HTTPError as error:
            raise Transient(f"{url}: {error}") from error
        except Transient as error:
            # Those that are raised below urllib3 do not know the address.
            if str(error).startswith(url):
                raise
            outcome, status = error.outcome, error.http_status
            raise Transient(f"{url}: {error}", outcome=outcome, http_status=status) from error

    def _read_file(self, source: Path) -> Fetched:
        """Read a file of a folder; a folder that is not mounted is no fact about the photo."""
        try:
            with source.open("rb") as file:
                data = file.read(self._max_bytes + 1)
        except OSError as error:
            message = f"{source}: {error.strerror}; is the images folder where it was?"
            raise Transient(message, outcome=Outcome.FILE_MISSING) from error
        if len(data) > self._max_bytes:
            raise self._too_large(str(source))
        return Fetched(data, hashlib.sha256(data).hexdigest(), "")

    def _follow(self, url: str) -> Fetched:
        """Follow the redirects that are allowed and return the image at their end."""
        first = url
        for _ in range(_REDIRECTS + 1):
            response = self._ask(url)
            try:
                location = response.headers.get("Location")
                if response.status not in _REDIRECTING or location is None:
                    return self._image(first, response)
            finally:
                # Whatever is left of a body that was not wanted goes with its connection.
                response.close() if not response.closed else response.release_conn()
            url = self._redirect_target(url, location, response.status)
        raise Permanent(f"{first}: more than {_REDIRECTS} redirects", outcome=Outcome.PLACEHOLDER)

    def _ask(self, url: str) -> urllib3.BaseHTTPResponse:
        return self._manager(url).urlopen(
            "GET",
            url,
            headers={
                "User-Agent": USER_AGENT,
                # Images gain nothing from it, and a plain body's length can be checked.
                "Accept-Encoding": "identity",
            },
            timeout=self._timeouts,
            retries=False,
            redirect=False,
            assert_same_host=False,
            preload_content=False,
            decode_content=False,
        )

    def _manager(self, url: str) -> urllib3.PoolManager:
        """Return the connections for the URL: direct ones, or through the environment's proxy."""
        base = "{0.scheme}://{0.netloc}".format(urlsplit(url))
        found = self._managers.get(base)
        if found is None:
            with self._lock:
                found = self._managers.setdefault(base, self._connections(base))
        return found

    def _connections(self, base: str) -> urllib3.PoolManager:
        with requests.Session() as session:
            environment = session.merge_environment_settings(base, {}, None, None, None)
        verify = environment["verify"]
        trusted = Path(verify if isinstance(verify, str) else DEFAULT_CA_BUNDLE_PATH)
        # Once, not for each connection: to read all authorities takes longer than many photos.
        context = create_urllib3_context()
        folder = trusted.is_dir()
        context.load_verify_locations(
            cafile=None if folder else str(trusted), capath=str(trusted) if folder else None
        )
        options: dict[str, Any] = {"num_pools": 4, "maxsize": _KEPT, "ssl_context": context}
        proxy = select_proxy(base, environment["proxies"])
        if proxy is None:
            manager, reach = urllib3.PoolManager(**options), self._reach
        else:
            proxy = proxy if "://" in proxy else f"http://{proxy}"
            manager = urllib3.ProxyManager(proxy, **options)
            reach = Reach([self._base_url, proxy], self._lookup)
        manager.pool_classes_by_scheme = reach.pools(self._answers)
        return manager

    def _answers(self) -> partial[_Answer]:
        """Return what makes the answer to this thread's request."""
        return partial(_Answer, deadline=self._local.deadline)

    def _redirect_target(self, url: str, location: str, status: int) -> str:
        try:
            target = urljoin(url, location)
            path = urlsplit(target).path
        except ValueError:  # what urllib says to brackets that hold no address
            target, path = location, ""
        if not self._reach.allows(target) or _STAND_IN in path:
            raise Permanent(
                f"{url} leads to {target}, which is not the photo",
                outcome=Outcome.PLACEHOLDER,
                http_status=status,
            )
        return target

    def _image(self, url: str, response: urllib3.BaseHTTPResponse) -> Fetched:
        """Return the image of an answer that holds one."""
        length = response.headers.get("Content-Length", "")
        announced = int(length) if length.isdecimal() else None
        try:
            _check_status(url, response)
            _check_kind(url, response)
        except (Permanent, Transient, Throttled):
            if announced is not None and announced <= _SHORT:
                response.drain_conn()
            raise
        if announced is not None and announced > self._max_bytes:
            raise self._too_large(url)
        # One byte more than is allowed is enough to know.
        data = response.read(self._max_bytes + 1, decode_content=False)
        encoding = response.headers.get("Content-Encoding", "identity").lower()
        if encoding in {"gzip", "x-gzip"}:
            data = self._gunzip(url, data)
        elif encoding != "identity":
            raise Transient(f"{url}: sent as {encoding}, which nobody asked for")
        if len(data) > self._max_bytes:
            raise self._too_large(url)
        if not data:
            raise Transient(f"{url}: an empty body", http_status=response.status)
        if announced is not None and encoding == "identity" and len(data) != announced:
            message = f"{url}: cut short after {len(data):,} of {announced:,} bytes"
            raise Transient(message, http_status=response.status)
        kind = response.headers.get("Content-Type", "")
        return Fetched(data, hashlib.sha256(data).hexdigest(), kind)

    def _gunzip(self, url: str, packed: bytes) -> bytes:
        gunzip = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        try:
            # However well it was compressed, no more than this comes out.
            data = gunzip.decompress(packed, self._max_bytes + 1)
        except zlib.error as error:
            raise Transient(f"{url}: damaged gzip: {error}") from error
        if not gunzip.eof and len(data) <= self._max_bytes:
            raise Transient(f"{url}: cut short in its gzip", http_status=_OK)
        return data

    def _too_large(self, url: str) -> Permanent:
        return Permanent(f"{url}: more than {self._max_bytes:,} bytes", outcome=Outcome.TOO_LARGE)


def _check_status(url: str, response: urllib3.BaseHTTPResponse) -> None:
    status = response.status
    if status == _OK:
        return
    message = f"{url}: HTTP {status}"
    if status == _TOO_MANY:
        wait_s = retry_after_s(response.headers.get("Retry-After"))
        raise Throttled(message, host=HOST, retry_after_s=wait_s)
    if status in _OUTCOME_OF_STATUS:
        raise Permanent(message, outcome=_OUTCOME_OF_STATUS[status], http_status=status)
    raise Transient(message, http_status=status)


def _check_kind(url: str, response: urllib3.BaseHTTPResponse) -> None:
    """Refuse a page in the image's place, and an image that is not for robots.

    Without a Content-Type, decoding will tell.
    """
    kind = response.headers.get("Content-Type", "image/*")
    if not kind.strip().lower().startswith("image/"):
        message = f"{url}: {kind} instead of an image"
        raise Permanent(message, outcome=Outcome.PLACEHOLDER, http_status=response.status)
    for value in response.headers.getlist("X-Robots-Tag"):
        if forbids(value):
            message = f"{url}: X-Robots-Tag: {value} forbids to learn from it"
            raise Permanent(message, outcome=Outcome.PRIVATE, http_status=response.status)


def forbids(robots: str) -> bool:
    """Return whether an X-Robots-Tag header forbids popq to use the image.

    A list of directives for all robots, or after a robot's name and a colon for that one.
    """
    robot = ""
    for part in robots.lower().split(","):
        name, colon, rest = part.partition(":")
        directive = part.strip()
        if colon and name.strip() not in _WITH_VALUE:
            robot, directive = name.strip(), rest.strip()
        if robot in {"", "*", "popq"} and directive in _FORBIDDING:
            return True
    return False
