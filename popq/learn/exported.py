"""A trained network as a folder that needs no catalogue: weights, a card, and maybe an ONNX graph.

    model.safetensors   the weights, by torchvision's names
    card.json           what must be known to use them, and what they came to
    model.onnx          crops (B, S, S, 3) uint8 to scores (B,) and probabilities (B, tiers)

The graph begins after decoding, cropping and resizing, which card.json describes in words, and does
all the rest: normalising, the network, probabilities, score. A network that was not trained to
classify has no probabilities; its tiers are where the scores lie between the card's `scale.cuts`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from popq.errors import BadInput, Misconfigured, PopqError
from popq.images.decode import LARGE, SHRUNK_FROM
from popq.learn.augment import CENTRE_SIDE, PACK_SIDE
from popq.learn.config import Config
from popq.learn.model import read_weights
from popq.learn.objectives import Scale, objective
from popq.learn.predict import Card, network

#: The version of a card's shape: 2 has `weights_sha256`, without which no weights are trusted.
FORMAT: Final = 2
WEIGHTS, CARD, GRAPH = "model.safetensors", "card.json", "model.onnx"
#: How far the graph's probabilities may be from the network's, and its scores in shares of how
#: large scores are (`_size`): the graph reckons in single precision, seven digits of whatever size.
TOLERANCE: Final = 1e-4


#: What a score is, by what the network was trained for.
_SCORES: Final = {
    "classify": "the mean of scale.tier_labels, weighted by the probabilities; in the labels' unit",
    "regress": "the label that the network expects, in its unit",
    "rank": "an order alone: it has no unit and no zero",
}


def write(folder: Path, model: nn.Module, card: Card, about: dict[str, Any]) -> None:
    """Write weights and card into an empty folder; `about` goes into the card as it is."""
    config = card.config
    weights = save({name: tensor.contiguous() for name, tensor in model.state_dict().items()})
    shrink = (
        f"over {LARGE:,} pixels: shrink by 2, 4 or 8 on each side, a JPEG by its decoder, others by"
        f" means of blocks, until no more are left or the shorter side is below {SHRUNK_FROM:,}"
    )
    square, seen = f"{PACK_SIDE}x{PACK_SIDE}", f"{config.image_size}x{config.image_size}"
    told = {
        "format": FORMAT,
        "network": f"torchvision {config.arch}",
        "config": config.to_json(),
        "epoch": card.epoch,
        "checkpoint_sha256": card.sha256,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "preprocessing": {
            "steps": [
                "decode to RGB; alpha on white; upright by EXIF; colour profiles ignored",
                shrink,
                f"the largest centre square, to {square}, bilinear with antialiasing",
                f"the central {CENTRE_SIDE}x{CENTRE_SIDE} of it, to {seen}, in the same way",
                "divide by 255, subtract mean, divide by std, for each channel",
            ],
            "size": config.image_size,
            "mean": list(card.mean),
            "std": list(card.std),
        },
        "scale": card.scale.to_json(),
        "score": _SCORES[config.objective],
        **about,
    }
    _write(folder / WEIGHTS, weights)
    _write(folder / CARD, (json.dumps(told, indent=2, ensure_ascii=False) + "\n").encode())


def read(folder: Path) -> tuple[nn.Module, Card]:
    """Return an exported network (on the CPU, in eval mode) and its card.

    Raises `BadInput` when the folder holds none, or of another version, or other weights than were
    exported with the card.
    """
    path = folder / CARD
    try:
        told = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        message = f"{folder} is no exported model ({path.name} cannot be read: {error})"
        raise BadInput(f"{message}; `popq export model` makes one.") from error
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        raise BadInput(f"{path} was written by another version of popq; export the model again.")
    weights = _read_weights(folder / WEIGHTS, told.get("weights_sha256"))
    try:
        config = Config.from_json(told["config"])
        seen = told["preprocessing"]
        scale = Scale.from_json(told["scale"])
        model = network(config, scale)
        model.load_state_dict(weights)
        mean, std = tuple(seen["mean"]), tuple(seen["std"])
        epoch, sha256 = int(told["epoch"]), str(told["checkpoint_sha256"])
        card = Card(config, scale, mean, std, epoch, sha256)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise BadInput(f"{folder} is not whole ({error}); export the model again.") from error
    return model.eval(), card


def _read_weights(path: Path, sha256: object) -> dict[str, Tensor]:
    """Return the weights, once it is sure that they are those that the card speaks of."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise BadInput(f"{message}; export the model again.") from error
    if found != sha256:
        message = f"The weights in {path} are not those that {CARD} was written for"
        raise BadInput(f"{message} (sha256 differs); restore them, or export the model again.")
    return read_weights(path)


