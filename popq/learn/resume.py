"""Where a run stands, written into its `last` checkpoint and read back without losing a bit."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from popq.errors import BadInput
from popq.learn import checkpoint
from popq.learn.config import Config
from popq.learn.data import Data
from popq.learn.training import Training

OPTIMIZER_PREFIX, MEAN_PREFIX, SUMS = "optimizer.", "mean.", "middle.sums"


class OtherData(BadInput):
    """A checkpoint is of the very configuration that is asked for, but of other data."""


@dataclass(frozen=True)
class EpochReport:
    """One whole epoch. Training figures are those of the augmented photos while learning.

    An accuracy is the share of photos put into their tier, or of pairs put in order (`rank`).
    `lr` is the last step's; `seconds` the whole epoch's, validation too; `images_per_second`
    training photos by training seconds.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    lr: float
    seconds: float
    images_per_second: float


@dataclass
class Middle:
    """How far an epoch is: steps taken, photos seen, training seconds, sums of loss and correct."""

    step: int = 0
    done: int = 0
    seconds: float = 0.0
    sums: Tensor = field(default_factory=lambda: torch.zeros(2, dtype=torch.float64))


@dataclass
class Point:
    """Where a run is: the reports of its whole epochs, and how far the next one is."""

    reports: list[EpochReport] = field(default_factory=list)
    middle: Middle = field(default_factory=Middle)


@dataclass(frozen=True)
class Saved:
    """A `last` checkpoint that was found: its tensors by name, and its facts."""

    path: Path
    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def facts_of(config: Config, data: Data) -> dict[str, Any]:
    """Return what a checkpoint must agree with to be gone on from, as JSON gives it back."""
    return {
        "config": config.to_json(),
        "mean": list(data.mean),
        "std": list(data.std),
        "photos": [len(data.train), len(data.val)],
        "pairs": None if data.pairs is None else [len(data.pairs.train), len(data.pairs.val)],
        "scale": data.scale(config).to_json(),
    }


def save(
    training: Training,
    folder: Path,
    point: Point,
    may_write: checkpoint.MayWrite = lambda: None,
) -> None:
    """Write `last`; raises `Misconfigured` when the disk refuses, and leaves the one before.

    `may_write` is asked as `checkpoint.write` does.
    """
    middle = point.middle
    tensors = dict(training.model.state_dict()) | _optimizer_state(training)
    if training.mean is not None:
        mean = training.mean.model.state_dict()
        tensors |= {f"{MEAN_PREFIX}{name}": tensor for name, tensor in mean.items()}
    facts = facts_of(training.config, training.data) | {
        "epoch": len(point.reports),
        "reports": [asdict(report) for report in point.reports],
        "parts": training.parts,
    }
    if middle.step:
        tensors[SUMS] = middle.sums
        facts["middle"] = {"step": middle.step, "done": middle.done, "seconds": middle.seconds}
    checkpoint.write(folder, "last", tensors, facts, may_write)


def find(folder: Path, config: Config, data: Data) -> Saved | None:
    """Return the run's `last` checkpoint, None if there is none.

    Raises `BadInput` for one that is broken or of another configuration, and of that `OtherData`
    when only the data differ.
    """
    path = checkpoint.path_of(folder, "last")
    if not path.exists():
        return None
    tensors, facts = checkpoint.read(folder, "last")
    now = facts_of(config, data)
    # Apart, since both have `pairs`: of whom they are, and how many.
    asked = _differing(Config().to_json() | facts.get("config", {}), now.pop("config"))
    if odd := asked + _differing(facts, now):
        kind = BadInput if asked else OtherData
        raise kind(
            f"The checkpoint {path} is of another run: "
            + "; ".join(odd)
            + ". Start a new run, or give it what it was started with."
        )
    return Saved(path, tensors, facts)


def _differing(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return in words what is not as it was, each by its name."""
    odd = [name for name in now if before.get(name) != now[name]]
    return [f"its {name} is {before.get(name)}, now {now[name]}" for name in odd]


def restore(training: Training, saved: Saved) -> Point:
    """Put the checkpoint back into network, mean and optimizer; return where the run was."""
    state = training.optimizer.state
    parameters = dict(training.model.named_parameters())
    tensors, facts = saved.tensors, saved.facts
    try:
        point = Point([EpochReport(**report) for report in facts["reports"]])
        names = training.model.state_dict()
        training.model.load_state_dict({name: tensors[name] for name in names})
        if training.mean is not None:
            training.mean.model.load_state_dict({n: tensors[MEAN_PREFIX + n] for n in names})
        for key, tensor in tensors.items():
            if key.startswith(OPTIMIZER_PREFIX):
                kind, name = key.removeprefix(OPTIMIZER_PREFIX).split(".", 1)
                like = parameters[name]
                # In the parameter's own memory order, as the optimizer would have made it.
                state[like][kind] = torch.empty_like(like).copy_(tensor)
        training.parts = int(facts.get("parts", 1))
        if "middle" in facts:
            point.middle = Middle(**facts["middle"], sums=tensors[SUMS].to(training.device))
    except (KeyError, TypeError, RuntimeError) as error:
        raise BadInput(
            f"The checkpoint {saved.path} is not whole: {error}. Delete it to train anew."
        ) from error
    return point


def _optimizer_state(training: Training) -> dict[str, Tensor]:
    """Return the optimizer's tensors, named by what they are and by their parameter."""
    return {
        f"{OPTIMIZER_PREFIX}{kind}.{name}": value
        for name, parameter in training.model.named_parameters()
        for kind, value in training.optimizer.state[parameter].items()
        if isinstance(value, Tensor)
    }
