"""Photos with a known best accuracy, for the demo, tests and benchmarks: a planted truth.

Each photo hides `t ~ N(0, 1)` and is scored `6.4 + 2.47 (rho t + sqrt(1 - rho^2) e)`. Half the
variance of `e` belongs to the owner, so that a random split leaks and an owner split does not.
What the picture shows of `t` comes in two independent halves, `t = (a + b) / sqrt(2)`:

* `a` is how colourful the picture is (hues are free). Channel deviations give part of it away.
* `b` is how fine its grain is. The grain has the same mean and variance at every size, so that
  channel means and deviations say nothing of it; only a model that sees neighbouring pixels
  together can read it.

So a model that reads the pictures perfectly is right as often as `best_accuracy` says, never more
(but for luck), and one that knows only channel means and deviations stays clearly below.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.special import ndtr, ndtri

from popq.errors import BadInput

#: Mean and standard deviation of the real list's scores (305,613 rows), and its least score.
SCORE_MEAN, SCORE_SD, SCORE_LEAST = 6.4, 2.47, 1.0
#: The first planted photo's id and time; ids and times grow together from here.
FIRST_ID, FIRST_TIME = 10_000_000_000, 1_370_000_000
#: Photos that an owner uploads in one go, at most.
LONGEST_RUN = 12
#: Grain of the median photo in pixels, and how fast it shrinks with `b`: 6 to 25 pixels for all
#: but one photo in twenty, so that it is still there once 256 pixels have become 64.
GRAIN_PX, GRAIN_SLOPE = 12.0, 0.45
#: Greatest distance of a colour from grey, and deviations of grain and sensor noise (1 = white).
CHROMA, GRAIN_SD, NOISE_SD = 0.28, 0.09, 0.02
JPEG_QUALITY = 88


@dataclass(frozen=True, slots=True)
class PlantedPhoto:
    """One photo of the planted list: what Flickr would say of it, and what it hides."""

    flickr_id: int
    owner: str
    label: float
    truth: float
    posted_at: int


def plant(photos: int, owners: int, seed: int, rho: float = 0.9) -> list[PlantedPhoto]:
    """Return `photos` photos of `owners` owners in the order of upload, the same for one seed.

    Ids and times grow, with gaps; each owner has at least one photo and posts in runs of up to
    `LONGEST_RUN` neighbouring ids. `rho` is the correlation of truth and score. Raises `BadInput`
    for fewer photos than owners, no owner, or a rho outside 0 to 1.
    """
    if not 1 <= owners <= photos:
        raise BadInput(f"{photos} photos of {owners} owners: give every owner at least one photo.")
    _check_rho(rho)
    rng = np.random.default_rng(seed)
    owner_of = _runs(rng, photos, owners)
    numbers = rng.choice(np.arange(10_000_000, 100_000_000, 1_000), owners, replace=False)
    names = [f"{number + rng.integers(1_000):08d}@N0{rng.integers(10)}" for number in numbers]
    truth = rng.standard_normal(photos)
    taste = rng.standard_normal(owners)
    error = (taste[owner_of] + rng.standard_normal(photos)) / math.sqrt(2)
    label = SCORE_MEAN + SCORE_SD * (rho * truth + math.sqrt(1 - rho**2) * error)
    steps = np.cumsum(rng.integers(2, 2_000, photos))
    return [
        PlantedPhoto(
            flickr_id=FIRST_ID + 100 * int(steps[i]) + int(rng.integers(100)),
            owner=names[owner_of[i]],
            label=round(max(float(label[i]), SCORE_LEAST), 2),
            truth=float(truth[i]),
            posted_at=FIRST_TIME + int(steps[i]),
        )
        for i in range(photos)
    ]


def _runs(rng: np.random.Generator, photos: int, owners: int) -> NDArray[np.int64]:
    """Return the owner's index of each photo in order of upload, (photos,) int64."""
    share = rng.dirichlet(np.full(owners, 3.0))
    counts = 1 + rng.multinomial(photos - owners, share)
    runs: list[NDArray[np.int64]] = []
    for owner, count in enumerate(counts):
        left = int(count)
        while left:
            length = min(left, int(rng.integers(1, LONGEST_RUN + 1)))
            runs.append(np.full(length, owner))
            left -= length
    return np.concatenate([runs[i] for i in rng.permutation(len(runs))])


