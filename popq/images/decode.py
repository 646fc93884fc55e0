"""Bytes to pixels: the one recipe, for moments and pack alike.

The recipe, in order: header, limits, full decode, RGB, upright by EXIF, centre square, 256x256.

* Only `FORMATS` are tried. Pillow knows more, but some start other programs (EPS) or write their
  complaints to stderr by themselves (TIFF).
* Alpha lies on white, what a bare web page shows behind a picture.
* 16-bit grey keeps its high byte, as Pillow itself does for 16-bit colour.
* Of an animation the first frame counts. Colour profiles are ignored.
* The bytes are read whole before decoding, so that a fault of the store is never taken for a
  fault of the picture.

* A photo of more than `LARGE` pixels is shrunk to fewer, by 2, 4 or 8 on each side: a JPEG by its
  decoder, which still reads all of it; another by means of blocks. The crop has far fewer.

No setting of Pillow's that matters to others is changed, and any number of threads may decode, as
long as what they decode fits `_BUDGET`: several small photos, or one of 50 million pixels. So
memory has a bound whatever comes (`tests/images/test_bad_input.py` measures it).
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from popq.errors import Outcome, Permanent, Transient
from popq.images.budget import Budget

#: Pixels on each side of the crop that training sees.
SIDE = 256
#: A photo with a shorter side is refused.
MIN_SIDE = 64
#: More pixels are refused before decoding: as many as the largest cameras of today make.
MAX_PIXELS = 52_000_000
MAX_WEBP_PIXELS = 12_000_000
#: No longer side: as many as JPEG can say.
MAX_SIDE = 65_535
#: Photos with more pixels are shrunk as they are decoded.
LARGE = 2_000_000
#: They are halved as long as the shorter side has as many pixels: twice the crop's are left.
SHRUNK_FROM = 4 * SIDE
#: What Flickr serves, and what folders of photos hold besides.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP")

#: What Pillow's decoders raise for bytes that are no whole picture.
_BROKEN = (
    OSError,  # truncated
    SyntaxError,  # "not a PNG file", broken chunks
    ValueError,  # sizes that make no sense, modes that do not convert, text chunks too large
    EOFError,  # the file ends in a header
    struct.error,  # a header's field is cut
    zlib.error,  # compressed text or profile is damaged
    LookupError,  # a table or tag that a later part refers to is missing
    TypeError,  # a tag holds another type than its reader expects
    ArithmeticError,  # a size or resolution of zero, or one that overflows
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
_SIDEWAYS = frozenset(
    {
        Image.Transpose.TRANSPOSE,
        Image.Transpose.ROTATE_270,
        Image.Transpose.TRANSVERSE,
        Image.Transpose.ROTATE_90,
    }
)
#: Rows of a large photo that are turned into RGB at a time; `shrink` divides it.
_STRIP = 256
#: Bytes a pixel that decoding takes at most, as measured: of WebP, of photos that are shrunk (a
#: progressive JPEG keeps its coefficients), and of others (transparency needs five copies).
_WEBP_COST, _LARGE_COST, _COST = 28, 7, 20


@dataclass(frozen=True, slots=True)
class Decoded:
    """A whole photo as RGB, upright, at most `LARGE` pixels or so of it.

    Sizes are in pixels of the upright photo before it was shrunk; `format` is Pillow's name.
    """

    image: Image.Image
    width: int
    height: int
    format: str


_BUDGET = Budget(320_000_000)
# Pillow keeps a picture in blocks of 16 MiB, which the C library, once it has freed some, takes
# from heaps of each thread and does not give back: hundreds of MB. A larger block is mapped, and
# unmapped when the picture goes. Small pictures have one block of their own size either way.
Image.core.set_block_size(256 * 1024 * 1024)  # type: ignore[attr-defined]


def decode(source: Path | BinaryIO) -> Decoded:
    """Decode a photo whole, from a path or from an open file (read from where it stands).

    Raises `Permanent` with TOO_SMALL, TOO_LARGE (both from the header alone) or FILE_MISSING,
    and `Transient` with CORRUPT (cut short, damaged, no picture; or of a kind that this machine's
    Pillow lacks) or TRANSIENT (unreadable now, too little memory).
    """
    data = _read(source)
    with _named(f"{len(data):,} bytes"), _BUDGET.open() as spend:
        return _decode(data, spend)


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Raise popq's errors for what Pillow raises of a picture, which is `what`."""
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        # The warning is raised where warnings are made errors; elsewhere `_check_size` follows.
        raise Permanent(f"too many pixels: {error}", outcome=Outcome.TOO_LARGE) from error
    except UnidentifiedImageError as error:
        message = f"{what} that are no picture of {', '.join(FORMATS)}"
        raise Transient(message, outcome=Outcome.CORRUPT) from error
    except _BROKEN as error:
        message = f"{what} that are no whole picture: {error}"
        raise Transient(message, outcome=Outcome.CORRUPT) from error
    except MemoryError as error:
        # Sizes were checked before: it is this process that is short of memory, not the picture
        # that is broken.
        message = f"too little memory is left here to decode {what}"
        raise Transient(f"{message}; start fewer workers, or one with more memory") from error


