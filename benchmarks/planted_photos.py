"""Planted photos (`popq.planted`) as training data, split by owner: for benchmarks of learning."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from popq import planted
from popq.images import decode
from popq.learn.config import configure
from popq.learn.data import Data, Labels
from popq.learn.loop import fit
from popq.learn.model import pick_device, to_score
from popq.learn.objectives import Reading
from popq.learn.predict import load, predict
from popq.stats import tiers

RHO, SIDE = 0.9, 64


@dataclass(frozen=True)
class Planted:
    """Photos with their pixels, (N, 256, 256, 3) uint8, labels and sides: train, val or test."""

    photos: list[planted.PlantedPhoto]
    pixels: np.ndarray
    labels: np.ndarray
    side: np.ndarray

    def rows(self, side: str) -> np.ndarray:
        return np.flatnonzero(self.side == side)


def _pixels_of(photo: planted.PlantedPhoto) -> np.ndarray:
    return np.asarray(decode.crop(decode.decode(BytesIO(planted.render(photo))).image))


def plant(photos: int, owners: int, seed: int, shares: dict[str, float]) -> Planted:
    """Render `photos` photos; `shares` says of how many owners each side other than train has."""
    made = planted.plant(photos, owners, seed, RHO)
    with ProcessPoolExecutor(2) as pool:
        pixels = np.stack(list(pool.map(_pixels_of, made, chunksize=20)))
    names = np.random.default_rng(seed).permutation(sorted({photo.owner for photo in made}))
    side_of = dict.fromkeys(names.tolist(), "train")
    for side, share in shares.items():
        count = round(share * owners)
        side_of |= dict.fromkeys(names[:count].tolist(), side)
        names = names[count:]
    side = np.array([side_of[photo.owner] for photo in made])
    return Planted(made, pixels, np.array([photo.label for photo in made]), side)


def colours(pixels: np.ndarray) -> np.ndarray:
    """Return each photo's three channel means and three deviations, (N, 6)."""
    return np.array([np.hstack([photo.mean((0, 1)), photo.std((0, 1))]) for photo in pixels])


def training_data(found: Planted) -> Data:
    """Return what a run learns from: cuts, moments and tiers' labels are the training side's."""
    train, labels = found.rows("train"), found.labels
    cuts = tiers.fit_cuts(labels[train], 3)
    tier = tiers.assign(labels, cuts)
    tier_means = tuple(float(labels[train][tier[train] == t].mean()) for t in (1, 2, 3))
    means_of, deviations = np.split(colours(found.pixels[train]) / 255, 2, axis=1)
    mean = means_of.mean(axis=0)
    std = np.sqrt((deviations**2 + means_of**2).mean(axis=0) - mean**2)
    return Data(
        pixels=found.pixels,
        targets=tier - 1,
        train=train,
        val=found.rows("val"),
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        labels=Labels(labels, cuts, tier_means),
    )


def learn(data: Data, rows: np.ndarray, folder: Path, preset: str, **options: object) -> Reading:
    """Train a small ResNet18 from random weights and return what it reads of photos `rows`."""
    small = {"arch": "resnet18", "weights": "none", "image_size": SIDE}
    config = configure(preset, len(data.train), **small, **options)
    fit(config, data, folder, on_epoch=lambda _: None, on_progress=lambda _: None)
    model, card = load(folder)
    device = pick_device("auto")
    (read,) = predict(to_score(model, device), [data.pixels[rows]], card, device)
    return read
