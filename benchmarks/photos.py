"""Photos for benchmarks of learning: planted JPEGs of 500x375, a folder a tier, and their pack."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from popq.images import pack
from popq.learn.data import Data
from popq.planted import plant, render

TIERS = 3


def write(folder: Path, photos: int) -> list[Path]:
    """Write the photos as `folder`/TIER/NUMBER.jpg and return their paths, tier by tier."""
    paths = []
    for number, photo in enumerate(plant(photos, max(1, photos // 8), seed=0)):
        path = folder / str(number * TIERS // photos) / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(io.BytesIO(render(photo))) as image:
            image.resize((500, 375), Image.Resampling.BICUBIC).save(path, quality=90)
        paths.append(path)
    return paths


def packed(folder: Path, paths: list[Path], *, workers: int) -> Data:
    """Build the pack as `popq train` does; all photos but the last are for training."""
    built = pack.build(
        folder,
        "benchmark",
        [str(path) for path in paths],
        lambda key: Path(key).open("rb"),  # noqa: SIM115 - the pack closes it
        workers=workers,
        on_progress=None,
    )
    count = len(paths)
    return Data(
        pixels=built.pixels,
        targets=np.array([int(path.parent.name) for path in paths]),
        train=np.arange(count - 1),
        val=np.arange(count - 1, count),
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )
