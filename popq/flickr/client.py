"""The Flickr API client: flickrapi behind one adapter that keeps statuses and sets time-outs.

flickrapi signs and sends a call. Left alone it loses the HTTP status and `Retry-After`, waits
without end, writes a token cache to disk and logs the key; the adapter here stops all four
(FLICKR.md 4.2). Nothing is tried twice in here: the queue does that, and counts it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.cookiejar import DefaultCookiePolicy
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import requests
from flickrapi import FlickrAPI
from flickrapi.auth import OAuthFlickrInterface
from flickrapi.tokencache import SimpleTokenCache

from popq import __version__
from popq.errors import Misconfigured, Transient, retry_after_s
from popq.flickr import answers
from popq.flickr.coerce import moment, taken, text, whole_number
from popq.flickr.outcomes import error_for_code, error_for_status
from popq.flickr.patience import PatientAdapter

USER_AGENT = f"popq/{__version__} (+research; popularity of public photos)"

#: Photos on a page of an owner's: the most that Flickr gives.
PER_PAGE: Final = 500
_EXTRAS = "license,date_upload,date_taken,owner_name,tags,views,media"

_SERVER = re.compile(r"[0-9]{1,10}")
_SECRET = re.compile(r"[0-9A-Za-z]{1,40}")

# The debug lines of the first two carry the API key; flickrapi has a line for every call.
for _name in ("oauthlib", "requests_oauthlib", "flickrapi"):
    logging.getLogger(_name).setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True)
class PhotoInfo:
    """What flickr.photos.getInfo says of one photo.

    `owner` is the NSID; `posted_at` is in Unix seconds; `taken_at` is the camera's local time as
    Flickr writes it (`2017-02-17 00:00:00`), None where unknown; `licence` is Flickr's number;
    `media` is `photo` or `video`. `tags` are in Flickr's normalised form.
    """

    flickr_id: int
    owner: str | None
    server: str
    secret: str
    title: str | None
    tags: tuple[str, ...]
    views: int | None
    posted_at: int | None
    taken_at: str | None
    licence: int | None
    media: str


@dataclass(frozen=True, slots=True)
class Page:
    """One page of an owner's public photos, newest first, of `pages` in all."""

    photos: tuple[PhotoInfo, ...]
    pages: int


@dataclass(frozen=True, slots=True)
class Size:
    """One rendition that flickr.photos.getSizes lists: its URL, and its pixels where known."""

    label: str
    width: int | None
    height: int | None
    source: str
    media: str


