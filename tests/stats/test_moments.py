"""Moments are exact: any order, any partition, the same bits."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from popq.errors import BadInput
from popq.stats.moments import Moments, from_histogram, mean_std

channel = st.tuples(*[st.integers(0, 2**40)] * 3)
some_moments = st.builds(Moments, st.integers(0, 2**30), channel, channel)


def image_of(seed, width=17, height=11):
    rng = np.random.default_rng(seed)
    low, high = sorted(rng.integers(0, 257, 2).tolist())
    pixels = rng.integers(low, high + 1, (height, width, 3)).clip(0, 255)
    return pixels.astype(np.uint8)


def moments_of(pixels):
    return from_histogram(Image.fromarray(pixels).histogram())


@given(st.lists(some_moments, max_size=20), st.randoms(use_true_random=False))
def test_any_order_and_partition_gives_the_same_sums(many, random):
    shuffled = random.sample(many, len(many))
    cut = random.randint(0, len(many))
    in_two_parts = sum(shuffled[:cut], Moments()) + sum(shuffled[cut:], Moments())
    assert in_two_parts == sum(many, Moments())


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=6))
def test_photos_added_up_are_the_photos_side_by_side(seeds):
    parts = [image_of(seed) for seed in seeds]
    assert sum(map(moments_of, parts), Moments()) == moments_of(np.concatenate(parts))


@given(st.integers(0, 2**32 - 1))
def test_moments_are_what_integer_sums_say(seed):
    pixels = image_of(seed)
    flat = pixels.reshape(-1, 3).astype(int)
    moments = moments_of(pixels)
    assert moments.pixels == len(flat)
    assert moments.sums == tuple(flat.sum(axis=0).tolist())
    assert moments.squares == tuple((flat**2).sum(axis=0).tolist())


@given(st.integers(0, 2**32 - 1))
def test_mean_and_deviation_are_numpys(seed):
    pixels = image_of(seed)
    scaled = pixels.reshape(-1, 3).astype(np.float64) / 255
    mean, std = mean_std(moments_of(pixels))
    assert mean == pytest.approx(scaled.mean(axis=0), rel=1e-12, abs=1e-12)
    assert std == pytest.approx(scaled.std(axis=0), rel=1e-12, abs=1e-12)


@given(st.lists(st.integers(0, 255), min_size=1, max_size=200), st.integers(1, 10**9))
def test_mean_and_deviation_are_the_exact_values_rounded_once(values, copies):
    n, total = len(values) * copies, sum(values) * copies
    squares = sum(value * value for value in values) * copies
    mean, std = mean_std(Moments(n, (total,) * 3, (squares,) * 3))
    variance = Fraction(squares, n) - Fraction(total, n) ** 2
    with localcontext(prec=60):
        exact = (Decimal(variance.numerator) / Decimal(variance.denominator)).sqrt() / 255
    assert mean == (float(Fraction(total, n * 255)),) * 3
    assert std == (float(exact),) * 3


def test_a_plain_picture_has_no_deviation():
    pixels = np.full((9, 9, 3), (255, 51, 0), dtype=np.uint8)
    assert mean_std(moments_of(pixels)) == ((1.0, 0.2, 0.0), (0.0, 0.0, 0.0))


def test_half_black_half_white_is_a_half_and_a_half():
    mean, std = mean_std(Moments(2, (255,) * 3, (255**2,) * 3))
    assert mean == std == (0.5, 0.5, 0.5)


def test_as_many_pixels_as_the_whole_data_set_stay_exact():
    one = moments_of(np.full((256, 256, 3), 255, dtype=np.uint8))
    many = Moments(
        one.pixels * 305_613,
        tuple(part * 305_613 for part in one.sums),
        tuple(part * 305_613 for part in one.squares),
    )
    assert mean_std(many) == ((1.0,) * 3, (0.0,) * 3)


def test_no_pixels_have_no_mean():
    with pytest.raises(BadInput, match="no pixels"):
        mean_std(Moments())


def test_sums_that_no_pixels_can_have_are_refused():
    with pytest.raises(BadInput, match="disagree"):
        mean_std(Moments(10, (100, 0, 0), (1, 0, 0)))


def test_the_histogram_of_a_grey_image_is_refused():
    with pytest.raises(BadInput, match="256 counts"):
        from_histogram(Image.new("L", (4, 4)).histogram())


def test_channels_of_different_sizes_are_refused():
    histogram = [0] * 768
    histogram[0], histogram[256], histogram[512] = 4, 4, 3
    with pytest.raises(BadInput, match="4, 4 and 3"):
        from_histogram(histogram)


def test_deviation_is_never_nan_for_nearly_constant_pixels():
    n = 10**12
    _, std = mean_std(Moments(n, (n - 1,) * 3, (n - 1,) * 3))
    assert all(math.isfinite(value) and value > 0 for value in std)
