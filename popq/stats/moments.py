"""Channel moments as exact integers, so that any order and any partition gives the same bits.

A photo's moments are its pixel count and, per channel, the sum and the sum of squares of its
values 0 to 255. Integers add exactly, in SQL as here; mean and standard deviation are rounded
once, at the very end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from popq.errors import BadInput

#: The value of a channel at full scale.
_FULL = 255
#: Bits kept below the integer square root, far more than the 53 of a float.
_ROOT_BITS = 64
_VALUES = np.arange(_FULL + 1, dtype=np.int64)
#: (256, 3): what one pixel of each value adds to the count, the sum and the sum of squares.
_WEIGHTS = np.stack([np.ones_like(_VALUES), _VALUES, _VALUES**2], axis=1)


@dataclass(frozen=True, slots=True)
class Moments:
    """Pixel count, and per channel (red, green, blue) the sum and sum of squares of 0..255.

    `Moments()` is the moments of nothing, so `sum(many, Moments())` works.
    """

    pixels: int = 0
    sums: tuple[int, int, int] = (0, 0, 0)
    squares: tuple[int, int, int] = (0, 0, 0)

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.pixels + other.pixels,
            (
                self.sums[0] + other.sums[0],
                self.sums[1] + other.sums[1],
                self.sums[2] + other.sums[2],
            ),
            (
                self.squares[0] + other.squares[0],
                self.squares[1] + other.squares[1],
                self.squares[2] + other.squares[2],
            ),
        )


def from_histogram(histogram: Sequence[int]) -> Moments:
    """Return an image's moments from its 768 counts, as Pillow's RGB `Image.histogram()` gives.

    Exact up to 10^14 pixels. Raises `BadInput` when there are not 768 counts, or the channels do
    not count the same number of pixels.
    """
    if len(histogram) != 3 * len(_VALUES):
        raise BadInput(f"{len(histogram)} counts; the histogram of an RGB image has 768")
    totals = np.array(histogram, dtype=np.int64).reshape(3, -1) @ _WEIGHTS
    (pixels, *others), (red, green, blue), (red2, green2, blue2) = totals.T.tolist()
    if others != [pixels, pixels]:
        raise BadInput(f"channels of different sizes: {pixels}, {others[0]} and {others[1]} pixels")
    return Moments(pixels, (red, green, blue), (red2, green2, blue2))


def mean_std(
    moments: Moments,
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return mean and (population) standard deviation per channel, in units of full scale.

    Computed from the integers: Python's division of integers rounds once and correctly, and the
    root is an integer's, to far more bits than a float keeps. Raises `BadInput` for no pixels,
    and for sums that no pixels can have.
    """
    if moments.pixels <= 0:
        raise BadInput("no pixels, so no mean; is there a stored photo in the training split?")
    red, green, blue = (
        _mean_std(moments.pixels, total, squares)
        for total, squares in zip(moments.sums, moments.squares, strict=True)
    )
    return (red[0], green[0], blue[0]), (red[1], green[1], blue[1])


def _mean_std(pixels: int, total: int, squares: int) -> tuple[float, float]:
    scale = pixels * _FULL
    # The variance times (pixels x 255)^2.
    spread = pixels * squares - total * total
    if spread < 0:
        raise BadInput(f"sum {total} and sum of squares {squares} of {pixels} pixels disagree")
    root = math.isqrt(spread << (2 * _ROOT_BITS))
    return total / scale, root / (scale << _ROOT_BITS)