class FlickrClient:
    """Calls to the Flickr API with one key; safe to share between threads, not across a fork.

    `host` names the key's row in the catalogue's `hosts` without giving the key away. With an
    empty `secret` calls carry the key unsigned, which Flickr accepts for public photos. Time-outs
    are in seconds: to connect, between two reads, and for one whole call.

    Every call raises `Transient` (time-outs, broken connections, malformed answers, a service
    that is down), `Throttled` (429), `Misconfigured` (key, secret or URL) or `Permanent`.
    """

    def __init__(
        self,
        key: str,
        secret: str,
        *,
        api_url: str,
        connect_timeout_s: float,
        read_timeout_s: float,
        total_timeout_s: float = answers.TOTAL_S,
    ) -> None:
        if not key:
            raise Misconfigured("there is no Flickr API key; set POPQ_FLICKR_KEYS")
        self.host = "flickr-api-" + hashlib.sha256(f"{key}:{secret}".encode()).hexdigest()[:8]
        timeouts_s = (connect_timeout_s, read_timeout_s)
        self._door = _Door(
            key, secret, host=self.host, timeouts_s=timeouts_s, total_timeout_s=total_timeout_s
        )
        self._api = _Api(key, secret, store_token=False, format="json")
        self._api.REST_URL = api_url
        self._api.flickr_oauth = self._door

    def __repr__(self) -> str:
        return f"FlickrClient(host={self.host!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are kept open."""
        self._door.session.close()

    def photo_info(self, flickr_id: int) -> PhotoInfo:
        """Ask flickr.photos.getInfo; a video comes back with `media` "video"."""
        answer = self._call("flickr.photos.getInfo", photo_id=flickr_id)
        return _photo_info(flickr_id, _member(answer, "photo"))

    def sizes(self, flickr_id: int) -> list[Size]:
        """Ask flickr.photos.getSizes: the renditions that exist, smallest first."""
        answer = self._call("flickr.photos.getSizes", photo_id=flickr_id)
        rows = _member(answer, "sizes").get("size")
        if not isinstance(rows, list):
            raise _malformed(f"photo {flickr_id}: no list of sizes")
        found = [_size(row) for row in rows if isinstance(row, dict)]
        return [size for size in found if size is not None]

    def public_photos(self, owner: str, page: int) -> Page:
        """Ask flickr.people.getPublicPhotos for one page (from 1) of up to `PER_PAGE` photos.

        `owner` is an NSID. A photo that cannot be read is left out, as Flickr leaves out those it
        takes for unsafe: that a photo is missing says nothing about it. `Permanent` (GONE) when
        the owner's account was deleted.
        """
        answer = self._call(
            "flickr.people.getPublicPhotos",
            user_id=owner,
            page=page,
            per_page=PER_PAGE,
            extras=_EXTRAS,
        )
        photos = _member(answer, "photos")
        rows = photos.get("photo")
        if not isinstance(rows, list):
            raise _malformed(f"owner {owner}: no list of photos")
        found = [_listed_photo(row) for row in rows if isinstance(row, dict)]
        pages = whole_number(photos.get("pages"))
        if pages is None:
            raise _malformed(f"owner {owner}: no number of pages")
        return Page(tuple(info for info in found if info is not None), pages)

    def check_key(self) -> None:
        """Ask flickr.test.echo; `Misconfigured` when the key or its secret is not accepted."""
        self._call("flickr.test.echo")

    def _call(self, method: str, **params: int | str) -> dict[str, Any]:
        body = self._api.do_flickr_call(method, **params)
        if not body.strip():
            raise _malformed(f"{method}: empty body")
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise _malformed(f"{method}: no JSON ({type(error).__name__})") from None
        if not isinstance(answer, dict):
            raise _malformed(f"{method}: {type(answer).__name__} instead of an object")
        if answer.get("stat") == "fail":
            raise error_for_code(whole_number(answer.get("code")), str(answer.get("message", "")))
        if answer.get("stat") != "ok":
            raise _malformed(f"{method}: neither ok nor fail")
        return answer


class _Api(FlickrAPI):  # type: ignore[misc]  # flickrapi ships no types
    """flickrapi without its habit of printing the key."""

    def __repr__(self) -> str:
        return "<flickrapi, key hidden>"

    __str__ = __repr__


class _Door(OAuthFlickrInterface):  # type: ignore[misc]  # flickrapi ships no types
    """flickrapi's only way out: one POST, with time-outs, no redirects and the status kept.

    One session serves all threads: its pool is safe to share, and no cookie is ever accepted, so
    nothing in it changes between calls.
    """

    def __init__(
        self,
        key: str,
        secret: str,
        *,
        host: str,
        timeouts_s: tuple[float, float],
        total_timeout_s: float,
    ) -> None:
        super().__init__(key, secret, SimpleTokenCache())
        self._host = host
        self._timeouts_s = timeouts_s
        self._total_timeout_s = total_timeout_s
        self._unsigned_key = None if secret else key
        self.session = requests.Session()
        self.session.headers["User-Agent"] = USER_AGENT
        self.session.headers["Accept-Encoding"] = answers.ENCODINGS
        self.session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = PatientAdapter(total_timeout_s)
        self.session.mount("https://", adapter)
        self.session.mount("http://", adapter)

    def do_request(
        self, url: str, params: Mapping[str, object], timeout: float | None = None
    ) -> bytes:
        """POST one call and return the body of its answer; flickrapi calls this."""
        del timeout  # flickrapi's single number; ours are per connect and read
        form = dict(params)
        if self._unsigned_key is not None:
            form["api_key"] = self._unsigned_key
        deadline = time.monotonic() + self._total_timeout_s
        try:
            answer = self.session.post(
                url,
                data=form,
                auth=None if self._unsigned_key is not None else self.oauth,
                timeout=self._timeouts_s,
                allow_redirects=False,
                stream=True,
            )
            body = answers.read(answer, deadline)
        except (
            requests.exceptions.InvalidURL,
            requests.exceptions.InvalidSchema,
            requests.exceptions.MissingSchema,
        ) as error:
            raise Misconfigured(
                f"POPQ_FLICKR_API_URL or the proxy's URL cannot be used ({type(error).__name__}): "
                f"calls go to {url!r}"
            ) from None
        except requests.Timeout as error:
            raise Transient(
                f"Flickr's API ({self._host}) did not answer in time ({type(error).__name__}); "
                "it is tried again later"
            ) from None
        except requests.RequestException as error:
            # Only the kind: the text may repeat a proxy's URL with its password.
            raise Transient(
                f"no whole answer from Flickr's API ({self._host}): {type(error).__name__}; "
                "it is tried again later"
            ) from None
        if answer.status_code != HTTPStatus.OK:
            raise error_for_status(
                answer.status_code,
                host=self._host,
                retry_after_s=retry_after_s(answer.headers.get("Retry-After")),
            )
        return body


