"""Are a photo's moments 20 times faster from its histogram than by float mean and std, and exact?

popq: `from_histogram(crop.histogram())` of a 256x256 crop, cut as popq cuts it. The peer is the
seed's way: `mean` and `std` over both axes of the float64 array of the same crop. In turns, CPU
time of this one thread. The claim counts `mean` and `std` alone, on an array that is ready; the
figure with the conversion to floats is reported beside it. The crops are the two photographs that
scikit-learn ships, and the slower of the two must hold; a blurred one, hardest on a histogram's
counters, is reported. Exact means: the sums are those of the pixels, and mean and standard
deviation are the floats nearest to what Fraction (and a root of 60 digits) says.
Prints JSON; exits 1 on a miss.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from decimal import Context
from fractions import Fraction

import numpy as np
from PIL import Image, ImageFilter
from sklearn.datasets import load_sample_images

from popq.images.decode import crop
from popq.stats.moments import Moments, from_histogram, mean_std

FLOOR = 20
TURNS = 41
CALLS = 5


def floats(photo: Image.Image) -> np.ndarray:
    return np.asarray(photo, dtype=np.float64) / 255


def peer(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return pixels.mean(axis=(0, 1)), pixels.std(axis=(0, 1))


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    for _ in range(CALLS):
        work()
    return (time.process_time() - start) / CALLS


def timed(photo: Image.Image) -> dict[str, float]:
    """Microseconds of each way, medians of turns."""
    ready = floats(photo)
    ways: dict[str, Callable[[], object]] = {
        "popq": lambda: from_histogram(photo.histogram()),
        "peer": lambda: peer(ready),
        "peer_with_conversion": lambda: peer(floats(photo)),
    }
    turns = [{name: seconds(way) for name, way in ways.items()} for _ in range(TURNS)]
    return {name: statistics.median(turn[name] for turn in turns[1:]) * 1e6 for name in ways}


def exact(photo: Image.Image) -> bool:
    """Whether popq's figures of this photo are the true ones, rounded once."""
    channels = [channel.tolist() for channel in np.asarray(photo).reshape(-1, 3).T]
    sums = tuple(sum(values) for values in channels)
    squares = tuple(sum(value * value for value in values) for values in channels)
    moments = from_histogram(photo.histogram())
    means, deviations = [], []
    many = Context(prec=60)
    for total, square in zip(sums, squares, strict=True):
        mean = Fraction(total, 255 * moments.pixels)
        variance = Fraction(square, 255**2 * moments.pixels) - mean**2
        means.append(float(mean))
        ratio = many.divide(*map(many.create_decimal, variance.as_integer_ratio()))
        deviations.append(float(many.sqrt(ratio)))
    pixels = photo.width * photo.height
    right = Moments(pixels, sums, squares), (tuple(means), tuple(deviations))
    return (moments, mean_std(moments)) == right


def main() -> int:
    photos = [crop(Image.fromarray(pixels)) for pixels in load_sample_images().images]
    blurred = photos[-1].filter(ImageFilter.GaussianBlur(24))
    of_photos = [timed(photo) for photo in photos]
    of_blurred = timed(blurred)
    slowest = min(of_photos, key=lambda times: times["peer"] / times["popq"])
    ratio = slowest["peer"] / slowest["popq"]
    whole = [exact(photo) for photo in (*photos, blurred)]
    result = {
        "name": "moments",
        "ratio": round(ratio, 1),
        "floor": FLOOR,
        "ok": ratio >= FLOOR and all(whole),
        "exact": all(whole),
        "ratio_with_conversion": round(slowest["peer_with_conversion"] / slowest["popq"], 1),
        "ratio_blurred": round(of_blurred["peer"] / of_blurred["popq"], 1),
        "popq_us": round(slowest["popq"], 1),
        "peer_us": round(slowest["peer"], 1),
    }
    print(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
