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
from popq.learn.objectives import Objective, Scale, objective

Item = TypeVar("Item")
Ready = TypeVar("Ready")
#: Batches that wait for the model at most.
AHEAD = 2
#: With fewer pairs than this a ranking learns its few photos by heart.
FEWEST_PAIRS = 10


@dataclass(frozen=True)
class Labels:
    """What the tiers were cut from.

    `values` (N,) float64, a label a photo; `cuts` (K - 1) between the tiers, ascending;
    `tier_labels` (K), the tiers' mean training labels.
    """

    values: NDArray[np.float64]
    cuts: tuple[float, ...]
    tier_labels: tuple[float, ...]


@dataclass(frozen=True)
class Pairs:
    """Photos to compare, (P, 2) row numbers each: the less popular first, both of one split."""

    train: NDArray[np.int64]
    val: NDArray[np.int64]

    def check(self, within: str) -> None:
        """Raise `BadInput` unless these are enough; `within` is of whom they are, owner or any."""
        train, val = len(self.train), len(self.val)
        if train >= FEWEST_PAIRS and val >= 1:
            return
        few = (
            f"{train} pairs to train on and {val} to validate on are too few: {FEWEST_PAIRS} and 1 "
            "are the least"
        )
        more = "import or download more photos, or train with --objective regress."
        if within == "any":
            raise BadInput(f"{few}. Few labels lie clearly apart: {more}")
        what = "Pairs are photos of one owner, posted within days, with labels clearly apart"
        raise BadInput(f"{few}. {what}: give --pairs any for pairs of anybody's photos, {more}")


@dataclass(frozen=True)
class Data:
    """A packed data set: pixels, targets, and which rows are for what.

    `pixels` (N, 256, 256, 3) uint8, usually a memory map; `targets` (N,) int64, tiers from 0;
    `train` and `val` row numbers; `mean` and `std` per channel of the training split, white = 1.
    Without `labels` the tiers' numbers from 1 stand for them. Only `rank` needs `pairs`.
    """

    pixels: NDArray[np.uint8]
    targets: NDArray[np.int64]
    train: NDArray[np.int64]
    val: NDArray[np.int64]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    labels: Labels | None = None
    pairs: Pairs | None = None

    def check(self, config: Config) -> None:
        """Raise `BadInput` unless this can be trained on as `config` says."""
        outputs = config.outputs
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
        if self.labels is not None and len(self.labels.cuts) + 1 != outputs:
            raise BadInput(f"{len(self.labels.cuts)} cuts make no {outputs} tiers.")
        if config.objective != "classify" and self.scale(config).std == 0:
            raise BadInput(
                "All training photos have one label: there is nothing to rank or to regress on. "
                "Import photos with other labels."
            )
        if config.objective == "rank":
            none = np.empty((0, 2), dtype=np.int64)
            (self.pairs or Pairs(none, none)).check(config.pairs)

    def examples(self, config: Config, split: str) -> NDArray[np.int64]:
        """Return the rows of each thing that the loss is summed over, (E, group).

        `split` is "train" or "val". Photos are groups of one; `rank` has pairs.
        """
        if config.objective != "rank":
            return (self.train if split == "train" else self.val)[:, None]
        if self.pairs is None:
            raise BadInput("A ranking needs pairs of photos, and there are none.")
        return self.pairs.train if split == "train" else self.pairs.val

    def scale(self, config: Config) -> Scale:
        """Return what outputs are read by; the cuts of `rank` are not known before its end."""
        labels = self.labelled
        training = labels.values[self.train]
        cuts = () if config.objective == "rank" else labels.cuts
        mean, std = float(training.mean()), float(training.std())
        return Scale(cuts, labels.tier_labels, mean, std)

    @property
    def labelled(self) -> Labels:
        """The labels, or the tiers' numbers from 1 in their place."""
        if self.labels is not None:
            return self.labels
        tiers = range(1, int(self.targets.max()) + 2)
        cuts = tuple(tier - 0.5 for tier in tiers[1:])
        return Labels(self.targets.astype(np.float64) + 1, cuts, tuple(map(float, tiers)))

    def answers(self, aim: Objective) -> NDArray[np.int64] | NDArray[np.float64]:
        """Return what each photo's outputs are held against, (N,)."""
        return self.targets if aim.learns_from == "tiers" else self.labelled.values


@dataclass(frozen=True)
class Batch:
    """What one training step takes: images (B, 3, S, S) float32 and targets (B,).

    Targets are int64 tiers from 0 or float64 labels, as the objective learns from. Photos of one
    pair follow each other, the less popular first.
    """

    images: Tensor
    targets: Tensor


def aim_of(config: Config, data: Data) -> Objective:
    """Return what `config` trains for, reading outputs by the labels of `data`."""
    return objective(config.objective, data.scale(config))


def examples_per_epoch(data: Data, config: Config) -> int:
    """Return how many photos an epoch trains on, or for `rank` how many pairs.

    Pairs are at most half as many as photos, so that an epoch is as long whatever the objective.
    """
    group = aim_of(config, data).group
    return min(len(data.examples(config, "train")), max(1, len(data.train) // group))


def steps_per_epoch(data: Data, config: Config) -> int:
    """Return how many batches of at most `config.batch_size` photos an epoch has."""
    group = aim_of(config, data).group
    return -(-examples_per_epoch(data, config) // max(1, config.batch_size // group))


def training_batches(
    data: Data, config: Config, epoch: int, device: torch.device
) -> Generator[Batch]:
    """Yield the epoch's batches: every training photo once, each with a crop of its own.

    For `rank` they are the epoch's draw of the pairs, each pair whole in one batch. Order, crops
    and flips follow from (seed, epoch) alone, so that a resumed run draws the same. Batch sizes
    differ by one photo or pair at most: a last batch of one photo would upset the batch norms.
    """
    rng = np.random.default_rng((config.seed, epoch))
    examples = rng.permutation(data.examples(config, "train"))
    examples = examples[: examples_per_epoch(data, config)]
    edges = np.linspace(0, len(examples), steps_per_epoch(data, config) + 1)
    bounds = examples.shape[1] * np.rint(edges).astype(int)
    order = examples.reshape(-1)
    crops = draw_crops(rng, len(order))
    answers = data.answers(aim_of(config, data))

    def load(some: slice) -> Batch:
        rows = order[some]
        images = upload(data.pixels[rows], device)
        images = prepare(images, crops[some], config.image_size, data.mean, data.std)
        return Batch(images, torch.from_numpy(answers[rows]).to(device))

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
