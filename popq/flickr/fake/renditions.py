"""The sizes in which the fake image host serves a photo, made from its original with Pillow.

Sizes, labels and the rules when a size exists (the original reaches it, the photo is young enough)
are those of flickr.com/services/api/misc.urls.html; `z` exists for every photo (40 of 40 recorded).
What was made is kept, up to a bound in bytes, and made anew when the photo's bytes change.
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections import OrderedDict
from typing import NamedTuple

from PIL import Image, ImageOps

from popq.flickr.fake.looks import disguise
from popq.flickr.fake.world import FakePhoto, Look
from popq.flickr.urls import SHARED_SECRET_SIZES

_KEPT_BYTES = 128 * 2**20
_QUALITY = 85
_FREE_LONG_EDGE = 1024  # nothing above it is served for owners with a free account

# "Before May 25th 2010 large only for very large originals; 800/1600/2048 only after March 1st
# 2012"; how large is very large is not said.
_LARGE_SINCE = 1_274_745_600
_VERY_LARGE = 1280
_MORE_SIZES_SINCE = 1_330_560_000


class Rendition(NamedTuple):
    """One size: suffix in URLs, label in getSizes, long edge in pixels, cropped square or not.

    `letters` stand for it in the pages of getSizes and in the extras of list methods.
    """

    suffix: str
    label: str
    long_edge: int
    letters: str
    square: bool = False


RENDITIONS = (
    Rendition("s", "Square", 75, "sq", square=True),
    Rendition("q", "Large Square", 150, "q", square=True),
    Rendition("t", "Thumbnail", 100, "t"),
    Rendition("m", "Small", 240, "s"),
    Rendition("n", "Small 320", 320, "n"),
    Rendition("w", "Small 400", 400, "w"),
    Rendition("", "Medium", 500, "m"),
    Rendition("z", "Medium 640", 640, "z"),
    Rendition("c", "Medium 800", 800, "c"),
    Rendition("b", "Large", 1024, "l"),
    Rendition("h", "Large 1600", 1600, "h"),
    Rendition("k", "Large 2048", 2048, "k"),
    Rendition("3k", "X-Large 3K", 3072, "3k"),
    Rendition("4k", "X-Large 4K", 4096, "4k"),
    Rendition("5k", "X-Large 5K", 5120, "5k"),
    Rendition("6k", "X-Large 6K", 6144, "6k"),
)
_YOUNG = frozenset({"c", "h", "k", "3k", "4k", "5k", "6k"})
_BY_SUFFIX = {size.suffix: size for size in RENDITIONS}
ORIGINAL = "o"


class Picture(NamedTuple):
    """What a file says of itself: width and height in pixels as shown, Pillow's format name."""

    width: int
    height: int
    format: str
    rotated: bool


class Served(NamedTuple):
    """One file as it goes out, and what its header says; None for bytes that are no image."""

    body: bytes
    picture: Picture | None


class _Kept(NamedTuple):
    original: bytes
    picture: Picture | None
    served: Served


def look(data: bytes) -> Picture | None:
    """Read the header of an image; None for bytes that Pillow does not know."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            turned = image.getexif().get(0x0112, 1)
            if turned in {5, 6, 7, 8}:
                width, height = height, width
            return Picture(width, height, image.format or "", turned != 1)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


def available(photo: FakePhoto, picture: Picture) -> list[Rendition]:
    """Sizes that exist for a photo, smallest first, the original not among them."""
    reach = max(picture.width, picture.height)
    return [size for size in RENDITIONS if _exists(size, photo, reach)]


def _exists(size: Rendition, photo: FakePhoto, reach: int) -> bool:
    if size.suffix == "z":
        return True
    if photo.free_account and size.long_edge > _FREE_LONG_EDGE:
        return False
    if photo.posted_at < _MORE_SIZES_SINCE and size.suffix in _YOUNG:
        return False
    if photo.posted_at < _LARGE_SINCE and size.suffix == "b":
        return reach >= _VERY_LARGE
    return size.long_edge <= reach


def secret_of(photo: FakePhoto, suffix: str) -> str:
    """Secret in the URL of one size: the photo's own up to 1024 pixels, above it one each."""
    if suffix in SHARED_SECRET_SIZES:
        return photo.secret
    return hashlib.sha256(f"{suffix}{photo.secret}".encode()).hexdigest()[:10]


