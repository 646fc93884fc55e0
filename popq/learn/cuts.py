"""Where a ranking's scores are cut into tiers: by the scores of the training photos.

A ranking's score has no unit, so the data set's cuts, which are labels, say nothing of it. What the
data set does say is which share of the training labels lies below each cut. The score is cut so
that the same share of the training photos' scores lies below. Photos that were learnt from are
spread a little wider than unseen ones, so unseen photos are a little rarer in the outer tiers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from popq.learn import checkpoint
from popq.learn.data import Data
from popq.learn.model import to_score
from popq.learn.predict import CHUNK, load, outputs

#: Training photos whose scores are looked at, at most: drawn at random, they meet a tier's share to
#: 0.8 % (one deviation), which all of a large set would not better noticeably.
PHOTOS = 4096


def cut(
    folder: Path,
    data: Data,
    device: torch.device,
    on_batch: Callable[[int], None],
    may_write: checkpoint.MayWrite,
) -> None:
    """Cut the scores of the network `best` in `folder`, and write the cuts into its checkpoint.

    `on_batch` hears of the photos done; `may_write` is asked as `checkpoint.write` does. Does the
    same again if asked again. Raises what reading and writing checkpoints raise.
    """
    model, card = load(folder, "best")
    model = to_score(model, device)
    rng = np.random.default_rng(card.config.seed)
    rows = np.sort(rng.permutation(data.train)[:PHOTOS])
    size = CHUNK[device.type]

    def photos() -> Iterator[NDArray[np.uint8]]:
        for start in range(0, len(rows), size):
            yield data.pixels[rows[start : start + size]]

    parts: list[NDArray[np.float64]] = []
    for found in outputs(model, photos(), card.config.image_size, (card.mean, card.std), device):
        parts.append(found[:, 0].double().cpu().numpy())
        on_batch(sum(map(len, parts)))
    counts = np.bincount(data.targets[data.train], minlength=card.config.outputs)
    found_cuts = cuts_at(np.concatenate(parts), np.cumsum(counts)[:-1] / len(data.train))
    tensors, facts = checkpoint.read(folder, "best")
    facts["scale"] = replace(card.scale, cuts=found_cuts).to_json()
    checkpoint.write(folder, "best", tensors, facts, may_write)


def cuts_at(scores: NDArray[np.float64], shares: NDArray[np.float64]) -> tuple[float, ...]:
    """Return the cuts that leave these shares (ascending) of the scores (n,) below them.

    A cut is one of the scores, and a score at a cut belongs above it. Equal scores are never
    divided, so with many of them shares are met less well.
    """
    ordered = np.sort(scores)
    places = np.minimum(np.rint(shares * len(ordered)).astype(int), len(ordered) - 1)
    return tuple(ordered[places].tolist())
