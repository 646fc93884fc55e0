"""The sizes in which the fake image host serves a photo, made from its original with Pillow.

Sizes, labels and the rule that a size exists when the original reaches it are those of
flickr.com/services/api/misc.urls.html; `z` exists for every photo (40 of 40 recorded).
"""

from __future__ import annotations

import hashlib
import io
from functools import lru_cache
from typing import NamedTuple

from PIL import Image, ImageOps

from popq.flickr.fake.world import FakePhoto
from popq.flickr.urls import SHARED_SECRET_SIZES

_CACHED = 64  # renditions kept in memory
_QUALITY = 85
_FREE_LONG_EDGE = 1024  # nothing above it is served for owners with a free account


class Rendition(NamedTuple):
    """One size: suffix in URLs, label in getSizes, long edge in pixels, cropped square or not."""

    suffix: str
    label: str
    long_edge: int
    square: bool = False


RENDITIONS = (
    Rendition("s", "Square", 75, square=True),
    Rendition("q", "Large Square", 150, square=True),
    Rendition("t", "Thumbnail", 100),
    Rendition("m", "Small", 240),
    Rendition("n", "Small 320", 320),
    Rendition("w", "Small 400", 400),
    Rendition("", "Medium", 500),
    Rendition("z", "Medium 640", 640),
    Rendition("c", "Medium 800", 800),
    Rendition("b", "Large", 1024),
    Rendition("h", "Large 1600", 1600),
    Rendition("k", "Large 2048", 2048),
)
ORIGINAL = "o"


class Picture(NamedTuple):
    """What a file says of itself: width and height in pixels as shown, Pillow's format name."""

    width: int
    height: int
    format: str
    rotated: bool


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
    return [
        rendition
        for rendition in RENDITIONS
        if (rendition.long_edge <= reach or rendition.suffix == "z")
        and (photo.downloadable or rendition.long_edge <= _FREE_LONG_EDGE)
    ]


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


def body(photo: FakePhoto, suffix: str) -> bytes | None:
    """Bytes of a photo in one size; None where that size does not exist.

    Bytes that are no image are served as they are, as `z` and as the original only.
    """
    data = photo.image()
    picture = look(data)
    if picture is None:
        return data if suffix in {"z", ORIGINAL} else None
    if suffix == ORIGINAL:
        return data if photo.downloadable else None
    for rendition in available(photo, picture):
        if rendition.suffix == suffix:
            small = max(picture.width, picture.height) <= rendition.long_edge
            if small and picture.format == "JPEG" and not rendition.square and not picture.rotated:
                return data
            return _render(data, rendition, shown_size(rendition, picture))
    return None


@lru_cache(maxsize=_CACHED)
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
