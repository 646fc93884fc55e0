"""Download: fetch the image, check it by full decode, measure it, store it."""

from __future__ import annotations

import io
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import urlsplit

import structlog

from popq.catalogue import files, hosts
from popq.catalogue.batches import Move, WorkPhoto
from popq.catalogue.db import Catalogue
from popq.catalogue.states import PhotoState
from popq.errors import Misconfigured, Outcome, Permanent, Throttled, Transient
from popq.flickr.client import FlickrClient
from popq.flickr.urls import SIZES, fallback, image_url
from popq.images import decode
from popq.images.doubt import OWNERS, REFUSALS, Doubt
from popq.images.fetch import HOST, Fetched, ImageClient
from popq.images.phash import perceptual_hash
from popq.images.store import Store, key_for
from popq.stages.batch import each
from popq.stages.ledger import Result
from popq.stages.permits import KeyRefused, OutOfPermits, Permits
from popq.stages.resolve import ask
from popq.stats.moments import Moments, from_histogram

log = structlog.get_logger()

#: What the image host says of photos that it does not give; the API's word is `not_found`.
_REFUSALS: Final = frozenset({Outcome.GONE, Outcome.PRIVATE, Outcome.PLACEHOLDER})
#: So many photos that were stored are asked for before the host's word is not believed.
_WITNESSES: Final = 3
#: Pixels on the long edge of the smallest size that is tried by rule: a photo that has none of
#: them is no larger, so an original that is has another fault.
_SMALL: Final = 320


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where the API says that an image is; `url` is a size beyond those that are tried by rule."""

    server: str
    secret: str
    url: str | None = None


class AskAgain:
    """Asks the API for the address of a photo whose image is refused.

    Without a key there is nobody to ask, and the image host's word is final.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        clients: Mapping[str, FlickrClient],
        calls_per_hour: float,
        image_base: str,
    ) -> None:
        """`clients` are the API keys' clients by the names of their rows in `hosts`."""
        self._catalogue = catalogue
        self._clients = clients
        self._calls_per_hour = calls_per_hour
        self._image_base = image_base

    def __call__(self, photo: WorkPhoto, refusal: Permanent) -> Whereabouts:
        """Return where the image is now.

        A photo that is where it was, and has none of the sizes that are tried, may have others: one
        more call says which (a tiny photo has its original and what is smaller). Raises `refusal`
        when there is nothing new to try, the API's `Permanent` when the photo has left, and
        `Transient` when no key can ask now.
        """
        moved = {Outcome.GONE, Outcome.PRIVATE}
        if not self._clients or photo.flickr_id is None or refusal.outcome not in moved:
            raise refusal
        info = ask(self._client(refusal), photo.flickr_id)
        if (info.server, info.secret) != (photo.server, photo.secret):
            return Whereabouts(info.server, info.secret)
        if refusal.outcome is not Outcome.GONE:
            raise refusal
        tried = {
            image_url(self._image_base, info.server, photo.flickr_id, info.secret, size)
            for size in SIZES
        }
        url = self._other_size(photo.flickr_id, tried, refusal)
        if url is None:
            raise refusal
        return Whereabouts(info.server, info.secret, url)

    def _other_size(self, flickr_id: int, tried: set[str], refusal: Permanent) -> str | None:
        """Return the URL of the largest small whole size that was not tried, None without one."""
        client = self._client(refusal)
        try:
            sizes = client.sizes(flickr_id)
        except Misconfigured as error:
            raise KeyRefused(str(error), client.host) from error
        best = None
        for size in sizes:  # ascending
            path = urlsplit(size.source).path
            url = f"{self._image_base}{path}"  # whatever host is named, the image host is asked
            mine = PurePosixPath(path).name.startswith(f"{flickr_id}_")
            small = max(size.width or 0, size.height or 0) <= _SMALL
            whole = size.media == "photo" and "Square" not in size.label
            if mine and small and whole and url not in tried:
                best = url
        return best

    def _client(self, refusal: Permanent) -> FlickrClient:
        for name, client in self._clients.items():
            with self._catalogue.begin() as tx:
                hosts.register(tx, name, self._calls_per_hour)
                if hosts.owe(tx, name):
                    return client
        message = f"{refusal}; whether it has moved cannot be asked now: no key is open"
        raise Transient(message, http_status=refusal.http_status)


