"""The perceptual hash: pictures that look the same have nearly the same one.

imagehash's `phash` (the signs of the 64 lowest frequencies of the 32x32 grey picture) hardly
changes when a photo is scaled, compressed again or slightly brightened; it does change when a
photo is cropped, turned or mirrored.
"""

from __future__ import annotations

import imagehash
from PIL import Image

#: Of a real picture's 64 bits about half are set, since they tell what lies above the median.
_FEWEST_BITS = 16

#: imagehash looks at 32x32 pixels; three times as many are left to its filter.
_SIDE, _GAP = 32, 3


def perceptual_hash(image: Image.Image) -> str | None:
    """Return the 64-bit hash of an RGB image as 16 hex digits.

    None for a picture whose hash says nothing: all of one colour have the same (the mean's bit, or
    none), and so have plain gradients. It would make all of them one picture.
    """
    grey = image.convert("L")
    # imagehash shrinks to 32x32 with a filter that sees every pixel. Means of whole blocks first
    # (as Pillow's `reducing_gap` does) take a third of its time and change few bits of few hashes.
    across, down = (max(1, side // (_GAP * _SIDE)) for side in grey.size)
    found = imagehash.phash(grey.reduce((across, down)))
    return str(found) if int(found.hash.sum()) >= _FEWEST_BITS else None
