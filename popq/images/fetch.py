"""Getting one image file, over HTTP or from a folder, and saying what came of it for the photo.

One request is one try: nothing is repeated here, the queue does that. What the host answers
becomes one of the errors of `popq.errors`:

| answer                                                         | raised                     |
|----------------------------------------------------------------|----------------------------|
| 404, 410                                                       | `Permanent` GONE           |
| 403, or an X-Robots-Tag that forbids this use (noai, noindex)  | `Permanent` PRIVATE        |
| a redirect off the allow-list, a fourth redirect               | `Permanent` PLACEHOLDER    |
| a page, or another kind of content that is no image            | `Transient` PLACEHOLDER    |
| more than `max_bytes`                                          | `Permanent` TOO_LARGE      |
| 429                                                            | `Throttled`                |
| time-outs, resets, a short body, every other status            | `Transient`                |
| a host that is neither Flickr's nor the operator's: not asked  | `Transient` NOT_FLICKR     |
| a host with an address in one's own network: not asked         | `Misconfigured`            |
| a file of a folder (`file://…`) that is not there              | `Transient` FILE_MISSING   |
"""

from __future__ import annotations

import hashlib
import os
import socket
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

from popq import __version__
from popq.errors import (
    Outcome,
    Permanent,
    PopqError,
    ServiceDown,
    Throttled,
    Transient,
    retry_after_s,
)
from popq.images.reach import Lookup, Reach
from popq.images.wire import LARGE, Head, Wire

#: The name of the image host's row in the catalogue's `hosts`.
HOST = "images"
USER_AGENT = f"popq/{__version__} (batch job system for research on photo popularity)"

#: How the addresses of files in a folder begin.
FILE_URL = "file://"