def render(photo: PlantedPhoto) -> bytes:
    """Return the photo as JPEG, 360x270 to 384x288 pixels or upright, the same bytes each time."""
    rng = np.random.default_rng(photo.flickr_id)
    other_half = rng.standard_normal()
    colourful = (photo.truth + other_half) / math.sqrt(2)
    fine = (photo.truth - other_half) / math.sqrt(2)
    short = int(rng.integers(270, 289))
    size = (short * 4 // 3, short) if rng.random() < 0.7 else (short, short * 4 // 3)  # noqa: PLR2004 - seven of ten lie on their side

    pixels = np.asarray(_scene(rng, size, CHROMA * _sigmoid(1.2 * colourful)), dtype=np.int16)
    light = 255 * GRAIN_SD * _grain(rng, size, GRAIN_PX * math.exp(-GRAIN_SLOPE * fine))
    light += 255 * NOISE_SD * rng.standard_normal(light.shape, dtype=np.float32)
    # The same light on all three channels: colourfulness stays as drawn.
    pixels = np.clip(pixels + light.astype(np.int16)[:, :, None], 0, 255)
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()


def _scene(rng: np.random.Generator, size: tuple[int, int], chroma: float) -> Image.Image:
    """Return gradients and shapes whose colours lie about `chroma` from grey, hues free."""
    width, height = size[0] // 2, size[1] // 2
    main_hue = rng.uniform(0, 2 * math.pi)

    def colour() -> tuple[int, int, int]:
        grey = rng.uniform(0.38, 0.62)
        hue = main_hue + rng.normal(0, 1.0)
        far = chroma * rng.uniform(0.8, 1.2)
        red, green, blue = (
            round(255 * (grey + far * math.cos(hue + turn * 2 * math.pi / 3))) for turn in range(3)
        )
        return red, green, blue

    corners = Image.new("RGB", (2, 2))
    corners.putdata([colour() for _ in range(4)])
    scene = corners.resize((width, height), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(scene)
    for _ in range(int(rng.integers(4, 10))):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        if rng.random() < 0.5:  # noqa: PLR2004 - one shape in two
            rx, ry = rng.uniform(8, 40, 2)
            draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=colour())
        else:
            points = rng.normal((x, y), 30.0, (3, 2))
            draw.polygon([(float(px), float(py)) for px, py in points], fill=colour())
    # Drawn at half the size: enlarging softens the edges as a lens would.
    return scene.resize(size, Image.Resampling.BICUBIC)


def _grain(rng: np.random.Generator, size: tuple[int, int], grain: float) -> NDArray[np.float32]:
    """Return noise with lumps about `grain` pixels wide, (height, width), mean 0 and variance 1."""
    across, down = size[0] / grain, size[1] / grain
    coarse = rng.standard_normal((math.ceil(down), math.ceil(across)), dtype=np.float32)
    enlarged = Image.fromarray(coarse).resize(
        size, Image.Resampling.BICUBIC, box=(0, 0, across, down)
    )
    lumps = np.asarray(enlarged)
    # Rescaled photo by photo, so that the deviation tells nothing of the size.
    even: NDArray[np.float32] = (lumps - lumps.mean()) / lumps.std()
    return even


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def best_accuracy(rho: float = 0.9, tiers: int = 3) -> float:
    """Return the accuracy in equal tiers of one who reads every photo's truth, owners unknown.

    Given `t` the score is normal about `rho t`; the best guess is the tier with the most mass
    between its cuts, and that mass is integrated over `t`. Raises `BadInput` for a rho outside 0
    to 1 or fewer than two tiers.
    """
    _check_rho(rho)
    if tiers < 2:  # noqa: PLR2004 - one tier has no cut
        raise BadInput(f"{tiers} tiers: at least two are needed to be right or wrong.")
    if rho == 1.0:
        return 1.0
    truth = np.linspace(-8.0, 8.0, 16_001)
    cuts = ndtri(np.arange(1, tiers) / tiers)
    below = ndtr((cuts[:, None] - rho * truth) / math.sqrt(1 - rho**2))
    ones = np.ones((1, len(truth)))
    mass = np.diff(np.concatenate([0 * ones, below, ones]), axis=0).max(axis=0)
    density = np.exp(-(truth**2) / 2) / math.sqrt(2 * math.pi)
    return float(np.trapezoid(mass * density, truth))


def best_spearman(rho: float = 0.9) -> float:
    """Return Spearman's rank correlation of truth and score (both normal): 6/pi asin(rho/2)."""
    _check_rho(rho)
    return 6 / math.pi * math.asin(rho / 2)


def best_pairwise_accuracy(rho: float = 0.9) -> float:
    """Return how often truth orders two owners' photos as their scores do: 1/2 + asin(rho)/pi.

    Both are normal, and so are the differences of two photos, with the same correlation. Photos
    of one owner are ordered better, as they share half of the error's variance.
    """
    _check_rho(rho)
    return 0.5 + math.asin(rho) / math.pi


def _check_rho(rho: float) -> None:
    if not 0.0 <= rho <= 1.0:
        raise BadInput(f"rho is a correlation between 0 and 1, not {rho}.")
