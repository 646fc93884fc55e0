"""Training: epochs, metrics over whole epochs, and a resume that changes nothing.

On the CPU a run that is killed and started again ends with the same bits as one left alone (same
machine and versions; a GPU's sums vary in their last bits anyway): order, crops and flips are
drawn from (seed, epoch), the rate is a function of the step, and `last` holds all the rest.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from popq.errors import BadInput, PopqError
from popq.learn import checkpoint, cuts
from popq.learn.config import Config, learning_rate
from popq.learn.data import (
    Batch,
    Data,
    aim_of,
    examples_per_epoch,
    steps_per_epoch,
    training_batches,
)
from popq.learn.model import autocast_dtype, build, pick_device, place, versions
from popq.learn.objectives import Objective
from popq.learn.predict import CHUNK, outputs

#: Steps between looks at the loss: each look makes a GPU wait for the CPU.
LOOK_EVERY = 16
OPTIMIZER_PREFIX = "optimizer."


class Diverged(PopqError):
    """The loss is no longer a finite number; the checkpoints are those of the epochs before."""


@dataclass(frozen=True)
class Metrics:
    """Mean loss over the objective's examples (photos, or pairs), and the share that are right."""

    loss: float
    accuracy: float


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


@dataclass(frozen=True)
class Progress:
    """How far epoch `epoch` is, in photos trained on or validated, of `total`."""

    epoch: int
    done: int
    total: int


@dataclass(frozen=True)
class Result:
    """A finished run: a report an epoch, the best epoch's number, and what it ran on."""

    reports: tuple[EpochReport, ...]
    best_epoch: int
    versions: dict[str, str]


def fit(
    config: Config,
    data: Data,
    folder: Path,
    *,
    device: str = "auto",
    on_epoch: Callable[[EpochReport], None],
    on_progress: Callable[[Progress], None],
) -> Result:
    """Train as `config` says, or go on from the `last` checkpoint in `folder`, to the last epoch.

    `on_progress` is called after every batch; what it raises ends the run and leaves the last
    whole epoch's checkpoint. `on_epoch` is called once the epoch's checkpoint is on the disk, and
    on a resume first for the epochs before: a caller that died in between misses none, so record
    by epoch number. The best epoch is the one of the objective's highest merit in validation.

    Raises `BadInput` for data that cannot be trained on, or a checkpoint of another configuration,
    of other data, broken or foreign; `Misconfigured` for a missing device, weights that cannot be
    fetched, a disk that refuses; `Diverged` for a loss that is no number.
    """
    data.check(config)
    where = pick_device(device)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.clear_temporary(folder)
    resumed = checkpoint.path_of(folder, "last").exists()
    training = begin(config, data, where, weights="none" if resumed else config.weights)
    aim = aim_of(config, data)

    def merit(report: EpochReport) -> tuple[float, float]:
        return aim.merit(report.val_loss, report.val_accuracy)

    reports = _resume(training, folder) if resumed else []
    for report in reports:
        on_epoch(report)
    for epoch in range(len(reports) + 1, config.epochs + 1):
        report = _epoch(training, epoch, on_progress)
        better = not reports or merit(report) > max(map(merit, reports))
        reports.append(report)
        facts = _facts(config, data) | {"epoch": epoch}
        so_far = {"reports": [asdict(r) for r in reports]}
        weights = training.model.state_dict()
        if better:
            # Before `last`: a kill in between repeats this epoch and writes the same again. No
            # timings in it, so that the same training gives the same file, to the hash.
            checkpoint.write(folder, "best", weights, facts)
        checkpoint.write(folder, "last", weights | _optimizer_state(training), facts | so_far)
        on_epoch(report)
    best = max(reports, key=merit)
    if config.objective == "rank":
        total = len(data.train)
        cuts.cut(folder, data, where, lambda n: on_progress(Progress(config.epochs, n, total)))
    return Result(tuple(reports), best.epoch, versions(where))


@dataclass(frozen=True)
class Training:
    """What an epoch works with, on `device`."""

    config: Config
    data: Data
    device: torch.device
    model: nn.Module
    optimizer: Optimizer