def check_onnx() -> None:
    """Raise `Misconfigured` unless ONNX graphs can be written and run here."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(name) is None:
            raise Misconfigured(f"ONNX needs {name}, not installed; pip install 'popq[onnx]'.")


def write_onnx(folder: Path, model: nn.Module, card: Card) -> float:
    """Write the graph and run it beside the network; return the largest difference between both.

    That is of probabilities, or of scores in shares of how large scores are. Raises `PopqError`
    when it is more than `TOLERANCE`, or no number.
    """
    whole = _Whole(model.float().cpu(), card).eval()
    size = card.config.image_size
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 256, (4, size, size, 3), dtype=np.uint8)
    with warnings.catch_warnings():
        # The exporter warns of its own internals, which nobody here can change.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            whole,
            (torch.from_numpy(crops),),
            input_names=["crops"],
            output_names=["scores", "probabilities"][: 1 + whole.classifies],
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise PopqError("torch wrote no ONNX graph.")
    _write(folder / GRAPH, program.model_proto.SerializeToString())
    return _compare(folder / GRAPH, whole, _size(card), rng)


class _Whole(nn.Module):
    """All from a resized crop to its score."""

    mean: Tensor
    std: Tensor
    labels: Tensor

    def __init__(self, model: nn.Module, card: Card) -> None:
        super().__init__()
        self.model = model
        self.aim = objective(card.config.objective, card.scale)
        self.classifies = card.config.objective == "classify"
        ranks = card.config.objective == "rank"
        self._unit = (1.0, 0.0) if ranks else (card.scale.std, card.scale.mean)
        self.register_buffer("mean", torch.tensor(card.mean) * 255)
        self.register_buffer("std", torch.tensor(card.std) * 255)
        self.register_buffer("labels", torch.tensor(card.scale.tier_labels))

    def outputs(self, crops: Tensor) -> Tensor:
        images = ((crops.float() - self.mean) / self.std).permute(0, 3, 1, 2)
        found: Tensor = self.model(images)
        return found

    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        found = self.outputs(crops)
        if not self.classifies:
            return (found[:, 0] * self._unit[0] + self._unit[1],)
        probabilities = found.softmax(dim=1)
        return probabilities @ self.labels, probabilities


def _size(card: Card) -> float:
    """Return how large the scores of a network are, at least 1."""
    scale = card.scale
    if card.config.objective == "rank":  # whose scores are not in the labels' unit, but the cuts'
        return max(1.0, *map(abs, scale.cuts))
    return max(1.0, abs(scale.mean), scale.std, *map(abs, scale.tier_labels))


def _compare(graph: Path, whole: _Whole, size: float, rng: np.random.Generator) -> float:
    """Return how far the graph's numbers are from what popq itself reads off the network."""
    import onnxruntime  # noqa: PLC0415 - an extra

    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    side = session.get_inputs()[0].shape[1]
    found = []
    for photos in (1, 5):
        crops = rng.integers(0, 256, (photos, side, side, 3), dtype=np.uint8)
        with torch.inference_mode():
            reading = whole.aim.read(whole.outputs(torch.from_numpy(crops)))
        scores, *shares = session.run(None, {"crops": crops})
        found.append(np.abs(reading.scores - scores).max() / size)
        if reading.probabilities is not None:
            found.append(np.abs(reading.probabilities - shares[0]).max())
    furthest = float(np.max(found))
    if not furthest <= TOLERANCE:  # NaN is not
        message = f"The ONNX graph differs from the network by {furthest:.2g}"
        allowed = f"at most {TOLERANCE:g} is allowed"
        raise PopqError(f"{message} ({allowed}): nothing is exported; leave out --onnx.")
    return furthest


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
