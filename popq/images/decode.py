"""Bytes to pixels: the one recipe, for moments and pack alike.

The recipe, in order: header, limits, full decode, upright by EXIF, RGB, centre square, 256x256.

* Only `FORMATS` are tried. Pillow knows more, but some start other programs (EPS) or write their
  complaints to stderr by themselves (TIFF).
* Alpha lies on white, what a bare web page shows behind a picture.
* 16-bit grey keeps its high byte, as Pillow itself does for 16-bit colour.
* Of an animation the first frame counts. Colour profiles are ignored.
* The bytes are read whole before decoding, so that a fault of the store is never taken for a
  fault of the picture.

Nothing here changes Pillow's global settings, so any number of threads may decode at a time.
`MAX_PIXELS` is the size past which Pillow warns, so whatever it warns of is refused here too.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from popq.errors import Outcome, Permanent, Transient

#: Pixels on each side of the crop that training sees.
SIDE = 256
#: A photo with a shorter side is refused.
MIN_SIDE = 64
#: More pixels are refused before decoding: Pillow's own limit, 256 MiB of RGB.
MAX_PIXELS = 89_478_485
#: What Flickr serves, and what folders of photos hold besides.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP")

#: What Pillow's decoders raise for bytes that are no whole picture.
_BROKEN = (
    OSError,  # truncated; UnidentifiedImageError too
    SyntaxError,  # "not a PNG file", broken chunks
    ValueError,  # sizes that make no sense, modes that do not convert, text chunks too large
    EOFError,  # the file ends in a header
    struct.error,  # a header's field is cut
    zlib.error,  # compressed text or profile is damaged
    LookupError,  # a table or tag that a later part refers to is missing
    TypeError,  # a tag holds another type than its reader expects
    ArithmeticError,  # a size or resolution of zero, or one that overflows
    MemoryError,  # a header that asks for more than there is
)
#: What Pillow raises for EXIF that cannot be read; the pixels may be whole all the same.
_BROKEN_EXIF = (OSError, SyntaxError, ValueError, EOFError, struct.error, LookupError, TypeError)

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class Decoded:
    """A whole photo: RGB, upright; sizes in pixels of the upright image; Pillow's format name."""

    image: Image.Image
    width: int
    height: int
    format: str


def decode(source: Path | BinaryIO) -> Decoded:
    """Decode a photo whole, from a path or from an open file (read from where it stands).

    Raises `Permanent` with TOO_SMALL, TOO_LARGE (both from the header alone) or FILE_MISSING,
    and `Transient` with CORRUPT (cut short, damaged, no picture) or TRANSIENT (unreadable now).
    """
    data = _read(source)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
            _check_size(opened)
            opened.load()
            name = opened.format or "?"
            image = _rgb(_upright(opened))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        # The warning is raised where warnings are made errors; elsewhere `_check_size` follows.
        raise Permanent(f"too many pixels: {error}", outcome=Outcome.TOO_LARGE) from error
    except _BROKEN as error:
        message = f"{len(data):,} bytes that are no whole picture: {error}"
        raise Transient(message, outcome=Outcome.CORRUPT) from error
    return Decoded(image, image.width, image.height, name)


def crop(image: Image.Image) -> Image.Image:
    """Return what training sees of an RGB image: its centre square, as 256x256 RGB.

    Bilinear with antialiasing over the pixels of the square only, so the cost does not grow with
    the long side of a panorama.
    """
    return ImageOps.fit(image, (SIDE, SIDE), method=Image.Resampling.BILINEAR)


def _read(source: Path | BinaryIO) -> bytes:
    try:
        return source.read_bytes() if isinstance(source, Path) else source.read()
    except FileNotFoundError as error:
        raise Permanent(f"{source} is missing", outcome=Outcome.FILE_MISSING) from error
    except OSError as error:
        raise Transient(f"{source} cannot be read: {error}") from error


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        message = f"{width}x{height} pixels; at least {MIN_SIDE} on each side are needed"
        raise Permanent(message, outcome=Outcome.TOO_SMALL)
    if width * height > MAX_PIXELS:
        message = f"{width}x{height} pixels; at most {MAX_PIXELS:,} are decoded"
        raise Permanent(message, outcome=Outcome.TOO_LARGE)


def _upright(image: Image.Image) -> Image.Image:
    """Turn as EXIF says; Pillow's `exif_transpose` also rewrites the EXIF, which can fail."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except _BROKEN_EXIF:
        return image
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow's own conversion would clip at 255 and so turn nearly all of it white.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        pixels = image.convert("RGBA")
        white = Image.new("RGBA", pixels.size, "white")
        return Image.alpha_composite(white, pixels).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