def begin(config: Config, data: Data, device: torch.device, *, weights: str) -> Training:
    """Return network and optimizer at their start; random weights follow from the seed alone.

    `weights` as `model.build` takes them, and the errors that it raises.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        needed = aim_of(config, data).outputs(config.outputs)
        model = place(build(config.arch, needed, weights), device)
    optimizer = SGD(
        model.parameters(),
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
    )
    return Training(config, data, device, model, optimizer)


def _epoch(training: Training, epoch: int, on_progress: Callable[[Progress], None]) -> EpochReport:
    """Train for one epoch, validate, and report."""
    data, config = training.data, training.config
    group = aim_of(config, data).group
    trained, validated = group * examples_per_epoch(data, config), len(data.val)

    def progress(done: int) -> None:
        on_progress(Progress(epoch, done, trained + validated))

    start = time.monotonic()
    train = train_one_epoch(training, epoch, progress)
    seconds = time.monotonic() - start
    val = evaluate(training, lambda done: progress(trained + done))
    _check_finite(val.loss, config, epoch)
    return EpochReport(
        epoch=epoch,
        train_loss=train.loss,
        train_accuracy=train.accuracy,
        val_loss=val.loss,
        val_accuracy=val.accuracy,
        lr=training.optimizer.param_groups[0]["lr"],
        seconds=time.monotonic() - start,
        images_per_second=trained / seconds,
    )


def train_one_epoch(training: Training, epoch: int, on_batch: Callable[[int], None]) -> Metrics:
    """Take one step for each batch of epoch `epoch` (from 1); `on_batch` hears of photos done.

    Returns sums over photos (or pairs) divided by their number, as the network was at each batch.
    Raises `Diverged` when the loss is no longer finite.
    """
    config, data, device = training.config, training.data, training.device
    aim = aim_of(config, data)
    steps = steps_per_epoch(data, config)
    sums = torch.zeros(2, dtype=torch.float64, device=device)
    done = 0
    training.model.train()
    with closing(training_batches(data, config, epoch, device)) as batches:
        for step, batch in enumerate(batches):
            rate = learning_rate(config, (epoch - 1) * steps + step, config.epochs * steps)
            sums += train_step(training, aim, batch, rate)
            if step % LOOK_EVERY == 0:
                _check_finite(float(sums[0]), config, epoch)
            done += len(batch.targets)
            on_batch(done)
    loss_sum, correct = sums.tolist()
    _check_finite(loss_sum, config, epoch)
    examples = done // aim.group
    return Metrics(loss_sum / examples, correct / examples)


def train_step(training: Training, aim: Objective, batch: Batch, rate: float) -> Tensor:
    """Take one step at rate `rate`; return the batch's summed loss and its right examples, (2,)."""
    for group in training.optimizer.param_groups:
        group["lr"] = rate
    dtype = autocast_dtype(training.device)
    with torch.autocast(training.device.type, dtype, enabled=dtype is not None):
        logits = training.model(batch.images)
    logits = logits.float()
    loss = aim.loss(logits, batch.targets)
    training.optimizer.zero_grad()
    (loss * aim.group / len(batch.targets)).backward()  # type: ignore[no-untyped-call]
    training.optimizer.step()
    return torch.stack([loss.detach(), aim.correct(logits.detach(), batch.targets)])


def _check_finite(loss: float, config: Config, epoch: int) -> None:
    if not math.isfinite(loss):
        raise Diverged(
            f"The loss in epoch {epoch} is {loss}: training has diverged. Try a lower rate than "
            f"--lr {config.lr:g} (a tenth), as a new run; the checkpoints are those of epoch "
            f"{epoch - 1}."
        )


def evaluate(training: Training, on_batch: Callable[[int], None]) -> Metrics:
    """Return loss and accuracy over the validation split, its photos seen by their centre."""
    config, data, device = training.config, training.data, training.device
    aim = aim_of(config, data)
    size = CHUNK[device.type]

    def photos() -> Iterator[NDArray[np.uint8]]:
        for start in range(0, len(data.val), size):
            yield data.pixels[data.val[start : start + size]]

    parts: list[Tensor] = []
    norm = (data.mean, data.std)
    with closing(outputs(training.model, photos(), config.image_size, norm, device)) as batches:
        for part in batches:
            parts.append(part)
            on_batch(sum(map(len, parts)))
    # Each photo is seen once, in however many pairs it stands.
    place_of = np.empty(len(data.pixels), dtype=np.int64)
    place_of[data.val] = np.arange(len(data.val))
    examples = data.examples(config, "val")
    rows = examples.reshape(-1)
    found = torch.cat(parts)[torch.from_numpy(place_of[rows]).to(device)]
    targets = torch.from_numpy(data.answers(aim)[rows]).to(device)
    loss, correct = float(aim.loss(found, targets)), int(aim.correct(found, targets))
    return Metrics(loss / len(examples), correct / len(examples))


def _facts(config: Config, data: Data) -> dict[str, Any]:
    """Return what a checkpoint must agree with to be gone on from, as JSON gives it back."""
    return {
        "config": config.to_json(),
        "mean": list(data.mean),
        "std": list(data.std),
        "photos": [len(data.train), len(data.val)],
        "pairs": None if data.pairs is None else [len(data.pairs.train), len(data.pairs.val)],
        "scale": data.scale(config).to_json(),
    }


def _optimizer_state(training: Training) -> dict[str, Tensor]:
    """Return the optimizer's tensors, named by what they are and by their parameter."""
    return {
        f"{OPTIMIZER_PREFIX}{kind}.{name}": value
        for name, parameter in training.model.named_parameters()
        for kind, value in training.optimizer.state[parameter].items()
        if isinstance(value, Tensor)
    }


def _resume(training: Training, folder: Path) -> list[EpochReport]:
    """Put `last` back into model and optimizer; return the reports of the epochs so far."""
    path = checkpoint.path_of(folder, "last")
    tensors, facts = checkpoint.read(folder, "last")
    now = _facts(training.config, training.data)
    # One flat table, so that the message can name the very option that differs.
    before, now = facts | facts.get("config", {}), now | now.pop("config")
    if odd := [what for what in now if before.get(what) != now[what]]:
        raise BadInput(
            f"The checkpoint {path} is of another run: "
            + "; ".join(f"its {what} is {before.get(what)}, now {now[what]}" for what in odd)
            + ". Start a new run, or give it what it was started with."
        )
    model, state = training.model, training.optimizer.state
    parameters = dict(model.named_parameters())
    try:
        reports = [EpochReport(**report) for report in facts["reports"]]
        model.load_state_dict({name: tensors[name] for name in model.state_dict()})
        for key, tensor in tensors.items():
            if key.startswith(OPTIMIZER_PREFIX):
                kind, name = key.removeprefix(OPTIMIZER_PREFIX).split(".", 1)
                like = parameters[name]
                # In the parameter's own memory order, as the optimizer would have made it.
                state[like][kind] = torch.empty_like(like).copy_(tensor)
    except (KeyError, TypeError, RuntimeError) as error:
        raise BadInput(
            f"The checkpoint {path} is not whole: {error}. Delete it to train anew."
        ) from error
    return reports
