"""Getting one image file, over HTTP or from a folder, and saying what came of it for the photo.

One request is one try: nothing is repeated here, the queue does that. What the host answers
becomes one of the errors of `popq.errors`:

| answer                                                        | raised                     |
|---------------------------------------------------------------|----------------------------|
| 404, 410                                                      | `Permanent` GONE           |
| 403                                                           | `Permanent` PRIVATE        |
| a redirect off the allow-list, a fourth redirect, no image    | `Permanent` PLACEHOLDER    |
| more than `max_bytes`                                         | `Permanent` TOO_LARGE      |
| 429                                                           | `Throttled`                |
| time-outs, resets, a short body, every other status           | `Transient`                |
| a file of a folder (`file://…`) that is not there             | `Transient` FILE_MISSING   |
"""

from __future__ import annotations

import email.utils
import hashlib
import os
import re
import threading
import time
import weakref
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

import requests
from urllib3.exceptions import HTTPError

from popq import __version__
from popq.errors import Misconfigured, Outcome, Permanent, Throttled, Transient
from popq.images.store import write_whole

#: The name of the image host's row in the catalogue's `hosts`.
HOST = "images"
USER_AGENT = f"popq/{__version__} (batch job system for research on photo popularity)"

#: How the addresses of files in a folder begin.
FILE_URL = "file://"

_CHUNK = 64 * 1024
_REDIRECTS = 3
_FLICKR_HOST = re.compile(r"(live|farm\d+|c\d+)\.staticflickr\.com")
#: What Flickr's stand-in picture is called, on whatever host it lies.
_STAND_IN = "photo_unavailable"
_OUTCOME_OF_STATUS = {
    403: Outcome.PRIVATE,
    404: Outcome.GONE,
    410: Outcome.GONE,
}
_BAD_URL = (
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidSchema,
)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that came whole: sha256 in hex, size in bytes, Content-Type ("" when not sent)."""

    sha256: str
    bytes: int
    content_type: str


class _Session(requests.Session):
    """A session that leaves redirects to `ImageClient`.

    requests reads a redirect's whole body, however long, and parses its target, even when it is
    told not to follow.
    """

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        del resp
        return None


class ImageClient:
    """Fetches image files; any number of threads may share one client.

    `base_url` is the image host's, to whose host redirects may lead; time-outs are in seconds:
    to connect, between two reads, and for one whole fetch.
    """

    def __init__(
        self,
        *,
        base_url: str,
        max_bytes: int,
        connect_timeout_s: float,
        read_timeout_s: float,
        total_timeout_s: float = 120,
    ) -> None:
        self._base_host = urlsplit(base_url).netloc.lower()
        self._max_bytes = max_bytes
        self._timeouts = (connect_timeout_s, read_timeout_s)
        self._total_timeout_s = total_timeout_s
        self._local = threading.local()
        self._sessions: weakref.WeakSet[requests.Session] = weakref.WeakSet()
        self._sessions_lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections of all threads; a later fetch opens new ones."""
        with self._sessions_lock:
            for session in self._sessions:
                session.close()

    def fetch(self, url: str, path: Path) -> Fetched:
        """Stream the file at `url` into `path`, hashing on the way.

        Raises as the table above says, and `Misconfigured` when `path` cannot be written. `path`
        does not exist after a failure.
        """
        if url.startswith(FILE_URL):
            source = os.fsdecode(unquote_to_bytes(url.removeprefix(FILE_URL)))
            return self._copy(Path(source), path)
        deadline = time.monotonic() + self._total_timeout_s
        with ExitStack() as on_failure:
            on_failure.callback(path.unlink, missing_ok=True)
            try:
                with self._answer(url, deadline) as response:
                    fetched = self._save(response, path, deadline)
            except _BAD_URL as error:
                raise Permanent(f"{url}: {error}", outcome=Outcome.NOT_FLICKR) from error
            except (requests.RequestException, HTTPError) as error:
                raise Transient(f"{url}: {error}") from error
            on_failure.pop_all()
        return fetched

    def _copy(self, source: Path, path: Path) -> Fetched:
        """Copy a file of a folder; a folder that is not mounted is no fact about the photo."""
        try:
            with source.open("rb") as file:
                data = file.read(self._max_bytes + 1)
        except OSError as error:
            message = f"{source}: {error.strerror}; is the images folder where it was?"
            raise Transient(message, outcome=Outcome.FILE_MISSING) from error
        if len(data) > self._max_bytes:
            raise self._too_large(str(source))
        with _naming(path), path.open("wb", buffering=0) as target:
            write_whole(target, data)
        return Fetched(hashlib.sha256(data).hexdigest(), len(data), "")

    def _answer(self, url: str, deadline: float) -> requests.Response:
        """Follow the redirects that are allowed and return an open answer that is an image."""
        for _ in range(_REDIRECTS + 1):
            response = self._session().get(
                url, stream=True, timeout=self._timeouts, allow_redirects=False
            )
            with ExitStack() as on_failure:
                on_failure.callback(response.close)
                _check_deadline(response, deadline)
                if not response.is_redirect:
                    _check_status(response)
                    _check_content_type(response)
                    on_failure.pop_all()
                    return response
                url = self._redirect_target(url, response)
        raise Permanent(f"{url}: more than {_REDIRECTS} redirects", outcome=Outcome.PLACEHOLDER)

    def _redirect_target(self, url: str, response: requests.Response) -> str:
        location = response.headers["Location"]
        try:
            target = urljoin(url, location)
            parts = urlsplit(target)
        except ValueError:  # what urllib says to brackets that hold no address
            target, parts = location, urlsplit("")
        host = parts.netloc.lower()
        allowed = host == self._base_host or _FLICKR_HOST.fullmatch(host)
        if not allowed or parts.scheme not in ("http", "https") or _STAND_IN in parts.path:
            raise Permanent(
                f"{url} leads to {target}, which is not the photo",
                outcome=Outcome.PLACEHOLDER,
                http_status=response.status_code,
            )
        return target

    def _save(self, response: requests.Response, path: Path, deadline: float) -> Fetched:
        announced = response.headers.get("Content-Length", "")
        if announced.isdecimal() and int(announced) > self._max_bytes:
            raise self._too_large(response.url)
        digest = hashlib.sha256()
        size = 0
        with ExitStack() as stack:
            with _naming(path):
                file = stack.enter_context(path.open("wb", buffering=0))
            for chunk in _body(response, deadline, self._max_bytes):
                size += len(chunk)
                if size > self._max_bytes:
                    raise self._too_large(response.url)
                digest.update(chunk)
                with _naming(path):
                    write_whole(file, chunk)
        if size == 0:
            raise Transient(f"{response.url}: an empty body", http_status=response.status_code)
        return Fetched(digest.hexdigest(), size, response.headers.get("Content-Type", ""))

    def _too_large(self, url: str) -> Permanent:
        return Permanent(f"{url}: more than {self._max_bytes:,} bytes", outcome=Outcome.TOO_LARGE)

    def _session(self) -> requests.Session:
        """Return this thread's session; requests does not promise that one serves many."""
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = _Session()
            session.headers["User-Agent"] = USER_AGENT
            # Images gain nothing from compression, and a plain body's length can be checked.
            session.headers["Accept-Encoding"] = "identity"
            self._local.session = session
            with self._sessions_lock:
                self._sessions.add(session)
        return session


