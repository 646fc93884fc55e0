"""One HTTP answer of the fake Flickr, before it goes out; and its ready-made error pages."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

#: HAProxy's stock page, 117 bytes, as both api.flickr.com and live.staticflickr.com send it.
TOO_MANY_REQUESTS = (
    b"<html><body><h1>429 Too Many Requests</h1>\n"
    b"You have sent too many requests in a given amount of time.\n"
    b"</body></html>\n"
)
HTML = "text/html"


class Fail(Exception):
    """An API answer with stat="fail": Flickr's code and message, the code as it is written."""

    def __init__(self, code: int | str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class HangUp(StrEnum):
    """How a connection ends without an answer."""

    CLOSE = "close"
    RESET = "reset"


class Pause(StrEnum):
    """Where an answer stops for a while."""

    #: Before its first byte.
    FIRST = "first"
    #: Before each line of its header.
    HEADERS = "headers"
    #: In the middle of its body.
    MIDDLE = "middle"
    #: After each small piece of its body.
    DRIP = "drip"


Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """Status, headers and body; `chunked` False sends a Content-Length instead.

    The answer stops for `pause_s` at `pause`. The connection closes after `body[:cut_at]` if that
    is set, so that the rest never arrives; `stated_length` is a Content-Length that lies; with
    `hang_up` nothing is sent at all.
    """

    status: int
    headers: Headers
    body: bytes
    chunked: bool = True
    pause_s: float = 0.0
    pause: Pause = Pause.FIRST
    cut_at: int | None = None
    stated_length: int | None = None
    hang_up: HangUp | None = None


def throttled(retry_after_s: int | None) -> Reply:
    """429 as HAProxy sends it; with `Retry-After` only if asked for."""
    headers: Headers = (("Cache-Control", "no-cache"), ("Content-Type", HTML))
    if retry_after_s is not None:
        headers = (*headers, ("Retry-After", str(retry_after_s)))
    return Reply(429, headers, TOO_MANY_REQUESTS, chunked=False)


def broken(status: int, phrase: str) -> Reply:
    """Page of a proxy whose server is in trouble: 500, 502, 504."""
    page = (
        f"<html>\r\n<head><title>{status} {phrase}</title></head>\r\n<body>\r\n"
        f"<center><h1>{status} {phrase}</h1></center>\r\n<hr><center>openresty</center>\r\n"
        "</body>\r\n</html>\r\n"
    )
    return Reply(status, (("Content-Type", HTML), ("Server", "openresty")), page.encode())


def web_page() -> Reply:
    """200 with a page where something else was asked for, as captive portals send it."""
    page = b"<!DOCTYPE html>\n<html><head><title>Flickr</title></head><body>Hello</body></html>\n"
    return Reply(200, (("Content-Type", HTML),), page)
