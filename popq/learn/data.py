"""From packed photos in a memory map to batches on the device, one thread ahead of the model."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from popq.errors import BadInput
from popq.learn.augment import PACK_SIDE, draw_crops, prepare
from popq.learn.config import Config

Item = TypeVar("Item")
Ready = TypeVar("Ready")
#: Batches that wait for the model at most.
AHEAD = 2


@dataclass(frozen=True)
class Data:
    """A packed data set: pixels, targets, and which rows are for what.

    `pixels` (N, 256, 256, 3) uint8, usually a memory map; `targets` (N,) int64, tiers from 0;
    `train` and `val` row numbers; `mean` and `std` per channel of the training split, white = 1.
    """

    pixels: NDArray[np.uint8]
    targets: NDArray[np.int64]
    train: NDArray[np.int64]
    val: NDArray[np.int64]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def check(self, outputs: int) -> None:
        """Raise `BadInput` unless this can be trained on with `outputs` tiers."""
        if self.pixels.shape[1:] != (PACK_SIDE, PACK_SIDE, 3) or self.pixels.dtype != np.uint8:
            raise BadInput(f"The pack is {self.pixels.dtype} {self.pixels.shape}; build it anew.")
        if len(self.targets) != len(self.pixels):
            raise BadInput(f"{len(self.pixels)} packed photos have {len(self.targets)} targets.")
        if len(self.train) < 2 or len(self.val) < 1:  # noqa: PLR2004 - a batch norm needs two
            raise BadInput(
                f"{len(self.train)} photos to train on and {len(self.val)} to validate on are too "
                "few: 2 and 1 are the least. Import or download more, or split otherwise."
            )
        used = self.targets[np.concatenate([self.train, self.val])]
        if used.min() < 0 or used.max() >= outputs:
            raise BadInput(f"Targets go from {used.min()} to {used.max()} with {outputs} tiers.")
        if min(self.std) <= 0:
            raise BadInput(f"A channel never varies (std {self.std}): these are no photos.")


@dataclass(frozen=True)
class Batch:
    """What one training step takes: images (B, 3, S, S) float32 and targets (B,) int64."""

    images: Tensor
    targets: Tensor


def steps_per_epoch(photos: int, batch_size: int) -> int:
    """Return how many batches of at most `batch_size` an epoch over `photos` photos has."""
    return -(-photos // batch_size)


def training_batches(
    data: Data, config: Config, epoch: int, device: torch.device
) -> Generator[Batch]:
    """Yield the epoch's batches: every training photo once, each with a crop of its own.

    Order, crops and flips follow from (seed, epoch) alone, so that a resumed run draws the same.
    Batch sizes differ by one at most: a last batch of one photo would upset the batch norms.
    """
    rng = np.random.default_rng((config.seed, epoch))
    order = rng.permutation(data.train)
    crops = draw_crops(rng, len(order))
    edges = np.linspace(0, len(order), steps_per_epoch(len(order), config.batch_size) + 1)
    bounds = np.rint(edges).astype(int)

    def load(some: slice) -> Batch:
        rows = order[some]
        images = upload(data.pixels[rows], device)
        images = prepare(images, crops[some], config.image_size, data.mean, data.std)
        return Batch(images, torch.from_numpy(data.targets[rows]).to(device))

    return prefetch(load, map(slice, bounds[:-1], bounds[1:]))


def upload(pixels: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Return the photos as a tensor on `device`; to a GPU they travel while it computes."""
    tensor = torch.from_numpy(pixels)
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def prefetch(load: Callable[[Item], Ready], items: Iterable[Item]) -> Generator[Ready]:
    """Yield `load(item)` for each item in order, loading up to `AHEAD` ahead in one thread.

    The items are drawn in the caller's thread. Close the iterator to stop early: at most one load
    is waited for. An error in `load` is raised at its item's turn.
    """
    waiting: deque[Future[Ready]] = deque()
    threads = torch.get_num_threads()
    # Torch's threads are counted per calling thread: with one here, loading never starts a second
    # team that would fight the model's for the cores (ResNet50 on two cores: 0.98 of the bare
    # step's speed, with a team 0.885).
    with ThreadPoolExecutor(
        1, "popq-load", initializer=torch.set_num_threads, initargs=(1,)
    ) as thread:
        try:
            for item in items:
                waiting.append(thread.submit(load, item))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
            # What threads of the caller that start later will find.
            torch.set_num_threads(threads)
