"""Odd files: the same picture as a progressive, CMYK, rotated, tiny, huge or mislabelled image."""

from __future__ import annotations

import io
import itertools
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from popq.flickr.fake.world import Look

_HUGE = (8660, 5775)  # 50.01 million pixels
_ORIENTATION = 0x0112  # EXIF tag
_TURN_RIGHT = 6  # its value: turn 90 degrees clockwise to see it upright
_SOI = b"\xff\xd8"
_APP13, _COMMENT = 0xED, 0xFE
_PHOTOSHOP = b"Photoshop 3.0\x008BIM\x04\x04\x00\x00\x00\x00\x00\x00"

_fetches = itertools.count()


def disguise(jpeg: bytes, look: Look) -> bytes:
    """Return an ordinary JPEG's picture in the bytes of a `look`."""
    match look:
        case Look.PLAIN:
            return jpeg
        case Look.APP13_FIRST:
            return _with_segment(jpeg, _APP13, _PHOTOSHOP)
        case Look.RESTLESS:
            return _with_segment(jpeg, _COMMENT, b"%d" % next(_fetches))
        case Look.HUGE:
            return _huge()
    with Image.open(io.BytesIO(jpeg)) as opened:
        image = opened.convert("RGB")
    return _redraw(image, look)


def _redraw(image: Image.Image, look: Look) -> bytes:
    kind = "JPEG"
    options: dict[str, Any] = {}
    match look:
        case Look.PROGRESSIVE:
            options = {"progressive": True}
        case Look.CMYK:
            image = image.convert("CMYK")
        case Look.GREY:
            image = image.convert("L")
        case Look.ROTATED:
            options = {"exif": Image.Exif()}
            options["exif"][_ORIENTATION] = _TURN_RIGHT
            image = image.transpose(Image.Transpose.ROTATE_90)
        case Look.ONE_PIXEL:
            image = image.resize((1, 1))
        case Look.PNG:
            kind = "PNG"
            image.putalpha(Image.linear_gradient("L").resize(image.size))
        case Look.PNG_16_BIT:
            kind = "PNG"
            deep = np.asarray(image.convert("L"), dtype=np.uint16) * 257
            image = Image.fromarray(deep)
        case Look.GIF:
            kind = "GIF"
            second = ImageOps.invert(image)
            options = {"save_all": True, "append_images": [second], "duration": 100}
    return _file(image, kind, **options)


def _file(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def _with_segment(jpeg: bytes, marker: int, body: bytes) -> bytes:
    """Put a segment at the very front of a JPEG."""
    segment = bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2) + body
    return _SOI + segment + jpeg[len(_SOI) :]


@lru_cache(maxsize=1)
def _huge() -> bytes:
    return _file(Image.new("RGB", _HUGE, (90, 120, 60)), "JPEG", quality=30)
