"""A trained network and its card, and what it says of packed photos."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from popq.errors import BadInput
from popq.learn import checkpoint
from popq.learn.augment import PACK_SIDE, centre_crops, prepare
from popq.learn.config import Config
from popq.learn.cores import cores
from popq.learn.data import prefetch, upload
from popq.learn.model import autocast_dtype, build
from popq.learn.objectives import Reading, Scale, objective

#: Photos that the network sees at a time. Always exactly so many (the last are filled up with
#: black): in bf16 the kernels chosen for another batch size round otherwise, and a photo's
#: probabilities must not depend on its neighbours. More is no faster on a CPU.
CHUNK = {"cpu": 16, "cuda": 128}
#: Chunks that a CPU works on at the same time, at most: each in a thread, with its share of the
#: cores. One after the other, in all of them, is slower: the cores then wait for each other at
#: every layer, and all of them for one that decodes (ResNet50 on two cores, decoding beside it:
#: 0.7 of the bare forward so, and 1.03 with a chunk on each).
AT_ONCE = 4


@dataclass(frozen=True)
class Card:
    """What must be known of a trained network to use it.

    `scale` is what its outputs are read by; `sha256` its checkpoint file's.
    """

    config: Config
    scale: Scale
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    epoch: int
    sha256: str

    @property
    def outputs(self) -> int:
        """The number of tiers it tells apart."""
        return self.config.outputs


def network(config: Config, scale: Scale) -> nn.Module:
    """Return a network of the run's shape, on the CPU, for weights to be put into."""
    needed = objective(config.objective, scale).outputs(config.outputs)
    return build(config.arch, needed, "none")


def load(folder: Path, name: str = "best") -> tuple[nn.Module, Card]:
    """Return the network of checkpoint `name` in `folder`, on the CPU in eval mode, and its card.

    Raises `BadInput` when the checkpoint is missing, broken or foreign.
    """
    tensors, facts = checkpoint.read(folder, name)
    path = checkpoint.path_of(folder, name)
    try:
        config = Config.from_json(facts["config"])
        mean, std, epoch = tuple(facts["mean"]), tuple(facts["std"]), int(facts["epoch"])
        scale = Scale.from_json(facts["scale"])
        model = network(config, scale)
        names = model.state_dict().keys()
        model.load_state_dict({key: tensors[key] for key in names})
    except (KeyError, TypeError, RuntimeError) as error:
        raise BadInput(f"The checkpoint {path} is not whole: {error}. Train anew.") from error
    card = Card(config, scale, mean, std, epoch, checkpoint.weights_sha256(folder, name))
    return model.eval(), card


def predict(
    model: nn.Module, batches: Iterable[NDArray[np.uint8]], card: Card, device: torch.device
) -> Generator[Reading]:
    """Yield for each batch (B, 256, 256, 3) its scores, tiers and probabilities.

    The network lies on `device` (`model.to_score`). The same to 1e-4 however photos are batched.
    Batches are drawn a few chunks ahead, in the caller's thread. Close the iterator to stop early.
    Raises `BadInput` for a ranking whose run has not ended: its tiers are cut then.
    """
    aim = objective(card.config.objective, card.scale)
    norm = (card.mean, card.std)
    with closing(outputs(model, batches, card.config.image_size, norm, device)) as seen:
        for found in seen:
            yield aim.read(found)


def outputs(
    model: nn.Module,
    batches: Iterable[NDArray[np.uint8]],
    image_size: int,
    norm: tuple[tuple[float, float, float], tuple[float, float, float]],
    device: torch.device,
) -> Generator[Tensor]:
    """Yield the network's outputs for each batch, (B, outputs) float32 on `device`.

    The network is one of `model.to_score`. `norm` is the channels' mean and deviation, white = 1.
    Photos are seen by their centre.
    """
    crops = centre_crops(CHUNK[device.type])
    dtype = autocast_dtype(device)

    def ready(chunk: _Chunk) -> tuple[Tensor, _Chunk]:
        filled = np.zeros((len(crops), PACK_SIDE, PACK_SIDE, 3), dtype=np.uint8)
        filled[: len(chunk.pixels)] = chunk.pixels
        return prepare(upload(filled, device), crops, image_size, *norm), chunk

    def seen(images: Tensor, chunk: _Chunk) -> tuple[Tensor, _Chunk]:
        with (
            torch.inference_mode(),
            torch.autocast(device.type, dtype, enabled=dtype is not None),
        ):
            return model(images)[: len(chunk.pixels)].float(), chunk

    chunks = _chunks(batches, len(crops))
    loaded: Generator[Any]
    found: Iterator[tuple[Tensor, _Chunk]]
    if device.type == "cpu":
        teams = min(AT_ONCE, cores())
        found = loaded = prefetch(
            lambda chunk: seen(*ready(chunk)), chunks, threads=teams, each=cores() // teams
        )
    else:
        loaded = prefetch(ready, chunks)
        found = starmap(seen, loaded)
    parts: list[Tensor] = []
    with closing(loaded):
        for logits, chunk in found:
            parts.append(logits)
            if chunk.last:
                yield torch.cat(parts)
                parts = []


@dataclass(frozen=True)
class _Chunk:
    """A part of a caller's batch; `last` says that the batch ends with it."""

    pixels: NDArray[np.uint8]
    last: bool


def _chunks(batches: Iterable[NDArray[np.uint8]], size: int) -> Iterator[_Chunk]:
    for batch in batches:
        if batch.ndim != 4 or batch.shape[1:] != (PACK_SIDE, PACK_SIDE, 3):  # noqa: PLR2004
            raise BadInput(f"A batch is (B, {PACK_SIDE}, {PACK_SIDE}, 3), not {batch.shape}.")
        for start in range(0, max(len(batch), 1), size):
            yield _Chunk(batch[start : start + size], last=start + size >= len(batch))
