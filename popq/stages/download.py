"""Download: fetch the image, check it by full decode, measure it, store it."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import structlog

from popq.catalogue import files, hosts
from popq.catalogue.batches import FINAL_AFTER, Move, WorkPhoto
from popq.catalogue.db import Catalogue
from popq.catalogue.states import PhotoState
from popq.errors import Misconfigured, Outcome, Permanent, Throttled, Transient
from popq.flickr.client import FlickrClient, PhotoInfo, Size
from popq.flickr.urls import SIZES, fallback, image_url
from popq.images import decode
from popq.images.budget import Budget, give_back_large_blocks
from popq.images.doubt import OWNERS, REFUSALS, Doubt
from popq.images.fetch import HOST, Fetched, ImageClient
from popq.images.phash import perceptual_hash
from popq.images.store import Store, key_for
from popq.stages.batch import each
from popq.stages.kept import Kept
from popq.stages.ledger import Result
from popq.stages.permits import KeyRefused, OutOfPermits, Permits, PutOff, grant_of_any
from popq.stages.streak import FAULTS, HostDown, Streak
from popq.stages.verdicts import hold
from popq.stats.moments import Moments, from_histogram

log = structlog.get_logger()

_T = TypeVar("_T")
#: Says how many bytes of memory are wanted, and waits for them.
Spend = Callable[[int], None]

#: As many threads decode and measure at a time as there are cores: more would fight for the
#: interpreter's lock, however many wait for a slow network.
_MEASURING: Final = threading.BoundedSemaphore(os.cpu_count() or 1)
#: What the image host says of photos that it does not give; the API's word is `not_found`.
_REFUSALS: Final = frozenset({Outcome.GONE, Outcome.PRIVATE, Outcome.PLACEHOLDER})
#: … and what it says of a size that is missing, so that another may be there.
_MISSING: Final = frozenset({Outcome.GONE, Outcome.PLACEHOLDER})
#: What it may say, or send in place of photos, only because it is at fault for all of them.
_DOUBTFUL: Final = _REFUSALS | {Outcome.TOO_SMALL, Outcome.TOO_LARGE}
#: So many photos that were stored are asked for before the host's word is not believed.
_WITNESSES: Final = 3
#: Bytes of large files that all threads together hold, from their arrival until they are stored.
_FILES: Final = Budget(60_000_000)
#: Pixels on the long edge of the smallest size that is tried by rule: a photo that has none of
#: them is no larger, so an original that is has another fault.
_SMALL: Final = 320


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where the API says that an image is; `url` is a size beyond those that are tried by rule."""

    info: PhotoInfo
    url: str | None = None


