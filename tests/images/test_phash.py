from __future__ import annotations

import io

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from popq.images.phash import perceptual_hash
from popq.planted import plant, render
from popq.stats.duplicates import NEAR_BITS


@pytest.fixture(scope="module")
def photos():
    return [Image.open(io.BytesIO(render(photo))).convert("RGB") for photo in plant(12, 8, seed=3)]


def distance(one, other):
    return (int(perceptual_hash(one), 16) ^ int(perceptual_hash(other), 16)).bit_count()


def again(image, quality):
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return Image.open(io.BytesIO(out.getvalue()))


def test_a_photo_that_was_scaled_compressed_or_brightened_is_near(photos):
    for photo in photos:
        small = photo.resize((photo.width // 2, photo.height // 2), Image.Resampling.LANCZOS)
        bright = ImageEnhance.Brightness(photo).enhance(1.04)
        for other in (small, again(photo, 60), bright):
            assert distance(photo, other) <= NEAR_BITS


def test_other_photos_are_far(photos):
    for place, photo in enumerate(photos):
        for other in photos[:place]:
            assert distance(photo, other) > NEAR_BITS


@pytest.mark.parametrize("colour", [*range(0, 256, 5), "red", (12, 200, 7)])
def test_a_picture_of_one_colour_has_none(colour):
    rgb = (colour,) * 3 if isinstance(colour, int) else colour
    flat = Image.new("RGB", (300, 200), rgb)
    assert perceptual_hash(flat) is None
    assert perceptual_hash(again(flat, 60)) is None


def test_a_plain_gradient_has_none():
    ramp = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (200, 1))).convert("RGB")
    assert perceptual_hash(ramp) is None
    assert perceptual_hash(ramp.transpose(Image.Transpose.ROTATE_90)) is None


def test_it_is_16_hex_digits():
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    found = perceptual_hash(Image.fromarray(noise))
    assert len(found) == 16
    assert int(found, 16) >= 0


def test_it_is_imagehashs_own_but_for_a_few_bits(photos):
    for photo in photos:
        large = photo.resize((640, 480), Image.Resampling.LANCZOS)
        own = imagehash.phash(large)
        assert (int(str(own), 16) ^ int(perceptual_hash(large), 16)).bit_count() <= NEAR_BITS