def _photo_info(flickr_id: int, photo: dict[str, Any]) -> PhotoInfo:
    if whole_number(photo.get("id")) != flickr_id:
        raise _malformed(f"photo {flickr_id}: the answer is about another photo")
    server, secret = text(photo.get("server")) or "", text(photo.get("secret")) or ""
    if not _SERVER.fullmatch(server) or not _SECRET.fullmatch(secret):
        raise _malformed(f"photo {flickr_id}: no server or secret")
    owner, dates = photo.get("owner"), photo.get("dates")
    tags = photo.get("tags")
    tag_rows = tags.get("tag") if isinstance(tags, dict) else None
    return PhotoInfo(
        flickr_id=flickr_id,
        owner=text(owner.get("nsid")) if isinstance(owner, dict) else None,
        server=server,
        secret=secret,
        title=text(photo.get("title")),
        tags=tuple(
            tag for row in (tag_rows if isinstance(tag_rows, list) else ()) if (tag := text(row))
        ),
        views=whole_number(photo.get("views")),
        posted_at=_posted_at(photo, dates),
        taken_at=_taken_at(dates),
        licence=whole_number(photo.get("license")),
        media=text(photo.get("media")) or "photo",
    )


def _listed_photo(row: dict[str, Any]) -> PhotoInfo | None:
    """Read a photo as lists write it: other names, tags in one text; None without an address."""
    flickr_id = whole_number(row.get("id"))
    server, secret = text(row.get("server")) or "", text(row.get("secret")) or ""
    if not flickr_id or not _SERVER.fullmatch(server) or not _SECRET.fullmatch(secret):
        return None
    known = str(row.get("datetakenunknown", "0")) in {"0", "False"}
    return PhotoInfo(
        flickr_id=flickr_id,
        owner=text(row.get("owner")),
        server=server,
        secret=secret,
        title=text(row.get("title")),
        tags=tuple((text(row.get("tags")) or "").split()),
        views=whole_number(row.get("views")),
        posted_at=moment(row.get("dateupload")),
        taken_at=taken(row.get("datetaken")) if known else None,
        licence=whole_number(row.get("license")),
        media=text(row.get("media")) or "photo",
    )


def _posted_at(photo: dict[str, Any], dates: object) -> int | None:
    posted = moment(dates.get("posted")) if isinstance(dates, dict) else None
    return moment(photo.get("dateuploaded")) if posted is None else posted


def _taken_at(dates: object) -> str | None:
    """When the photo was taken; None where Flickr put in a zero date or the upload's own."""
    if not isinstance(dates, dict) or str(dates.get("takenunknown", "0")) not in {"0", "False"}:
        return None
    return taken(dates.get("taken"))


def _size(row: dict[str, Any]) -> Size | None:
    label, source = text(row.get("label")), text(row.get("source"))
    if label is None or source is None:
        return None
    try:
        urlsplit(source)
    except ValueError:  # what urllib says to brackets that hold no address
        return None
    return Size(
        label=label,
        width=whole_number(row.get("width")),
        height=whole_number(row.get("height")),
        source=source,
        media=text(row.get("media")) or "photo",
    )


def _member(answer: dict[str, Any], name: str) -> dict[str, Any]:
    member = answer.get(name)
    if not isinstance(member, dict):
        raise _malformed(f"no {name!r} in an answer that says ok")
    return member


def _malformed(what: str) -> Transient:
    return Transient(
        f"malformed answer from Flickr's API: {what}; it is tried again later",
        http_status=HTTPStatus.OK,
    )
