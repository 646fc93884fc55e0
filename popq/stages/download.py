"""Download: fetch the image, check it by full decode, measure it, store it."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from popq.catalogue import hosts
from popq.catalogue.batches import Move, WorkPhoto
from popq.catalogue.db import Catalogue
from popq.catalogue.states import PhotoState
from popq.errors import Outcome, Permanent, Transient
from popq.flickr.client import FlickrClient, PhotoInfo
from popq.flickr.urls import fallback, image_url
from popq.images import decode
from popq.images.fetch import HOST, Fetched, ImageClient
from popq.images.phash import perceptual_hash
from popq.images.store import Store, key_for
from popq.stages.batch import Result, each
from popq.stages.permits import Permits
from popq.stages.resolve import ask
from popq.stats.moments import Moments, from_histogram


class AskAgain:
    """Asks the API for the address of a photo whose image is refused.

    Without a key there is nobody to ask, and the image host's word is final.
    """

    def __init__(
        self, catalogue: Catalogue, clients: Mapping[str, FlickrClient], calls_per_hour: float
    ) -> None:
        """`clients` are the API keys' clients by the names of their rows in `hosts`."""
        self._catalogue = catalogue
        self._clients = clients
        self._calls_per_hour = calls_per_hour

    def __call__(self, photo: WorkPhoto, refusal: Permanent) -> PhotoInfo:
        """Return where the image is now.

        Raises `refusal` when it is where it was, the API's `Permanent` when the photo has left,
        and `Transient` when no key can ask now.
        """
        moved = {Outcome.GONE, Outcome.PRIVATE}
        if not self._clients or photo.flickr_id is None or refusal.outcome not in moved:
            raise refusal
        info = ask(self._client(refusal), photo.flickr_id)
        if (info.server, info.secret) == (photo.server, photo.secret):
            raise refusal
        return info

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
        client: ImageClient,
        store: Store,
        *,
        images_per_second: float,
        image_base: str,
        image_size: str,
        ask_again: AskAgain,
    ) -> None:
        """`ask_again` asks the API about a photo whose image is refused."""
        self._client = client
        self._ask_again = ask_again
        self._store = store
        self.rates = {HOST: images_per_second * 3600}
        self._image_base = image_base
        self._image_size = image_size

    def process(self, photos: Sequence[WorkPhoto], permits: Permits) -> Generator[Result]:
        """Yield each photo's move or failed try."""
        yield from each(partial(self._one, permits), photos)

    def _one(self, permits: Permits, photo: WorkPhoto) -> Move:
        news: dict[str, Any] = {}
        with self._scratch() as path:
            try:
                url, fetched = self._fetch(permits, photo, path)
            except Permanent as refusal:
                # Secrets change when a photo is replaced or hidden for a while: the URL is dead,
                # the photo may live. The API knows, and its word on a photo that left is better.
                info = self._ask_again(photo, refusal)
                news = {"server": info.server, "secret": info.secret}
                url, fetched = self._fetch(permits, replace(photo, **news), path)
            picture = decode.decode(path)
            moments = from_histogram(decode.crop(picture.image).histogram())
            key = key_for(fetched.sha256, picture.format)
            self._store.put(path, key)
        values = {
            **news,
            "image_url": url,
            "file_key": key,
            "sha256": fetched.sha256,
            "phash": perceptual_hash(picture.image),
            "bytes": fetched.bytes,
            "width": picture.width,
            "height": picture.height,
            "format": picture.format,
        }
        return Move(photo.id, PhotoState.STORED, values=values, moments=_columns(moments))

    @contextlib.contextmanager
    def _scratch(self) -> Iterator[Path]:
        path = self._store.scratch() / f"{uuid.uuid4().hex}.part"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _fetch(self, permits: Permits, photo: WorkPhoto, path: Path) -> tuple[str, Fetched]:
        """Fetch the first rendition that the host has; `Permanent` (gone) when it has none."""
        if photo.flickr_id is None and photo.image_url is not None:
            # A file of a folder: no host, so nobody's budget.
            return photo.image_url, self._client.fetch(photo.image_url, path)
        refused = Permanent("its row has no image URL", outcome=Outcome.GONE)
        host = permits.take()
        for number, url in enumerate(self._urls(photo)):
            if number:
                # In debt if need be: a photo that began again and again would never end.
                permits.owe(host)
            try:
                return url, self._client.fetch(url, path)
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
