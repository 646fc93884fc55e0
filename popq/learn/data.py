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
#: Share of a GPU's free memory that packed photos may take: the model needs the rest.
PIXELS_SHARE = 0.4


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
    """What one training step takes: images (B, 3, S, S) float32 and targets (B,) int64.

    Where only the head learns, `images` are the photos' features, (B, F) float32.
    """

    images: Tensor
    targets: Tensor


def edges(photos: int, batch_size: int) -> NDArray[np.int64]:
    """Return where an epoch's batches begin and end, from 0 to `photos`.

    Sizes differ by one at most: a last batch of one photo would upset the batch norms.
    """
    steps = -(-photos // batch_size)
    return np.rint(np.linspace(0, photos, steps + 1)).astype(np.int64)


def steps_per_epoch(photos: int, batch_size: int) -> int:
    """Return how many batches of at most `batch_size` an epoch over `photos` photos has."""
    return len(edges(photos, batch_size)) - 1


def training_batches(
    data: Data,
    config: Config,
    epoch: int,
    device: torch.device,
    *,
    first: int = 0,
    part: tuple[int, int] = (0, 1),
    resident: Tensor | None = None,
    features: NDArray[np.float32] | None = None,
) -> Generator[Batch]:
    """Yield the epoch's batches from number `first` on: each photo once, with a crop of its own.

    Order, crops and flips follow from (seed, epoch) alone, so that a resumed run draws the same.
    `part` (i, n) yields the i-th of n equal parts of each batch. Pixels are taken from `resident`,
    if they lie on the device; with `features` (N, F) there are no pixels.
    """
    rng = np.random.default_rng((config.seed, epoch))
    order = rng.permutation(data.train)
    crops = draw_crops(rng, len(order))
    bounds = edges(len(order), config.batch_size)[first:]
    rank, of = part

    def load(start: int, end: int) -> Batch:
        size = end - start
        some = slice(start + size * rank // of, start + size * (rank + 1) // of)
        rows = order[some]
        targets = torch.from_numpy(data.targets[rows]).to(device)
        if features is not None:
            return Batch(torch.from_numpy(features[rows]).to(device), targets)
        if resident is not None:
            images = resident[torch.from_numpy(rows).to(device)]
        else:
            images = upload(data.pixels[rows], device)
        images = prepare(images, crops[some], config.image_size, data.mean, data.std)
        return Batch(images, targets)

    ranges = zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
    return prefetch(lambda ends: load(*ends), ranges)


def resident(pixels: NDArray[np.uint8], device: torch.device, room: int) -> Tensor | None:
    """Return the pack's pixels on the device, or None where they take more than `room` bytes.

    They are read from the disk once, in parts of about 200 MB.
    """
    if pixels.nbytes > room:
        return None
    there = torch.empty(pixels.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(pixels), 1024):
        part = np.ascontiguousarray(pixels[start : start + 1024])
        there[start : start + len(part)] = torch.from_numpy(part).to(device)
    return there


def room_on(device: torch.device) -> int:
    """Return how many bytes of pixels the device should hold; none on a CPU, which maps them."""
    if device.type == "cpu":
        return 0
    free, _ = torch.cuda.mem_get_info(device)
    return int(free * PIXELS_SHARE)


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
