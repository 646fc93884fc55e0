"""Resolve without a key: Flickr's oEmbed says where images are, and must prove that it does.

All that it says of a photo that it does not show is an HTTP status, which a proxy, a firewall or a
wrong URL says as well, and to every photo. The API's refusals need no proof: they are its own JSON.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Generator, Iterator, Sequence
from functools import partial
from typing import Final

from popq.catalogue import files
from popq.catalogue.batches import Move, WorkPhoto
from popq.catalogue.db import Catalogue
from popq.errors import Misconfigured, Outcome, Permanent, Throttled, Transient
from popq.flickr.client import PhotoInfo
from popq.flickr.oembed import OEmbedClient
from popq.images.doubt import Doubt
from popq.stages.batch import each
from popq.stages.ledger import Result
from popq.stages.permits import Permits
from popq.stages.resolve import Resolve, flickr_id_of, move
from popq.stages.verdicts import hold

#: What the service may have said only because it is not the service.
_REASONS: Final = frozenset({Outcome.NOT_FOUND, Outcome.PRIVATE})
#: So many refusals in a row are too many: fewer than a batch, which would be settled else.
_REFUSALS: Final = 10
#: So many photos that were shown bear witness.
_WITNESSES: Final = 3


class ResolveByOEmbed:
    """The resolve stage for who has no key: no owners' pages, and less is said of a photo."""

    name = Resolve.name
    batch_size = Resolve.batch_size

    def __init__(
        self,
        catalogue: Catalogue,
        client: OEmbedClient,
        *,
        calls_per_hour: float,
        image_base: str,
        image_size: str,
    ) -> None:
        """`client` is who is asked, at most `calls_per_hour` times an hour."""
        self._catalogue = catalogue
        self._client = client
        self.rates = {client.host: calls_per_hour}
        self._image_base = image_base
        self._image_size = image_size
        self._doubt = Doubt(_REFUSALS)
        self._shown: deque[int] = deque(maxlen=_WITNESSES)

    def process(self, photos: Sequence[WorkPhoto], permits: Permits) -> Generator[Result]:
        """Yield each photo's move or failed try; one call a photo.

        That a photo is not shown is held back until another one is. When too many in a row are
        not, and at a batch's end, photos that were shown before are asked for, or such as may be;
        if none is shown, no photo has moved: the service rests, or `Misconfigured` is raised.
        """
        # One for the whole batch: another thread may replace it, and what is held under this one is
        # not let go by what the service does afterwards.
        doubt = self._doubt
        results = each(partial(self._one, permits, doubt), photos)
        batch = [photo.flickr_id for photo in photos if photo.flickr_id is not None]
        ask = partial(self._ask_a_witness, permits, doubt, batch)

        def doubtful(move: Move) -> bool:
            return move.reason in _REASONS

        yield from hold(results, doubtful, doubt, permits, ask, drop_if_throttled=True)

    def _one(self, permits: Permits, doubt: Doubt, photo: WorkPhoto) -> Move:
        permits.take()
        info = self._info(doubt, flickr_id_of(photo))
        return move(photo, info, self._image_base, self._image_size)

    def _info(self, doubt: Doubt, flickr_id: int) -> PhotoInfo:
        info = self._client.photo_info(flickr_id)
        doubt.served()
        self._shown.append(flickr_id)
        return info

    def _ask_a_witness(
        self, permits: Permits, doubt: Doubt, batch: Collection[int], said: str
    ) -> None:
        """Ask for photos outside of the batch until one is shown; `said` is what it says now."""
        before, fault = bool(self._shown), None
        for flickr_id in self._witnesses(batch):
            permits.owe(self._client.host)
            try:
                self._info(doubt, flickr_id)
            except Permanent:
                doubt.refused()
            except Transient as error:
                fault = error
            else:
                return
        if fault is not None:
            raise Throttled(f"it is in doubt: {fault}", host=self._client.host) from fault
        if not before and not doubt.too_many:
            return  # a list of a few dead photos must end
        # What is set right is asked anew, when the job goes on.
        self._doubt = Doubt(_REFUSALS)
        raise Misconfigured(
            f"Flickr's oEmbed service at {self._client.url} refused {doubt.refusals} photos"
            " in a row, and what it showed before too, if it ever did; none of them is marked."
            f" The last: {said}. Look at POPQ_FLICKR_OEMBED_URL and at the proxy; if these photos"
            " are really gone, set POPQ_FLICKR_KEYS and ask the API, which can say so."
        )

    def _witnesses(self, batch: Collection[int]) -> Iterator[int]:
        yield from reversed(self._shown.copy())
        with self._catalogue.read() as tx:
            others = files.probably_shown(tx, _WITNESSES)
            others += files.listed(tx, _REFUSALS, but=batch)
        yield from others
