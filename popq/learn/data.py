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
from popq.learn.cores import lent, take
from popq.learn.objectives import Objective, Scale, objective

Item = TypeVar("Item")
Ready = TypeVar("Ready")
#: Batches that wait for the model at most, of each thread that loads.
AHEAD = 2
#: Share of a GPU's free memory that packed photos may take: the model needs the rest.
PIXELS_SHARE = 0.4
#: With fewer pairs than this a ranking learns its few photos by heart.
FEWEST_PAIRS = 10


def check_spread(training: NDArray[np.float64]) -> None:
    """Raise `BadInput` where the training photos' labels (n,) are all the same."""
    # Not by the deviation: that of 0.1, 0.1, 0.1 is not quite 0.
    if training.min() == training.max():
        raise BadInput(
            f"All {len(training):,} training photos have one label, {training[0]:g}: there is"
            " nothing to learn from. Import photos with other labels and make a new data set."
        )


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
        more = "make a data set of more photos, or train with --objective regress."
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
        check_spread(self.labelled.values[self.train])
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
    pair follow each other, the less popular first. Where only the head learns, `images` are the
    photos' features, (B, F) float32. `shared` is how many photos the step has in all processes.
    """

    images: Tensor
    targets: Tensor
    shared: int


def aim_of(config: Config, data: Data) -> Objective:
    """Return what `config` trains for, reading outputs by the labels of `data`."""
    return objective(config.objective, data.scale(config))


def edges(data: Data, config: Config) -> NDArray[np.int64]:
    """Return where an epoch's batches begin and end, in photos, from 0 to all that it trains on.

    Of `rank` these are pairs, each whole in one batch, and at most half as many as there are
    photos, so that an epoch is as long whatever the objective. Sizes differ by one photo or pair at
    most, and none is of one photo, of which batch norms can make nothing: so of an odd number in
    twos, one batch is of three.
    """
    group = aim_of(config, data).group
    examples = min(len(data.examples(config, "train")), max(1, len(data.train) // group))
    steps = -(-examples // max(1, config.batch_size // group))
    steps = min(steps, group * examples // 2)
    return group * np.rint(np.linspace(0, examples, steps + 1)).astype(np.int64)


def steps_per_epoch(data: Data, config: Config) -> int:
    """Return how many batches an epoch has; see `edges`."""
    return len(edges(data, config)) - 1


def smallest_share(data: Data, config: Config, processes: int) -> int:
    """Return how many photos of a step a process gets at least, pairs kept whole."""
    group = aim_of(config, data).group
    return int(np.diff(edges(data, config)).min()) // group // processes * group


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

    For `rank` they are the epoch's draw of the pairs. Order, crops and flips follow from (seed,
    epoch) alone, so that a resumed run draws the same. `part` (i, n) yields the i-th of n parts of
    each batch. Pixels are taken from `resident`, if they lie on the device; with `features` (N, F)
    there are no pixels.
    """
    rng = np.random.default_rng((config.seed, epoch))
    examples = rng.permutation(data.examples(config, "train"))
    bounds = edges(data, config)
    order = examples.reshape(-1)[: bounds[-1]]
    bounds = bounds[first:]
    crops = draw_crops(rng, len(order))
    answers, group = data.answers(aim_of(config, data)), examples.shape[1]
    rank, of = part

    def load(start: int, end: int) -> Batch:
        size = (end - start) // group
        some = slice(start + group * (size * rank // of), start + group * (size * (rank + 1) // of))
        rows = order[some]
        targets = torch.from_numpy(answers[rows]).to(device)
        if features is not None:
            return Batch(torch.from_numpy(features[rows]).to(device), targets, end - start)
        if resident is not None:
            images = resident[torch.from_numpy(rows).to(device)]
        else:
            images = upload(data.pixels[rows], device)
        images = prepare(images, crops[some], config.image_size, data.mean, data.std)
        return Batch(images, targets, end - start)

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


def prefetch(
    load: Callable[[Item], Ready], items: Iterable[Item], *, threads: int = 1, each: int = 1
) -> Generator[Ready]:
    """Yield `load(item)` for each item in order, loading up to `AHEAD` ahead in each thread.

    `each` is the number of torch's own threads in one of these `threads`. The items are drawn in
    the caller's thread. Close the iterator to stop early: at most one load a thread is waited for.
    An error in `load` is raised at its item's turn.
    """
    waiting: deque[Future[Ready]] = deque()
    # With one of torch's threads here, loading never starts a second team that would fight the
    # model's for the cores (ResNet50 on two cores: 0.98 of the bare step's speed, with a team
    # 0.885).
    with (
        lent(),
        ThreadPoolExecutor(threads, "popq-load", initializer=take, initargs=(each,)) as pool,
    ):
        try:
            for item in items:
                waiting.append(pool.submit(load, item))
                if len(waiting) > AHEAD * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
