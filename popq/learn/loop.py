"""Training: epochs, metrics over whole epochs, and a resume that changes nothing.

On the CPU a run that is killed and started again ends with the same bits as one left alone (same
machine and versions; a GPU's sums vary in their last bits anyway): order, crops and flips are
drawn from (seed, epoch), the rate is a function of the step, and `last` holds all the rest, also
in the middle of an epoch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from popq.errors import BadInput, Misconfigured, PopqError
from popq.learn import checkpoint, cuts, engine, features, recipe, resume
from popq.learn.config import Config, learning_rate
from popq.learn.data import Batch, Data, aim_of, edges, steps_per_epoch, training_batches
from popq.learn.model import autocast_dtype, pick_device, to_score, versions
from popq.learn.objectives import Objective
from popq.learn.predict import CHUNK, outputs
from popq.learn.resume import EpochReport, Middle, Point
from popq.learn.ticker import Metrics, Progress, Ticker
from popq.learn.training import Training, begin

#: Steps between looks at the loss: each look makes a GPU wait for the CPU.
LOOK_EVERY = 16
#: Seconds between checkpoints within an epoch.
SAVE_EVERY_S = 600.0


class Diverged(PopqError):
    """The loss is no longer a finite number; the checkpoints are those of the epochs before."""


@dataclass(frozen=True)
class Result:
    """A finished run: a report an epoch, the best epoch's number, what it ran on, and a note.

    `note` says what went otherwise than asked, None if nothing did.
    """

    reports: tuple[EpochReport, ...]
    best_epoch: int
    versions: dict[str, str]
    note: str | None


def fit(
    config: Config,
    data: Data,
    folder: Path,
    *,
    device: str = "auto",
    on_epoch: Callable[[EpochReport], None],
    on_progress: Callable[[Progress], None],
    on_note: Callable[[str], None] = lambda _: None,
    may_write: checkpoint.MayWrite = lambda: None,
    save_every_s: float = SAVE_EVERY_S,
    cache: Path | None = None,
    together: engine.Engine | None = None,
) -> Result:
    """Train as `config` says, or go on from the `last` checkpoint in `folder`, to the last epoch.

    `on_progress` is called after every batch. A `Halt` that it raises ends the run with a
    checkpoint of where it is; after anything else that of the last epoch, or of the last
    `save_every_s` seconds, stays. `on_epoch` is called once the epoch's checkpoint is on the disk,
    and on a resume first for the epochs before: a caller that died in between misses none, so
    record by epoch number. `on_note` hears of what goes otherwise than asked. `may_write` is asked
    before each checkpoint takes its name; what it raises ends the run and leaves the one before.
    The best epoch is the one of the objective's highest merit in validation. Features of a frozen
    network are kept in `cache` (`folder` if not given). `together` is this process's engine, if it
    is made already; of several processes only the leader writes and calls what it was given.

    Raises `BadInput` for data that cannot be trained on, or a checkpoint of another configuration,
    of other data, broken or foreign; `Misconfigured` for a missing device, weights that cannot be
    fetched, a disk that refuses, memory that does not do for two photos; `Diverged` for a loss
    that is no number.
    """
    data.check(config)
    team = together or engine.engine(pick_device(device))
    folder.mkdir(parents=True, exist_ok=True)
    if team.leads:
        checkpoint.clear_temporary(folder)
    saved = resume.find(folder, config, data)
    training = begin(
        config, data, team.device, weights="none" if saved else config.weights, engine=team
    )
    point = resume.restore(training, saved) if saved else Point()
    aim = aim_of(config, data)
    if team.leads:
        _mend_best(training, folder, aim, point, may_write)
    ticker = Ticker(training, folder, point, on_progress, on_note, save_every_s, may_write)
    if config.freeze:
        kept = features.of(training, cache or folder, ticker.features)
        training.adopt_features(kept)
    if team.leads:
        for report in point.reports:
            on_epoch(report)
    while len(point.reports) < config.epochs and not _stalled(aim, point.reports, config.patience):
        report = _epoch(training, point, ticker)
        better = not point.reports or _merit(aim, report) > _merit(aim, _best(aim, point.reports))
        point.reports.append(report)
        point.middle = Middle()
        if not team.leads:
            continue
        # `last` first: it has all of `best`, which a resume after a kill in between writes from it.
        # The other way round a kill would leave the weights of an epoch that is then trained again,
        # where another machine's bits may find it no better.
        ticker.save()
        if better:
            _write_best(training, folder, report.epoch, may_write)
        on_epoch(report)
    if config.objective == "rank" and team.leads:
        cuts.cut(folder, data, team.device, ticker.cutting, may_write)
    best = _best(aim, point.reports)
    return Result(tuple(point.reports), best.epoch, versions(team.device), ticker.note)


def _write_best(
    training: Training, folder: Path, epoch: int, may_write: checkpoint.MayWrite
) -> None:
    """Write what is judged now as `best`, that of epoch `epoch`.

    No timings in it, so that the same training gives the same file, to the hash.
    """
    facts = resume.facts_of(training.config, training.data) | {"epoch": epoch}
    checkpoint.write(folder, "best", training.judged.state_dict(), facts, may_write)


def _mend_best(
    training: Training, folder: Path, aim: Objective, point: Point, may_write: checkpoint.MayWrite
) -> None:
    """Write `best` if a kill came between it and the `last` that was restored."""
    if not point.reports or point.middle.step:
        return
    epoch = _best(aim, point.reports).epoch
    if epoch != point.reports[-1].epoch:
        return
    try:
        written = checkpoint.read(folder, "best")[1].get("epoch")
    except BadInput:  # missing, or damaged: its weights are here
        written = None
    if written != epoch:
        _write_best(training, folder, epoch, may_write)


def _merit(aim: Objective, report: EpochReport) -> tuple[float, float]:
    return aim.merit(report.val_loss, report.val_accuracy)


def _best(aim: Objective, reports: list[EpochReport]) -> EpochReport:
    """Return the first of the best epochs."""
    return max(reports, key=lambda report: _merit(aim, report))


def _stalled(aim: Objective, reports: list[EpochReport], patience: int) -> bool:
    """Return whether the last `patience` epochs (0: any number) brought none that is better."""
    if not patience or not reports:
        return False
    return len(reports) - _best(aim, reports).epoch >= patience


def _epoch(training: Training, point: Point, ticker: Ticker) -> EpochReport:
    """Train for the rest of the epoch that `point` is in, validate, and report."""
    epoch, middle = len(point.reports) + 1, point.middle
    begun = time.monotonic() - middle.seconds
    before = middle.done

    def trained(seen: Metrics | None, look: bool) -> None:
        nonlocal before
        middle.seconds = time.monotonic() - begun
        ticker.trained(epoch, middle.done - before, seen, look=look)
        before = middle.done

    train = train_one_epoch(training, epoch, trained, middle)
    checked = 0

    def validated(done: int) -> None:
        nonlocal checked
        ticker.validated(epoch, done - checked, done)
        checked = done

    val = evaluate(training, validated)
    _check_finite(val.loss, training.config, epoch)
    config, steps = training.config, middle.step
    report = EpochReport(
        epoch=epoch,
        train_loss=train.loss,
        train_accuracy=train.accuracy,
        val_loss=val.loss,
        val_accuracy=val.accuracy,
        lr=learning_rate(config, epoch * steps - 1, config.epochs * steps),
        seconds=time.monotonic() - begun,
        images_per_second=middle.done / middle.seconds,
    )
    return training.engine.same(report)


def train_one_epoch(
    training: Training,
    epoch: int,
    on_batch: Callable[[Metrics | None, bool], None],
    middle: Middle | None = None,
) -> Metrics:
    """Take one step for each batch of epoch `epoch` (from 1) that is left after `middle`.

    `on_batch` hears of every step, once `middle` says so too: the metrics so far when they were
    looked at, and whether all processes are at one now. Returns sums over photos (or pairs) divided
    by their number, as the network was at each batch. Raises `Diverged` when the loss is no longer
    finite.
    """
    config, data, device = training.config, training.data, training.device
    aim = aim_of(config, data)
    ends = edges(data, config)[1:].tolist()
    steps = steps_per_epoch(data, config)
    middle = middle if middle is not None else Middle()
    middle.sums = middle.sums.to(device)
    seen: Metrics | None = None
    training.net.train()
    batches = training_batches(
        data,
        config,
        epoch,
        device,
        first=middle.step,
        part=(training.engine.rank, training.engine.processes),
        resident=training.resident,
        features=training.features,
    )
    with closing(batches):
        for batch in batches:
            overall = (epoch - 1) * steps + middle.step
            rate = learning_rate(config, overall, config.epochs * steps)
            middle.sums += training.engine.total(train_step(training, aim, batch, rate))
            if training.mean is not None:
                training.mean.follow(training.model, overall)
            look = middle.step % LOOK_EVERY == 0
            middle.done = ends[middle.step]
            middle.step += 1
            if look:
                _check_finite(float(middle.sums[0]), config, epoch)
                seen = _mean(aim, middle)
            on_batch(seen, look)
    _check_finite(float(middle.sums[0]), config, epoch)
    return _mean(aim, middle)


def _mean(aim: Objective, middle: Middle) -> Metrics:
    loss, correct = middle.sums.tolist()
    examples = middle.done // aim.group
    return Metrics(loss / examples, correct / examples)


def train_step(training: Training, aim: Objective, batch: Batch, rate: float) -> Tensor:
    """Take one step at rate `rate`; return the batch's summed loss and its right examples, (2,).

    When memory runs out the batch is cut into twice as many parts, whose gradients add up, for
    this step and all that follow. Raises `Misconfigured` when two photos are too many.
    """
    recipe.set_rate(training.optimizer, rate)
    while True:
        training.optimizer.zero_grad()
        try:
            sums = _gradients(training, aim, batch)
            break
        except RuntimeError as error:
            if not recipe.is_out_of_memory(error):
                raise
            _cut(training, len(batch.targets), error)
    if training.config.clip_norm:
        torch.nn.utils.clip_grad_norm_(training.net.parameters(), training.config.clip_norm)
    training.optimizer.step()
    return sums


def _gradients(training: Training, aim: Objective, batch: Batch) -> Tensor:
    """Add up the gradients of the step's mean loss; return the batch's summed loss and right ones.

    Several processes' gradients are averaged. Their shares of the step differ by one example, so
    each divides by the mean share: so all examples weigh the same.
    """
    dtype = autocast_dtype(training.device)
    examples, sums = len(batch.targets) // aim.group, []
    mean_share = batch.shared / aim.group / training.engine.processes
    # A pair is never divided.
    cuts_at = [aim.group * (examples * i // training.parts) for i in range(1, training.parts)]
    smoothing = training.config.label_smoothing if training.config.objective == "classify" else 0.0
    images = batch.images.tensor_split(cuts_at)
    for part, targets in zip(images, batch.targets.tensor_split(cuts_at), strict=True):
        with torch.autocast(training.device.type, dtype, enabled=dtype is not None):
            logits = training.net(part)
        logits = logits.float()
        loss = aim.loss(logits, targets)
        goal = recipe.softened(loss, logits, smoothing)
        (goal / mean_share).backward()  # type: ignore[no-untyped-call]
        sums.append(torch.stack([loss.detach(), aim.correct(logits.detach(), targets)]))
    return torch.stack(sums).sum(dim=0)


def _cut(training: Training, photos: int, error: RuntimeError) -> None:
    """Cut batches into twice as many parts from now on, of two photos at least."""
    if photos < 4 * training.parts or training.engine.processes > 1:
        # In several processes the others would wait for gradients that never come.
        raise Misconfigured(
            f"Memory does not do for {photos // training.parts} photos at "
            f"{training.config.image_size} pixels: {error}. Give a smaller --batch-size, "
            "--image-size or --arch resnet18, or a device with more memory."
        ) from error
    training.parts *= 2
    if training.device.type == "cuda":
        torch.cuda.empty_cache()


def _check_finite(loss: float, config: Config, epoch: int) -> None:
    if not math.isfinite(loss):
        raise Diverged(
            f"The loss in epoch {epoch} is {loss}: training has diverged. Try a lower rate than "
            f"--lr {config.lr:g} (a tenth), as a new run; the checkpoints are those of epoch "
            f"{epoch - 1}."
        )


def evaluate(training: Training, on_batch: Callable[[int], None]) -> Metrics:
    """Return loss and accuracy over all validation photos, seen by their centre."""
    config, data, device = training.config, training.data, training.device
    aim = aim_of(config, data)
    size = CHUNK[device.type]

    def photos() -> Iterator[NDArray[np.uint8]]:
        for start in range(0, len(data.val), size):
            yield data.pixels[data.val[start : start + size]]

    parts: list[Tensor] = []
    norm = (data.mean, data.std)
    seen: Generator[Tensor] = (
        outputs(to_score(training.judged, device), photos(), config.image_size, norm, device)
        if training.features is None
        else _from_features(training, training.features)
    )
    with closing(seen) as batches:
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


def _from_features(training: Training, features: NDArray[np.float32]) -> Generator[Tensor]:
    """Yield the head's outputs for the validation photos, a thousand at a time."""
    rows = training.data.val
    training.net.eval()
    for start in range(0, len(rows), 1024):
        some = torch.from_numpy(features[rows[start : start + 1024]]).to(training.device)
        with torch.inference_mode():
            yield training.net(some).float()