def _check_deadline(response: requests.Response, deadline: float) -> None:
    if time.monotonic() > deadline:
        raise Transient(f"{response.url}: too slow", http_status=response.status_code)


def _check_status(response: requests.Response) -> None:
    status = response.status_code
    if status == requests.codes.ok:
        return
    message = f"{response.url}: HTTP {status}"
    if status == requests.codes.too_many_requests:
        wait_s = _retry_after_s(response.headers.get("Retry-After"))
        raise Throttled(message, host=HOST, retry_after_s=wait_s)
    if status in _OUTCOME_OF_STATUS:
        raise Permanent(message, outcome=_OUTCOME_OF_STATUS[status], http_status=status)
    raise Transient(message, http_status=status)


def _check_content_type(response: requests.Response) -> None:
    """Refuse a page in the image's place; without the header, decoding will tell."""
    content_type = response.headers.get("Content-Type", "image/*")
    if not content_type.strip().lower().startswith("image/"):
        message = f"{response.url}: {content_type} instead of an image"
        status = response.status_code
        raise Permanent(message, outcome=Outcome.PLACEHOLDER, http_status=status)


def _retry_after_s(value: str | None) -> float | None:
    """Read a Retry-After header, a number of seconds or a date; None when it is neither."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        when = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    # RFC 9110 dates are GMT; a date without a zone is read so too.
    aware = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime.now(UTC)).total_seconds())


def _body(response: requests.Response, deadline: float, max_bytes: int) -> Iterator[bytes]:
    """Yield the body as it comes, decompressed; raise `Transient` when it is slow or cut short.

    `read1` returns what has arrived, where `iter_content` waits until a chunk is full: a host
    that drips a byte a second would never let the deadline be looked at.
    """
    encoding = response.headers.get("Content-Encoding", "identity").lower()
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise Transient(f"{response.url}: sent as {encoding}, which nobody asked for")
    gunzip = None if encoding == "identity" else zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    received = 0
    while chunk := response.raw.read1(_CHUNK, decode_content=False):
        _check_deadline(response, deadline)
        received += len(chunk)
        try:
            # One byte more than is allowed is enough to know, however well it was compressed.
            plain = chunk if gunzip is None else gunzip.decompress(chunk, max_bytes + 1)
        except zlib.error as error:
            raise Transient(f"{response.url}: damaged gzip: {error}") from error
        yield plain
    announced = response.headers.get("Content-Length", "")
    short = announced.isdecimal() and received != int(announced)
    if short or (gunzip is not None and not gunzip.eof):
        message = f"{response.url}: cut short after {received:,} bytes"
        raise Transient(message, http_status=response.status_code)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"{path} cannot be written: {error}. Free space there or correct its permissions."
        raise Misconfigured(message) from error