class Download:
    """The download stage: `resolved` photos become `stored`, or leave with a reason."""

    name = "download"
    batch_size = 250

    def __init__(
        self,
        catalogue: Catalogue,
        client: ImageClient,
        store: Store,
        *,
        images_per_second: float,
        image_base: str,
        image_size: str,
        ask_again: AskAgain,
    ) -> None:
        """`ask_again` asks the API about a photo whose image is refused."""
        self._catalogue = catalogue
        self._client = client
        self._doubt = Doubt()
        self._ask_again = ask_again
        self._store = store
        self.rates = {HOST: images_per_second * 3600}
        self._image_base = image_base
        self._image_size = image_size

    def process(self, photos: Sequence[WorkPhoto], permits: Permits) -> Generator[Result]:
        """Yield each photo's move or failed try.

        What the image host alone says of photos that it refuses is held back until it sends an
        image again. When it refuses too many in a row it must prove itself on a photo that it
        served before; if it cannot, `Misconfigured` is raised and none of them has moved.
        """
        held: list[Result] = []
        try:
            for result in each(partial(self._one, permits), photos):
                if isinstance(result, Move) and result.reason in _REFUSALS:
                    held.append(result)
                    if self._doubt.refused():
                        self._ask_a_witness(permits, result)
                else:
                    yield result
                if not self._doubt.refusals:
                    yield from held
                    held.clear()
            if held and self._doubt.refusals >= REFUSALS:  # since others were refused too
                self._ask_a_witness(permits, held[-1])
        except (OutOfPermits, Throttled):
            # A stretch of dead photos must end at any rate.
            yield from held
            raise
        yield from held

    def _one(self, permits: Permits, photo: WorkPhoto) -> Move:
        news: dict[str, Any] = {}
        try:
            url, fetched = self._fetch(permits, photo)
        except Permanent as refusal:
            # Secrets change when a photo is replaced or hidden for a while: the URL is dead, the
            # photo may live. The API knows, and its word on a photo that left is better.
            where = self._ask_again(photo, refusal)
            news = {"server": where.server, "secret": where.secret}
            if where.url is None:
                url, fetched = self._fetch(permits, photo._replace(**news))
            else:
                permits.owe(HOST)
                url, fetched = where.url, self._client.fetch(where.url)
        picture = decode.decode(io.BytesIO(fetched.data))
        if photo.flickr_id is not None:
            self._check_bytes(photo, fetched)
            self._doubt.served()
        moments = from_histogram(decode.crop(picture.image).histogram())
        key = key_for(fetched.sha256, picture.format)
        self._store.put(fetched.data, key)
        values = {
            **news,
            "image_url": url,
            "file_key": key,
            "sha256": fetched.sha256,
            "phash": perceptual_hash(picture.image),
            "bytes": len(fetched.data),
            "width": picture.width,
            "height": picture.height,
            "format": picture.format,
        }
        return Move(photo.id, PhotoState.STORED, values=values, moments=_columns(moments))

    def _check_bytes(self, photo: WorkPhoto, fetched: Fetched) -> None:
        """Refuse bytes that came for photos of too many people, here and where they are stored."""
        owner = photo.owner or f"photo {photo.id}"
        if not self._doubt.is_stand_in(fetched.sha256, owner):
            return
        with self._catalogue.begin() as tx:
            back = files.no_photos(tx, fetched.sha256)
        what = f"the same {len(fetched.data):,} bytes came for photos of {OWNERS} owners or more"
        if back:
            log.error("a stand-in picture", what=what, sha256=fetched.sha256, taken_back=back)
        message = f"{what} (sha256 {fetched.sha256}): a stand-in, not the photo"
        raise Transient(message, outcome=Outcome.PLACEHOLDER)

    def _ask_a_witness(self, permits: Permits, refusal: Result) -> None:
        """Ask for photos that the host served before; raise `Misconfigured` when it has none."""
        with self._catalogue.read() as tx:
            known = files.newest_images(tx, _WITNESSES)
        for flickr_id, server, secret in known:
            permits.owe(HOST)
            url = image_url(self._image_base, server, flickr_id, secret, self._image_size)
            try:
                decode.decode(io.BytesIO(self._client.fetch(url).data))
            except Permanent:
                continue
            except Transient as error:
                raise Throttled(f"it is in doubt: {error}", host=HOST) from error
            self._doubt.served()
            return
        note = refusal.note if isinstance(refusal, Move) else None
        last = note.message if note is not None else "no answer"
        message = f"The image host {self._image_base} refused {REFUSALS} photos in a row, and what"
        raise Misconfigured(
            f"{message} it served before too, if it ever did; none of them is marked. The last: "
            f"{last}. Look at POPQ_FLICKR_IMAGE_URL and at the proxy; if these photos are really"
            " gone, set POPQ_FLICKR_KEYS, so that the API can say so."
        )

    def _fetch(self, permits: Permits, photo: WorkPhoto) -> tuple[str, Fetched]:
        """Fetch the first rendition that the host has; `Permanent` (gone) when it has none."""
        if photo.flickr_id is None and photo.image_url is not None:
            # A file of a folder: no host, so nobody's budget.
            return photo.image_url, self._client.fetch(photo.image_url)
        refused = Permanent("its row has no image URL", outcome=Outcome.GONE)
        host = permits.take()
        for number, url in enumerate(self._urls(photo)):
            if number:
                # In debt if need be: a photo that began again and again would never end.
                permits.owe(host)
            try:
                return url, self._client.fetch(url)
            except Permanent as error:
                if error.outcome is not Outcome.GONE:
                    raise
                refused = error  # this size is missing; another may be there
        raise refused

    def _urls(self, photo: WorkPhoto) -> list[str]:
        if photo.flickr_id is None or photo.server is None or photo.secret is None:
            return [photo.image_url] if photo.image_url else []
        known = (self._image_base, photo.server, photo.flickr_id, photo.secret)
        return [image_url(*known, size) for size in fallback(self._image_size)]


def _columns(moments: Moments) -> dict[str, int]:
    names = ("sum_r", "sum_g", "sum_b", "square_r", "square_g", "square_b")
    values = (*moments.sums, *moments.squares)
    return {"pixels": moments.pixels, **dict(zip(names, values, strict=True))}