class AskAgain:
    """Asks the API for the address of a photo whose image is refused.

    Without a key there is nobody to ask, and the image host's word is final. The calls come out of
    the keys' budgets, and what goes wrong with the API is blamed on it: not on the photo, which is
    put off, nor on the image host.
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
        self.rates = dict.fromkeys(clients, calls_per_hour)
        self._image_base = image_base
        self._streak = Streak()
        # Photos whose sizes could not be asked for any more: with a budget of one call at a time
        # they would begin again and again.
        self._known: Kept[int, PhotoInfo] = Kept()

    def __call__(
        self,
        photo: WorkPhoto,
        refusal: Permanent,
        info: PhotoInfo | None = None,
        *,
        old: bool = False,
    ) -> Whereabouts:
        """Return where the image is now; `info` is what the API has just said of it, if it has.

        `old` says that the host refused it a while ago. It may have been in trouble then: of a
        photo that the API still shows it is asked once more.

        A photo that is where it was, and has none of the sizes that are tried, may have others: one
        more call says which (a tiny photo has its original and what is smaller). Raises `refusal`
        when there is nothing new to try and the API's `Permanent` when the photo has left. `PutOff`
        when no key has a call to give now; `Throttled`, `KeyRefused` and `HostDown` name the key;
        `Transient` for a single fault of the API (as `host_down`), or when all keys are refused.
        """
        forbidden = refusal.http_status == HTTPStatus.OK  # by X-Robots-Tag, wherever it lies
        number = photo.flickr_id
        if not self._clients or number is None or forbidden or refusal.outcome not in _REFUSALS:
            raise refusal
        info = info or self._known.take(number)
        if info is None:
            info = self._ask(photo, refusal, lambda client: client.photo_info(number))
            if old:
                return Whereabouts(info)
        if (info.server, info.secret) != (photo.server, photo.secret):
            return Whereabouts(info)
        if refusal.outcome not in _MISSING:
            raise refusal
        try:
            sizes = self._ask(photo, refusal, lambda client: client.sizes(number))
        except PutOff:
            self._known.keep(number, info)
            raise
        url = self._other_size(info, sizes)
        if url is None:
            raise refusal
        return Whereabouts(info, url)

    def _ask(self, photo: WorkPhoto, refusal: Permanent, call: Callable[[FlickrClient], _T]) -> _T:
        """Spend one call of the first key that has one to give."""
        client = self._clients[self._key(refusal)]
        try:
            answer = call(client)
        except Misconfigured as error:
            raise KeyRefused(str(error), client.host) from error
        except Transient as error:
            message = f"{refusal}; whether it has moved cannot be asked: {error}"
            if self._streak.failed(photo.id):
                why = f"{FAULTS} photos in a row failed, the last: {message}"
                raise HostDown(why, client.host) from error
            status, down = error.http_status, Outcome.HOST_DOWN
            raise Transient(message, outcome=down, http_status=status) from error
        except Permanent:
            self._answered(client.host)
            raise
        self._answered(client.host)
        return answer

    def _answered(self, host: str) -> None:
        self._streak.answered()
        with self._catalogue.begin() as tx:
            hosts.calm(tx, host)

    def _key(self, refusal: Permanent) -> str:
        names = list(self._clients)
        try:
            return grant_of_any(self._catalogue, names, 1).host
        except OutOfPermits as error:
            with self._catalogue.read() as tx:
                why = hosts.disabled(tx, names)
            if why is None:
                raise PutOff(error.wait_s) from error
            # No wait helps. The others go on; a job may end with this one left.
            message = f"{refusal}; whether it has moved cannot be asked: {why}"
            status, auth = refusal.http_status, Outcome.AUTH
            raise Transient(message, outcome=auth, http_status=status) from error

    def _other_size(self, info: PhotoInfo, sizes: Sequence[Size]) -> str | None:
        """Return the URL of the largest small whole size that was not tried, None without one."""
        known = (self._image_base, info.server, info.flickr_id, info.secret)
        tried = {image_url(*known, size) for size in SIZES}
        best = None
        for size in sizes:  # ascending
            path = urlsplit(size.source).path
            url = f"{self._image_base}{path}"  # whatever host is named, the image host is asked
            mine = PurePosixPath(path).name.startswith(f"{info.flickr_id}_")
            small = max(size.width or 0, size.height or 0) <= _SMALL
            whole = size.media == "photo" and "Square" not in size.label
            if mine and small and whole and url not in tried:
                best = url
        return best


@dataclass(frozen=True, slots=True)
class Heard:
    """What this process has heard from the image host since it was last found out.

    `put_off` is what it said of photos, by number and address, that wait for the API. Asked for in
    every size each time, they would use up its budget before those behind them have their turn.
    """

    doubt: Doubt = field(default_factory=Doubt)
    put_off: Kept[tuple[int, str | None, str | None], Permanent] = field(default_factory=Kept)


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
        give_back_large_blocks()
        self._catalogue = catalogue
        self._client = client
        self._heard = Heard()
        self._ask_again = ask_again
        self._store = store
        self.rates = {HOST: images_per_second * 3600}
        self.aside = ask_again.rates
        self._image_base = image_base
        self._image_size = image_size

    def process(self, photos: Sequence[WorkPhoto], permits: Permits) -> Generator[Result]:
        """Yield each photo's move or failed try.

        What the image host alone says of photos that it refuses, or sends a picture for that is
        too small or too large, is held back until it sends an image again. When it refuses too many
        in a row, or before a page or damaged bytes end a photo, it must prove itself on a photo
        that it served before; if it cannot, none of them has moved: it rests, or `Misconfigured` is
        raised.
        """
        # One for the whole batch: another thread may replace it, and what is held under this one is
        # not let go by what the host does afterwards.
        heard = self._heard

        def ask(said: str) -> None:
            if heard.doubt.too_many:  # so few are believed
                self._ask_a_witness(permits, heard.doubt, said)

        asked_for = {photo.id for photo in photos if photo.flickr_id is not None}

        def doubtful(move: Move) -> bool:
            return move.reason in _DOUBTFUL and move.photo in asked_for

        results = each(partial(self._one, permits, heard), photos)
        yield from hold(results, doubtful, heard.doubt, permits, ask, drop_if_throttled=False)

    def _one(self, permits: Permits, heard: Heard, photo: WorkPhoto) -> Move:
        try:
            with _FILES.open() as spend:
                return self._get(permits, heard, photo, spend)
        except Transient as error:
            final_after = FINAL_AFTER.get(error.outcome)
            if photo.flickr_id is None or final_after is None:
                raise
            # A page or damaged bytes: of this photo, or of a host that sends that to all.
            final = photo.tries.get(error.outcome, 0) + 1 >= final_after
            if heard.doubt.refused() or final:
                self._ask_a_witness(permits, heard.doubt, str(error))
            if not final:
                raise
        # The host is well, perhaps since a moment ago: only what it says now ends the photo.
        permits.borrow(HOST)
        with _FILES.open() as spend:
            return self._get(permits, heard, photo, spend)

    def _get(self, permits: Permits, heard: Heard, photo: WorkPhoto, spend: Spend) -> Move:
        news, url, fetched = self._find(permits, heard, photo, spend)
        with _MEASURING:
            picture = decode.decode(io.BytesIO(fetched.data))
            moments = from_histogram(decode.crop(picture.image).histogram())
            looks = perceptual_hash(picture.image)
        if photo.flickr_id is not None:
            self._check_bytes(heard.doubt, photo, fetched)
            heard.doubt.served()
        key = key_for(fetched.sha256, picture.format)
        self._store.put(fetched.data, key)
        values = {
            **news,
            "image_url": url,
            "file_key": key,
            "sha256": fetched.sha256,
            "phash": looks,
            "bytes": len(fetched.data),
            "width": picture.width,
            "height": picture.height,
            "format": picture.format,
        }
        other = photo.sha256 not in (None, fetched.sha256)
        sums = _columns(moments)
        return Move(photo.id, PhotoState.STORED, values=values, moments=sums, other_bytes=other)

    def _find(
        self, permits: Permits, heard: Heard, photo: WorkPhoto, spend: Spend
    ) -> tuple[dict[str, Any], str, Fetched]:
        """Fetch an image from where it was, else from where the API says; return what is new of it.

        What the host said of a photo that must wait before it has an end is kept and counted once,
        for as long as nobody knows another address of it.
        """
        address = (photo.id, photo.server, photo.secret)
        refusal = before = heard.put_off.take(address)
        if refusal is None:
            try:
                return {}, *self._fetch(permits, photo, spend)
            except Permanent as error:
                refusal = error
        try:
            return self._fetch_elsewhere(permits, photo, refusal, spend, old=before is not None)
        except OutOfPermits as wait:
            if before is None and isinstance(wait, PutOff):
                heard.doubt.refused()
            # Said anew: a traceback would keep everything alive that is under way here.
            said, status = str(refusal), refusal.http_status
            kept = Permanent(said, outcome=refusal.outcome, http_status=status)
            heard.put_off.keep(address, kept)
            raise

    def _fetch_elsewhere(
        self, permits: Permits, photo: WorkPhoto, refusal: Permanent, spend: Spend, *, old: bool
    ) -> tuple[dict[str, Any], str, Fetched]:
        """Fetch an image from where the API says that it is; return that address, too.

        Secrets change when a photo is replaced or hidden for a while: the URL is dead, the photo
        may live. The API knows, and its word on a photo that left is better.
        """
        where = self._ask_again(photo, refusal, old=old)
        news: dict[str, Any] = {"server": where.info.server, "secret": where.info.secret}
        if where.url is None:
            photo = photo._replace(**news)
            try:
                return news, *self._fetch(permits, photo, spend)
            except Permanent as again:
                # There, too, it may have none but the sizes that are not tried by rule.
                where = self._ask_again(photo, again, where.info)
                if where.url is None:
                    raise
        permits.owe(HOST)
        return news, where.url, self._client.fetch(where.url, spend, partial(permits.owe, HOST))

    def _check_bytes(self, doubt: Doubt, photo: WorkPhoto, fetched: Fetched) -> None:
        """Refuse bytes that came for photos of too many people, here and where they are stored."""
        owner = photo.owner or f"photo {photo.id}"
        if not doubt.is_stand_in(fetched.sha256, owner):
            return
        what = f"the same {len(fetched.data):,} bytes came for photos of {OWNERS} owners or more"
        # All rows are passed over, for each that comes: others may write meanwhile.
        with self._catalogue.read() as tx:
            any_stored = files.has_photos(tx, fetched.sha256)
        if any_stored:
            with self._catalogue.begin() as tx:
                back = files.no_photos(tx, fetched.sha256)
            log.error("a stand-in picture", what=what, sha256=fetched.sha256, taken_back=back)
        message = f"{what} (sha256 {fetched.sha256}): a stand-in, not the photo"
        raise Transient(message, outcome=Outcome.STAND_IN)

    def _ask_a_witness(self, permits: Permits, doubt: Doubt, said: str) -> None:
        """Ask for photos that the host served before; `said` is what it says now.

        Raises `Throttled` when it sends none of them whole now, and `Misconfigured` when it refuses
        them all or there are none, and it has refused too many in a row.
        """
        fault: Transient | None = None
        with self._catalogue.read() as tx:
            known = files.newest_images(tx, _WITNESSES)
        for served in known:
            permits.owe(HOST)
            # Server and file as they were (not every photo has the preferred size), of the host
            # that is asked now.
            url = "/".join((self._image_base, *urlsplit(served).path.split("/")[-2:]))
            try:
                found = self._client.fetch(url, pay=partial(permits.owe, HOST))
                decode.decode(io.BytesIO(found.data))
            except Permanent:
                continue
            except Transient as error:
                fault = error
                continue
            doubt.served()
            return
        if fault is not None:
            raise Throttled(f"it is in doubt: {fault}", host=HOST) from fault
        if not doubt.too_many:
            return
        # What is set right is asked anew, when the job goes on.
        self._heard = Heard()
        message = f"The image host {self._image_base} refused {REFUSALS} photos in a row, and what"
        ask_the_api = (
            "; if these photos are really gone, set POPQ_FLICKR_KEYS, so that the API can say so"
        )
        raise Misconfigured(
            f"{message} it served before too, if it ever did; none of them is marked. The last: "
            f"{said}. Look at POPQ_FLICKR_IMAGE_URL and at the proxy"
            f"{'' if self.aside else ask_the_api}."
        )

    def _fetch(self, permits: Permits, photo: WorkPhoto, spend: Spend) -> tuple[str, Fetched]:
        """Fetch the first rendition that the host has; `Permanent` (gone) when it has none."""
        if photo.flickr_id is None and photo.image_url is not None:
            # A file of a folder: no host, so nobody's budget.
            return photo.image_url, self._client.fetch(photo.image_url, spend)
        refused = Permanent("its row has no image URL", outcome=Outcome.GONE)
        # In debt if need be: a photo that began again and again would never end.
        owe = partial(permits.owe, permits.take())
        for number, url in enumerate(self._urls(photo)):
            if number:
                owe()
            try:
                return url, self._client.fetch(url, spend, owe)
            except Permanent as error:
                if error.outcome not in _MISSING:
                    raise
                refused = error
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
