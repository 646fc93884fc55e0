"""Resolve: ask the API where a photo's image is, and keep what else it says of the photo."""

from __future__ import annotations

import datetime as dt
from collections.abc import Generator, Mapping, Sequence
from functools import partial

from popq.catalogue.batches import Lease, Move, WorkPhoto
from popq.catalogue.states import PhotoState
from popq.errors import Misconfigured, Outcome, Permanent
from popq.flickr.client import FlickrClient, Page, PhotoInfo
from popq.flickr.urls import image_url
from popq.stages.batch import each
from popq.stages.ledger import Result
from popq.stages.permits import KeyRefused, Permits
from popq.stages.stream import Turned, walk


def ask(client: FlickrClient, flickr_id: int) -> PhotoInfo:
    """Ask about a photo; `KeyRefused` names the key that must be taken out."""
    try:
        return client.photo_info(flickr_id)
    except Misconfigured as error:
        raise KeyRefused(str(error), client.host) from error


def flickr_id_of(photo: WorkPhoto) -> int:
    """Return the id by which Flickr knows the photo."""
    if photo.flickr_id is None:
        raise ValueError(f"photo {photo.id} is none of Flickr's")
    return photo.flickr_id


class Resolve:
    """The resolve stage: `listed` photos become `resolved`, or leave with a reason."""

    name = "resolve"
    batch_size = 25

    def __init__(
        self,
        clients: Mapping[str, FlickrClient],
        *,
        calls_per_hour: float,
        image_base: str,
        image_size: str,
    ) -> None:
        """`clients` by the names of their rows in `hosts`: one an API key."""
        if not clients:
            message = "There is no Flickr API key; set POPQ_FLICKR_KEYS=key:secret"
            raise Misconfigured(
                f"{message} (keys need a Flickr Pro account; photos whose list rows are image"
                " URLs need none), or ask without one by --via oembed."
            )
        self._clients = clients
        self.rates = dict.fromkeys(clients, calls_per_hour)
        self._image_base = image_base
        self._image_size = image_size

    def process(self, photos: Sequence[WorkPhoto], permits: Permits) -> Generator[Result]:
        """Yield each photo's move or failed try; one API call a photo."""
        yield from each(partial(self._one, permits), photos)

    def process_owner(
        self, lease: Lease, photos: Sequence[WorkPhoto], permits: Permits
    ) -> Generator[Result | Turned]:
        """Yield each photo of an owner's batch: by the owner's pages, the others one by one."""
        left = {photo.flickr_id: photo for photo in photos if photo.flickr_id is not None}
        said: dict[int, PhotoInfo] = {}

        def found_here(photo: WorkPhoto) -> Move:
            return self._move(photo, said[photo.id])

        # Before the first page none found anything: a batch opened again begins anew.
        got = lease.got if lease.page > 1 else 0
        pages = walk(set(left), partial(self._page, permits, lease), lease.page, got)
        for infos, page in pages:
            found = [left.pop(info.flickr_id) for info in infos]
            said = {photo.id: info for photo, info in zip(found, infos, strict=True)}
            yield from each(found_here, found)
            yield Turned(page)
        yield from self.process(list(left.values()), permits)

    def _page(self, permits: Permits, lease: Lease, page: int) -> Page:
        client = self._clients[permits.take()]
        if lease.owner is None:
            raise ValueError(f"batch {lease.batch} has no owner whose photos could be listed")
        try:
            return client.public_photos(lease.owner, page)
        except Misconfigured as error:
            raise KeyRefused(str(error), client.host) from error

    def _one(self, permits: Permits, photo: WorkPhoto) -> Move:
        client = self._clients[permits.take()]
        return self._move(photo, ask(client, flickr_id_of(photo)))

    def _move(self, photo: WorkPhoto, info: PhotoInfo) -> Move:
        return move(photo, info, self._image_base, self._image_size)


def move(photo: WorkPhoto, info: PhotoInfo, image_base: str, image_size: str) -> Move:
    """Return the step of a photo of which Flickr says `info`; `Permanent` for a video."""
    if info.media != "photo":
        raise Permanent(f"Flickr says it is a {info.media}", outcome=Outcome.VIDEO)
    posted = info.posted_at
    said = {
        "server": info.server,
        "secret": info.secret,
        "image_url": image_url(image_base, info.server, info.flickr_id, info.secret, image_size),
        "owner": None if info.owner == photo.owner else info.owner,
        "title": info.title,
        "tags": " ".join(info.tags) or None,
        "views": info.views,
        "posted_at": None if posted is None else dt.datetime.fromtimestamp(posted, dt.UTC),
        "taken_at": info.taken_at,
        "licence": info.licence,
    }
    # What Flickr leaves out may be known from a file; an owner who is known is not written
    # again, since there is an index of owners.
    values = {name: value for name, value in said.items() if value is not None}
    return Move(photo.id, PhotoState.RESOLVED, values=values)
