"""A tiny data set whose tiers show in the pictures, and a tiny run on it."""

import numpy as np
import pytest

from popq.learn.config import configure
from popq.learn.data import Data


@pytest.fixture(scope="session")
def data():
    """Return 40 photos in three tiers by brightness; 29 to train on, so that batches are uneven."""
    rng = np.random.default_rng(0)
    targets = np.arange(40) % 3
    pixels = rng.integers(0, 100, (40, 256, 256, 3), dtype=np.uint8)
    pixels += (50 * targets).astype(np.uint8)[:, None, None, None]
    rows = rng.permutation(40)
    return Data(
        pixels=pixels,
        targets=targets,
        train=rows[:29],
        val=rows[29:],
        mean=(0.39, 0.39, 0.39),
        std=(0.2, 0.2, 0.2),
    )


@pytest.fixture(scope="session")
def config():
    return configure(
        "default",
        29,
        arch="resnet18",
        weights="none",
        image_size=32,
        batch_size=8,
        lr=0.01,
        epochs=3,
        # Few steps: a running mean would still remember its start. It has tests of its own.
        ema=0.0,
        label_smoothing=0.0,
    )
