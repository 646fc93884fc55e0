"""Asking Flickr's oEmbed service where an image is: it needs no key, and says less.

It gives the image's address, title and licence; not the owner's NSID, views, dates or tags
(FLICKR.md 1.10). Nothing is tried twice in here: the queue does that, and counts it.
"""

from __future__ import annotations

import json
import time
from http import HTTPStatus
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final, Self
from urllib.parse import urlsplit

import requests

from popq.errors import (
    BadLink,
    Misconfigured,
    Outcome,
    Permanent,
    Throttled,
    Transient,
    retry_after_s,
)
from popq.flickr import answers, urls
from popq.flickr.client import USER_AGENT, PhotoInfo
from popq.flickr.coerce import text, whole_number
from popq.flickr.patience import PatientAdapter

#: The name of the service's row in the catalogue's `hosts`.
HOST: Final = "flickr-oembed"

_REFUSALS = {
    HTTPStatus.NOT_FOUND: (Outcome.NOT_FOUND, "no such photo (deleted, private or never there)"),
    HTTPStatus.GONE: (Outcome.NOT_FOUND, "no such photo (deleted, private or never there)"),
    HTTPStatus.UNAUTHORIZED: (Outcome.PRIVATE, "its owner does not let it be shown elsewhere"),
    HTTPStatus.FORBIDDEN: (Outcome.PRIVATE, "its owner does not let it be shown elsewhere"),
}


class OEmbedClient:
    """Calls to Flickr's oEmbed service; safe to share between threads.

    Calls raise `Transient`, `Throttled` (429), `Permanent` or `Misconfigured` (the URL).
    """

    host = HOST

    def __init__(
        self,
        url: str,
        *,
        connect_timeout_s: float,
        read_timeout_s: float,
        total_timeout_s: float = answers.TOTAL_S,
    ) -> None:
        self.url = url
        self._timeouts_s = (connect_timeout_s, read_timeout_s)
        self._total_timeout_s = total_timeout_s
        self._session = requests.Session()
        self._session.headers["User-Agent"] = USER_AGENT
        self._session.headers["Accept-Encoding"] = answers.ENCODINGS
        # Without cookies nothing in it changes between calls, so threads may share it.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = PatientAdapter(total_timeout_s)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are kept open."""
        self._session.close()

    def photo_info(self, flickr_id: int) -> PhotoInfo:
        """Ask about one photo; a video comes back with `media` "video"."""
        # The short link needs no owner, whom a list may not name.
        page = f"https://flic.kr/p/{urls.encode_short(flickr_id)}"
        answer = self._ask({"url": page, "format": "json"})
        media = text(answer.get("flickr_type")) or text(answer.get("type")) or "photo"
        server, secret = _address(flickr_id, answer)
        return PhotoInfo(
            flickr_id=flickr_id,
            owner=None,
            server=server,
            secret=secret,
            title=text(answer.get("title")),
            tags=(),
            views=None,
            posted_at=None,
            taken_at=None,
            licence=whole_number(answer.get("license_id")),
            media=media,
        )

    def _ask(self, params: dict[str, str]) -> dict[str, Any]:
        deadline = time.monotonic() + self._total_timeout_s
        try:
            answer = self._session.get(
                self.url,
                params=params,
                timeout=self._timeouts_s,
                allow_redirects=False,
                stream=True,
            )
            body = answers.read(answer, deadline)
        except (
            requests.exceptions.InvalidURL,
            requests.exceptions.InvalidSchema,
            requests.exceptions.MissingSchema,
        ):
            message = f"POPQ_FLICKR_OEMBED_URL cannot be used: calls go to {self.url!r}"
            raise Misconfigured(message) from None
        except requests.RequestException as error:
            # Only the kind: the text may repeat a proxy's URL with its password.
            what = f"no whole answer from Flickr's oEmbed service: {type(error).__name__}"
            raise Transient(f"{what}; it is tried again later") from None
        _check_status(answer)
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            raise _malformed("no JSON") from None
        if not isinstance(found, dict):
            raise _malformed(f"{type(found).__name__} instead of an object")
        return found


def _check_status(answer: requests.Response) -> None:
    status = answer.status_code
    if status == HTTPStatus.OK:
        return
    said = f"Flickr's oEmbed service answered with HTTP {status}"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        wait_s = retry_after_s(answer.headers.get("Retry-After"))
        raise Throttled(f"{said}: all calls to it pause", host=HOST, retry_after_s=wait_s)
    if status in _REFUSALS:
        outcome, meaning = _REFUSALS[HTTPStatus(status)]
        raise Permanent(f"{said}: {meaning}", outcome=outcome, http_status=status)
    raise Transient(f"{said}; it is tried again later", http_status=status)


def _address(flickr_id: int, answer: dict[str, Any]) -> tuple[str, str]:
    """Read server and secret off the image's URL; only its path counts, whatever the host."""
    ids = set()
    # The first may be an original's, whose secret is another one.
    for image in filter(None, map(text, (answer.get("url"), answer.get("thumbnail_url")))):
        try:
            link = urls.parse(f"https://live.staticflickr.com{urlsplit(image).path}")
        except (BadLink, ValueError):
            continue
        ids.add(link.flickr_id)
        if link.flickr_id == flickr_id and link.server is not None and link.secret is not None:
            return link.server, link.secret
    if ids - {flickr_id}:
        raise _malformed(f"photo {flickr_id}: the answer is about another photo")
    raise _malformed("no address of an image")


def _malformed(what: str) -> Transient:
    message = f"malformed answer from Flickr's oEmbed service: {what}; it is tried again later"
    return Transient(message, http_status=HTTPStatus.OK)