def shown_size(rendition: Rendition, picture: Picture) -> tuple[int, int]:
    """Width and height of a rendition in pixels."""
    if rendition.square:
        return rendition.long_edge, rendition.long_edge
    reach = max(picture.width, picture.height)
    scale = min(1.0, rendition.long_edge / reach)
    return max(1, round(picture.width * scale)), max(1, round(picture.height * scale))


class Cache:
    """Files made from originals, the ones longest unused forgotten first; safe between threads."""

    def __init__(self, kept_bytes: int = _KEPT_BYTES) -> None:
        self._lock = threading.Lock()
        self._room = self._all = kept_bytes
        self._files: OrderedDict[tuple[int, str, Look], _Kept] = OrderedDict()

    def serve(self, photo: FakePhoto, suffix: str) -> Served | None:
        """Return a photo in one size; None where that size does not exist.

        Bytes that are no image are served as they are, as `z` and as the original only.
        """
        if suffix == ORIGINAL and not photo.has_original:
            return None
        data = photo.image()
        key = (photo.flickr_id, suffix, photo.look)
        with self._lock:
            kept = self._files.get(key)
            if kept is not None and kept.original == data:
                self._files.move_to_end(key)
            else:
                kept = None
        if kept is not None:
            return kept.served if _still_exists(photo, suffix, kept.picture) else None
        return self._make(photo, suffix, data, key)

    def kept_bytes(self) -> int:
        """Bytes of all files that are kept, originals included."""
        return self._all - self._room

    def _make(
        self, photo: FakePhoto, suffix: str, data: bytes, key: tuple[int, str, Look]
    ) -> Served | None:
        picture = look(data)
        made = _made(photo, suffix, data, picture)
        if made is None:
            return None
        served = Served(made, look(made) if made is not data else picture)
        if photo.look is not Look.RESTLESS:
            self._keep(key, _Kept(data, picture, served))
        return served

    def _keep(self, key: tuple[int, str, Look], kept: _Kept) -> None:
        with self._lock:
            old = self._files.pop(key, None)
            self._room += 0 if old is None else _weight(old)
            self._files[key] = kept
            self._room -= _weight(kept)
            while self._room < 0 and len(self._files) > 1:
                _, oldest = self._files.popitem(last=False)
                self._room += _weight(oldest)


def _still_exists(photo: FakePhoto, suffix: str, picture: Picture | None) -> bool:
    if picture is None or suffix == ORIGINAL:
        return True
    return _exists(_BY_SUFFIX[suffix], photo, max(picture.width, picture.height))


def _weight(kept: _Kept) -> int:
    return len(kept.original) + len(kept.served.body)


def _made(photo: FakePhoto, suffix: str, data: bytes, picture: Picture | None) -> bytes | None:
    if picture is None:
        return data if suffix in {"z", ORIGINAL} else None
    if suffix == ORIGINAL:
        return data
    for size in available(photo, picture):
        if size.suffix == suffix:
            small = max(picture.width, picture.height) <= size.long_edge
            whole = small and picture.format == "JPEG" and not size.square and not picture.rotated
            jpeg = data if whole else _render(data, size, shown_size(size, picture))
            return disguise(jpeg, photo.look)
    return None


def _render(data: bytes, rendition: Rendition, size: tuple[int, int]) -> bytes:
    with Image.open(io.BytesIO(data)) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")
    if rendition.square:
        image = ImageOps.fit(image, size)
    else:
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=_QUALITY)
    return out.getvalue()
