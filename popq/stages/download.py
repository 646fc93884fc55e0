"""Download: fetch the image, check it by full decode, measure it, store it."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Generator, Iterator, Sequence
from functools import partial
from pathlib import Path

from popq.catalogue.batches import Move, WorkPhoto
from popq.catalogue.states import PhotoState
from popq.errors import Outcome, Permanent
from popq.flickr.urls import fallback, image_url
from popq.images import decode
from popq.images.fetch import HOST, Fetched, ImageClient
from popq.images.store import Store, key_for
from popq.stages.batch import Permits, Result, each
from popq.stats.moments import Moments, from_histogram


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
    ) -> None:
        self._client = client
        self._store = store
        self.rates = {HOST: images_per_second * 3600}
        self._image_base = image_base
        self._image_size = image_size

    def process(self, photos: Sequence[WorkPhoto], permits: Permits) -> Generator[Result]:
        """Yield each photo's move or failed try."""
        yield from each(partial(self._one, permits), photos)

    def _one(self, permits: Permits, photo: WorkPhoto) -> Move:
        with self._scratch() as path:
            url, fetched = self._fetch(permits, photo, path)
            picture = decode.decode(path)
            moments = from_histogram(decode.crop(picture.image).histogram())
            key = key_for(fetched.sha256, picture.format)
            self._store.put(path, key)
        values = {
            "image_url": url,
            "file_key": key,
            "sha256": fetched.sha256,
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
        refused = Permanent("its row has no image URL", outcome=Outcome.GONE)
        for url in self._urls(photo):
            permits.take()
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
