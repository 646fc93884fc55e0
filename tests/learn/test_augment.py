"""Crops: each photo its own, the same on every device, the same when drawn again."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional

from popq.learn.augment import _batched, centre_crops, draw_crops, prepare
from popq.learn.data import training_batches

BLACK_TO_WHITE = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@pytest.fixture
def photos():
    rng = np.random.default_rng(1)
    return torch.from_numpy(rng.integers(0, 256, (6, 256, 256, 3), dtype=np.uint8))


def test_each_photo_of_a_batch_has_its_own_crop_and_flip():
    crops = draw_crops(np.random.default_rng(0), 64)
    assert len(set(zip(crops.top, crops.left, crops.height, crops.width, strict=True))) > 60
    assert 10 < crops.flip.sum() < 54
    same = np.random.default_rng(5).integers(0, 256, (1, 256, 256, 3), dtype=np.uint8)
    batch = prepare(torch.from_numpy(same).expand(8, -1, -1, -1), crops[:8], 64, *BLACK_TO_WHITE)
    assert all(not torch.equal(batch[0], other) for other in batch[1:])


def test_crops_lie_within_the_photo_and_show_at_least_a_third():
    crops = draw_crops(np.random.default_rng(0), 2_000)
    assert (crops.top >= 0).all()
    assert (crops.left >= 0).all()
    assert (crops.top + crops.height <= 256).all()
    assert (crops.left + crops.width <= 256).all()
    assert (crops.height * crops.width / 256**2).min() > 0.3


@pytest.mark.parametrize("size", [32, 64, 224, 256])
def test_one_photo_at_a_time_equals_the_whole_batch_at_once_and_torchvision(photos, size):
    crops = draw_crops(np.random.default_rng(2), 6)
    one_by_one = 255 * prepare(photos, crops, size, *BLACK_TO_WHITE)
    at_once = _batched(photos, crops, size).permute(0, 3, 1, 2)
    for i, photo in enumerate(photos.permute(0, 3, 1, 2).float()):
        box = (crops.top[i], crops.left[i], crops.height[i], crops.width[i])
        expected = functional.resized_crop(photo, *map(int, box), [size, size], antialias=True)
        if crops.flip[i]:
            expected = expected.flip(2)
        assert (at_once[i] - expected).abs().max() < 0.01
        # In whole grey levels, rounded once along each side.
        assert (one_by_one[i] - expected).abs().max() < 1.6


def test_validation_sees_the_centre_pixel_for_pixel_and_normalised(photos):
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    got = prepare(photos, centre_crops(6), 224, mean, std)
    centre = photos[:, 16:240, 16:240].permute(0, 3, 1, 2) / 255
    expected = functional.normalize(centre, list(mean), list(std))
    assert torch.allclose(got, expected, atol=1e-5)
    assert got.is_contiguous(memory_format=torch.channels_last)


def test_an_epoch_draws_the_same_again_and_another_epoch_otherwise(config, data):
    cpu = torch.device("cpu")
    first, again, other, seeded = (
        list(training_batches(data, c, epoch, cpu))
        for c, epoch in ((config, 1), (config, 1), (config, 2), (replace(config, seed=1), 1))
    )
    assert all(torch.equal(a.images, b.images) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0].images, other[0].images)
    assert not torch.equal(first[0].images, seeded[0].images)
    assert sorted(int(t) for b in first for t in b.targets) == sorted(data.targets[data.train])