_REDIRECTS = 3
_REDIRECTING = (301, 302, 303, 307, 308)
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
        self._base_url = base_url
        self._max_bytes = max_bytes
        self._total_timeout_s = total_timeout_s
        self._reach = Reach([base_url], lookup)
        # Images gain nothing from compression, and a plain body's length can be checked.
        headers = (f"User-Agent: {USER_AGENT}", "Accept-Encoding: identity")
        timeouts = {"connect_timeout_s": connect_timeout_s, "read_timeout_s": read_timeout_s}
        self._wire = Wire(self._reach, headers, **timeouts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are kept; a later fetch opens new ones."""
        self._wire.close()

    def check(self) -> int:
        """Ask the host for its front page, once, and return the HTTP status that it answers with.

        Raises `Misconfigured` for a host that is not to be asked and `ServiceDown` for one that
        does not answer.
        """
        try:
            head, _ = self._wire.get(self._base_url, self._total_timeout_s, lambda _: 0)
        except Transient as error:
            message = f"The image host {self._base_url} does not answer ({error})"
            hint = "look at the network and at POPQ_FLICKR_IMAGE_URL"
            raise ServiceDown(f"{message}; {hint}.") from error
        return head.status

    def fetch(
        self,
        url: str,
        spend: Callable[[int], None] = lambda _: None,
        pay: Callable[[], None] = lambda: None,
    ) -> Fetched:
        """Return the file at `url`, all of it in memory; raises as the table above says.

        `spend` is told of the bytes of a large one before it is read, and may wait until there is
        memory for them. `pay` is called before each request after the first, when one leads on.
        """
        if url.startswith(FILE_URL):
            source = Path(os.fsdecode(unquote_to_bytes(url.removeprefix(FILE_URL))))
            return self._read_file(source, spend)
        if not self._reach.allows(url):
            message = f"{url} lies on no image host of Flickr's, so it is not asked"
            raise Transient(message, outcome=Outcome.NOT_FLICKR)
        return self._follow(url, time.monotonic() + self._total_timeout_s, spend, pay)

    def _read_file(self, source: Path, spend: Callable[[int], None]) -> Fetched:
        """Read a file of a folder; a folder that is not mounted is no fact about the photo."""
        try:
            with source.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if LARGE < size <= self._max_bytes:
                    spend(size)
                data = file.read(self._max_bytes + 1)
        except OSError as error:
            message = f"{source}: {error.strerror}; is the images folder where it was?"
            raise Transient(message, outcome=Outcome.FILE_MISSING) from error
        if len(data) > self._max_bytes:
            raise self._too_large(str(source))
        return Fetched(data, hashlib.sha256(data).hexdigest(), "")

    def _follow(
        self,
        first: str,
        deadline: float,
        spend: Callable[[int], None],
        pay: Callable[[], None],
    ) -> Fetched:
        """Follow the redirects that are allowed and return the image at their end."""

        def room(head: Head) -> None:
            spend(self._max_bytes if head.length is None else head.length)

        url = first
        for number in range(_REDIRECTS + 1):
            if number:
                pay()
            try:
                left_s = deadline - time.monotonic()
                head, body = self._wire.get(url, left_s, self._wanted, room)
            except Transient as error:
                raise Transient(f"{first}: {error}") from error
            location = head.get("location")
            if head.status not in _REDIRECTING or location is None:
                return self._image(first, head, body)
            url = self._redirect_target(url, location, head.status)
        raise Permanent(f"{first}: more than {_REDIRECTS} redirects", outcome=Outcome.PLACEHOLDER)

    def _wanted(self, head: Head) -> int:
        """Return how many bytes of an answer are wanted: of one that holds no image, few or none.

        A short one is read to its end, so that its connection can be kept; but of a 429 nothing, so
        that no body that is cut short hides it.
        """
        if _refusal("", head) is None:
            return self._max_bytes
        if head.status == _TOO_MANY:
            return 0
        return _SHORT if head.length is not None else 0

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

    def _image(self, url: str, head: Head, data: bytes) -> Fetched:
        """Return the image of an answer that holds one."""
        refusal = _refusal(url, head)
        if refusal is not None:
            raise refusal
        if max(len(data), head.length or 0) > self._max_bytes:
            raise self._too_large(url)
        encoding = (head.get("content-encoding") or "identity").lower()
        if encoding in {"gzip", "x-gzip"}:
            data = self._gunzip(url, data)
        elif encoding != "identity":
            raise Transient(f"{url}: sent as {encoding}, which nobody asked for")
        kind = head.get("content-type") or ""
        return Fetched(data, hashlib.sha256(data).hexdigest(), kind)

    def _gunzip(self, url: str, packed: bytes) -> bytes:
        gunzip = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        try:
            # However well it was compressed, no more than this comes out.
            data = gunzip.decompress(packed, self._max_bytes + 1)
        except zlib.error as error:
            raise Transient(f"{url}: damaged gzip: {error}") from error
        if len(data) > self._max_bytes:
            raise self._too_large(url)
        if not gunzip.eof:
            raise Transient(f"{url}: cut short in its gzip", http_status=_OK)
        return data

    def _too_large(self, url: str) -> Permanent:
        return Permanent(f"{url}: more than {self._max_bytes:,} bytes", outcome=Outcome.TOO_LARGE)


def _refusal(url: str, head: Head) -> PopqError | None:
    """Return what an answer means that brings no image of this URL, None for one that does.

    Without a Content-Type, decoding will tell.
    """
    status, kind = head.status, head.get("content-type") or "image/*"
    if status == _TOO_MANY:
        wait_s = retry_after_s(head.get("retry-after"))
        return Throttled(f"{url}: HTTP {status}", host=HOST, retry_after_s=wait_s)
    if status in _OUTCOME_OF_STATUS:
        outcome = _OUTCOME_OF_STATUS[status]
        return Permanent(f"{url}: HTTP {status}", outcome=outcome, http_status=status)
    if status != _OK:
        return Transient(f"{url}: HTTP {status}", http_status=status)
    if not kind.lower().startswith("image/"):
        message = f"{url}: {kind} instead of an image"
        # As a proxy or a host in trouble says to all; only if it stays so it is of this photo.
        return Transient(message, outcome=Outcome.PLACEHOLDER, http_status=status)
    for value in head.headers.get("x-robots-tag", ()):
        if forbids(value):
            message = f"{url}: X-Robots-Tag: {value} forbids to learn from it"
            return Permanent(message, outcome=Outcome.PRIVATE, http_status=status)
    return None


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