def _decode(data: bytes, spend: Callable[[int], None]) -> Decoded:
    """Decode in a frame of its own: what it spent comes back once its large pictures are freed."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
        _check_size(opened)
        size, name = opened.size, opened.format or "?"
        spend(_cost(opened))
        shrink = _shrink(*opened.size)
        if opened.format in {"JPEG", "MPO"} and shrink > 1:
            opened.draft(opened.mode, (opened.width // shrink, opened.height // shrink))
            shrink = 1
        opened.load()
        turn = _turn(opened)
        image = _rgb(opened, shrink)
    if turn is not None:
        image = image.transpose(turn)
        size = size[::-1] if turn in _SIDEWAYS else size
    return Decoded(image, *size, name)


def _cost(opened: Image.Image) -> int:
    pixels = opened.width * opened.height
    if opened.format == "WEBP":
        return pixels * _WEBP_COST
    return pixels * (_LARGE_COST if pixels > LARGE else _COST)


def _shrink(width: int, height: int) -> int:
    """Return by how much to shrink a photo on each side: 1 for one that is not large."""
    shrink = 1
    while width * height > LARGE * shrink**2 and min(width, height) >= SHRUNK_FROM * shrink:
        shrink *= 2
    return shrink


def upright(image: Image.Image) -> Image.Image:
    """Return a picture that Pillow opened or made as `decode` returns its file's image.

    One that is not loaded yet is decoded from its file; the first of its frames must be the current
    one. Of others the pixels are taken as they are, and large ones shrunk by blocks: of a JPEG's
    that is not to the bit what its decoder makes of the file. Raises as `decode`.
    """
    if (file := _file_of(image)) is not None:
        return decode(file).image
    what = f"{image.width}x{image.height} pixels of an opened picture"
    with _named(what), _BUDGET.open() as spend:
        _check_size(image)
        spend(_cost(image))
        image.load()
        turn = _turn(image)
        plain = _rgb(image, _shrink(*image.size))
        return plain if turn is None else plain.transpose(turn)


def _file_of(image: Image.Image) -> BinaryIO | None:
    """Return the file of a picture that is not loaded, None where its pixels are what there is."""
    if not isinstance(image, ImageFile):
        return None
    if image.fp is None:
        if image.tile:
            raise Transient("the picture was closed before its pixels were read; open it again")
        return None
    if image.format not in {*FORMATS, "MPO"} or image.tell() != 0:
        return None
    try:
        at = image.fp.tell()
        image.fp.seek(0)
        data = image.fp.read()
        image.fp.seek(at)
    except (OSError, ValueError) as error:  # closed by whoever opened it, for one
        raise Transient(f"the picture's file cannot be read: {error}") from error
    return io.BytesIO(data)


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
        raise Permanent(f"{_name(source)} is missing", outcome=Outcome.FILE_MISSING) from error
    except OSError as error:
        raise Transient(f"{_name(source)} cannot be read: {error}") from error


def _name(source: Path | BinaryIO) -> str:
    """Return what a person can find: the path, where there is one."""
    return str(source if isinstance(source, Path) else getattr(source, "name", "the photo's file"))


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        message = f"{width}x{height} pixels; at least {MIN_SIDE} on each side are needed"
        raise Permanent(message, outcome=Outcome.TOO_SMALL)
    most = MAX_WEBP_PIXELS if image.format == "WEBP" else MAX_PIXELS
    if width * height > most or max(width, height) > MAX_SIDE:
        message = f"{width}x{height} pixels; at most {most:,} are decoded, {MAX_SIDE:,} on a side"
        raise Permanent(message, outcome=Outcome.TOO_LARGE)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Return the turn that EXIF asks for; Pillow's `exif_transpose` rewrites it, and can fail."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except _BROKEN_EXIF:
        return None
    return _UPRIGHT.get(orientation) if isinstance(orientation, int) else None


def _rgb_by_strips(image: Image.Image, shrink: int) -> Image.Image:
    """Return the picture as RGB and shrunk, never holding a second one of its full size."""
    width, height = image.size
    small = Image.new("RGB", (-(-width // shrink), -(-height // shrink)))
    for top in range(0, height, _STRIP):
        strip = _rgb(image.crop((0, top, width, min(top + _STRIP, height))), 1)
        small.paste(strip.reduce(shrink), (0, top // shrink))
    return small


def _rgb(image: Image.Image, shrink: int) -> Image.Image:
    if shrink > 1:
        return _rgb_by_strips(image, shrink)
    if image.mode.startswith("I;16"):
        # Pillow's own conversion would clip at 255 and so turn nearly all of it white.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        pixels = image.convert("RGBA")
        white = Image.new("RGBA", pixels.size, "white")
        return Image.alpha_composite(white, pixels).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
