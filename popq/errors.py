"""What can go wrong, named by the next step, and the one vocabulary of outcomes.

Every error of popq is a `PopqError`. Its class says what to do next:

| class           | next step                                                              |
|-----------------|------------------------------------------------------------------------|
| `Transient`     | try later; counted against the photo's tries in its job                |
| `Throttled`     | the whole host waits; not counted                                      |
| `Permanent`     | a fact about the photo: it leaves for good, with the outcome as reason |
| `Misconfigured` | stop the stage and lose nothing; a person must act (exit 3)            |
| `BadInput`      | what the user gave is wrong (exit 2)                                   |
| `ServiceDown`   | a service that popq needs does not answer (exit 4)                     |
| `LeaseLost`     | another worker has the work now; what is unsettled is dropped          |
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final


class Outcome(StrEnum):
    """What one attempt at a photo, or one row of a list, came to."""

    #: The step was taken.
    OK = "ok"
    #: The API knows no such photo (code 1); a second look is worth taking after a day.
    NOT_FOUND = "not_found"
    #: Its owner shows it to nobody (API code 2, or image 403 after a re-resolve).
    PRIVATE = "private"
    #: The image host says 404 or 410 for every size.
    GONE = "gone"
    #: The host leads to a stand-in for every size, or sent a page instead of the image three times.
    PLACEHOLDER = "placeholder"
    #: The same bytes came for photos of ten owners: the host is at fault, so it is never final.
    STAND_IN = "stand_in"
    #: A video's page; popq learns from photos.
    VIDEO = "video"
    #: The link leads to an album.
    ALBUM = "album"
    #: The link leads to a person's page.
    USER = "user"
    #: The link is a guest pass.
    GUEST_PASS = "guest_pass"  # noqa: S105 - a kind of link, no password
    #: The link leads to no photo on Flickr.
    NOT_FLICKR = "not_flickr"
    #: The row is blank.
    EMPTY = "empty"
    #: The row itself cannot be read: cut short, more cells than the header, no JSON.
    BAD_ROW = "bad_row"
    #: The label is no finite number, or beyond all sense.
    BAD_LABEL = "bad_label"
    #: The same photo stands in the list with different labels.
    CONFLICTING_LABEL = "conflicting_label"
    #: A row about a photo (its label, its metadata) that is not in the list.
    NOT_JOINED = "not_joined"
    #: Rows of one file say different things of the same photo.
    CONFLICTING_METADATA = "conflicting_metadata"
    #: It was purged from this catalogue, and stays out.
    PURGED = "purged"
    #: The host asks to slow down (429).
    RATE_LIMITED = "rate_limited"
    #: A fault that passes: 5xx, codes 105, 106, 201, time-outs, resets, malformed bodies.
    TRANSIENT = "transient"
    #: The same for so many photos in a row that the host is down; it costs a photo next to nothing.
    HOST_DOWN = "host_down"
    #: The key or its permissions are wrong (codes 95 to 100, HTTP 401).
    AUTH = "auth"
    #: The bytes do not decode to a whole picture; final after three tries.
    CORRUPT = "corrupt"
    #: Shorter than 64 pixels on a side.
    TOO_SMALL = "too_small"
    #: More pixels or bytes than popq will decode.
    TOO_LARGE = "too_large"
    #: The worker died three times with this photo alone in its hands.
    KILLS_WORKER = "kills_worker"
    #: The file is not where the catalogue or the list says.
    FILE_MISSING = "file_missing"


class PopqError(Exception):
    """Base of all errors of popq; its text says what was wrong, where, and what to do next."""

    exit_code = 1


class Transient(PopqError):
    """A fault that passes: try the photo again later; the try is counted.

    `outcome` says of what kind, `http_status` what the server answered (None without an answer).
    """

    def __init__(
        self,
        message: str,
        *,
        outcome: Outcome = Outcome.TRANSIENT,
        http_status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.http_status = http_status


class Throttled(PopqError):
    """A host asks for less: everything that uses `host` waits; no photo's try is counted.

    `host` is the name of its row in `hosts`; `retry_after_s` what the server asked for, if it did.
    """

    def __init__(self, message: str, *, host: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.host = host
        self.retry_after_s = retry_after_s


class Permanent(PopqError):
    """A fact about the photo: it is gone or unusable, and `outcome` is the reason."""

    def __init__(self, message: str, *, outcome: Outcome, http_status: int | None = None) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.http_status = http_status


class Misconfigured(PopqError):
    """Nothing will work until a person acts (a key, a setting, a missing extra): stop, keep all."""

    exit_code = 3


class BadInput(PopqError):
    """What the user gave cannot be used; nothing was changed."""

    exit_code = 2


class BadLink(BadInput):
    """A row that names no photo on Flickr; `outcome` says what it is instead."""

    def __init__(self, message: str, *, outcome: Outcome) -> None:
        super().__init__(message)
        self.outcome = outcome


class ServiceDown(PopqError):
    """A service that popq needs (database, broker) does not answer."""

    exit_code = 4


class LeaseLost(PopqError):
    """The batch or run has a newer term: another worker has it, so nothing of ours may be kept."""


#: What libpq takes among a URL's options, and nobody is to read.
SECRET_OPTIONS: Final = ("password", "sslpassword")


def without_password(url: str) -> str:
    """Return a URL as a message may show it: all before its last "@" is masked.

    To the last one, since a password that nobody encoded may hold "/" and "@" itself.
    """
    return re.sub("//.*@", "//***@", url)


def retry_after_s(header: str | None) -> float | None:
    """Return the seconds that a `Retry-After` header asks for; None if it cannot be read.

    It holds a number of seconds or a date. `Throttled` takes the result.
    """
    text = (header or "").strip()
    if text.isascii() and text.isdecimal():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # the latter for a zone that no clock knows
        return None
    # RFC 9110 dates are GMT; a date without a zone is read so too.
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
