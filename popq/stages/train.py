"""Train: lease a run, build the pack once, fit, judge the best epoch, record it all."""

from __future__ import annotations

import platform
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import structlog

import popq
from popq.catalogue import datasets, runs
from popq.catalogue.datasets import MemberRow
from popq.catalogue.db import Catalogue, Tx
from popq.catalogue.states import RunState
from popq.errors import BadInput, LeaseLost, Permanent, PopqError, ServiceDown, Transient
from popq.images import pack
from popq.images.store import Store
from popq.learn import loop
from popq.learn.config import Config, configure
from popq.learn.data import Data
from popq.learn.model import pick_device, place
from popq.learn.predict import load, predict
from popq.learn.resume import EpochReport
from popq.stages.heartbeat import Heartbeat
from popq.stats import baselines, metrics

log = structlog.get_logger()

#: A run that has not got on for so long (a step, a part of the pack) is taken for hung. A first
#: step may compile for minutes.
LONGEST_STEP_S: Final = 900.0

#: Called with a phase ("pack", "epoch 3"), how much of it is done, and of how much.
OnProgress = Callable[[str, int, int], None]


class Stopped(PopqError):
    """The run was asked to stop; it can go on from its last checkpoint."""

    exit_code = 130


@dataclass(frozen=True, slots=True)
class Place:
    """Where a trainer works: the image store, folders for packs and runs, the device, its pace."""

    store: Store
    packs: Path
    runs: Path
    device: str
    worker: str
    lease_s: float


def create_run(catalogue: Catalogue, dataset: str, preset: str, **options: Any) -> int:
    """Make a queued run, or take up an unfinished one that was asked to do exactly the same.

    `options` are fields of the trainer's configuration. Raises `BadInput` for what it cannot do.
    """
    with catalogue.begin() as tx:
        row, config = _asked(tx, dataset, preset, options)
        same = runs.find_same(tx, row.id, config)
        if same is not None and same.state != RunState.DONE:
            runs.requeue(tx, same.id)
            return int(same.id)
        return runs.create(tx, row.id, config, config["seed"])


def find_done(catalogue: Catalogue, dataset: str, preset: str, **options: Any) -> int | None:
    """Return a run that has done exactly this already; None when there is none."""
    with catalogue.read() as tx:
        row, config = _asked(tx, dataset, preset, options)
        same = runs.find_same(tx, row.id, config)
    return int(same.id) if same is not None and same.state == RunState.DONE else None


def _asked(
    tx: Tx, dataset: str, preset: str, options: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    row = datasets.get(tx, dataset)
    training = sum(n for split, _, n in datasets.counts(tx, row.id) if split == "train")
    return row, configure(preset, training, outputs=row.tiers, **options).to_json()


def train(
    catalogue: Catalogue,
    run: int,
    where: Place,
    *,
    stop: threading.Event,
    on_progress: OnProgress,
) -> bool:
    """Train a run to its end and record its epochs, weights hash and metrics.

    Returns False when another worker has it or it is over. Goes on from the last checkpoint.
    Raises `Stopped` when `stop` is set, and what ended the run otherwise (the run's row says so).
    """
    with catalogue.begin() as tx:
        term = runs.claim(tx, run, where.worker, where.lease_s)
    if term is None:
        return False
    with structlog.contextvars.bound_contextvars(run=run, term=term, worker=where.worker):
        return _work(catalogue, run, term, where, stop, on_progress)


def _work(
    catalogue: Catalogue,
    run: int,
    term: int,
    where: Place,
    stop: threading.Event,
    on_progress: OnProgress,
) -> bool:
    def renew() -> None:
        with catalogue.begin() as tx:
            runs.renew(tx, run, term, where.lease_s)

    heart = Heartbeat(renew, lease_s=where.lease_s, patience_s=LONGEST_STEP_S)
    try:
        with heart:
            _Trainer(catalogue, run, term, where, stop, on_progress, heart).work()
    except Stopped as stopped:
        with catalogue.begin() as tx:
            runs.hand_back(tx, run, term)
        log.info("run handed back", why=str(stopped))
        raise
    except KeyboardInterrupt:
        with catalogue.begin() as tx:
            runs.stop(tx, run, term)
        raise
    except LeaseLost as error:
        log.warning("run lost", why=str(error))
        return False
    except ServiceDown:
        # No fault of the run's: it goes on from its checkpoint when its lease has run out.
        raise
    except Exception as error:
        # Also what nobody foresaw (memory, say): a run is never left "running".
        with catalogue.begin() as tx:
            runs.fail(tx, run, term, str(error) or type(error).__name__)
        raise
    log.info("run done")
    return True


@dataclass
class _Trainer:
    """One claimed run in one worker's hands."""

    catalogue: Catalogue
    run: int
    term: int
    where: Place
    stop: threading.Event
    on_progress: OnProgress
    heart: Heartbeat

    def work(self) -> None:
        with self.catalogue.read() as tx:
            row = runs.get(tx, self.run)
            dataset = datasets.get(tx, dataset=row.dataset_id)
            members = datasets.members(tx, dataset.id)
        packed = self._pack(dataset, members)
        config = Config.from_json(row.config)
        data = _data(dataset, members, packed.pixels)
        folder = self.where.runs / f"run-{self.run}"
        with self.catalogue.begin() as tx:
            runs.note(tx, self.run, self.term, folder=folder.name)
        result = loop.fit(
            config,
            data,
            folder,
            device=self.where.device,
            on_epoch=self._epoch,
            on_progress=lambda p: self._beat(f"epoch {p.epoch}", p.done, p.total),
        )
        versions = {**result.versions, "popq": popq.__version__, "host": platform.node()}
        judged, sha256 = self._judge(folder, dataset, members, data)
        with self.catalogue.begin() as tx:
            runs.finish(
                tx,
                self.run,
                self.term,
                best_epoch=result.best_epoch,
                weights_sha256=sha256,
                metrics=judged,
                versions=versions,
            )

    def _beat(self, phase: str, done: int, total: int) -> None:
        """Tell of progress, and stop when asked to or when the run is another worker's."""
        if self.stop.is_set():
            raise Stopped(f"run {self.run} stopped at {phase}; its last checkpoint is kept")
        self.heart.check()
        self.heart.progress()
        self.on_progress(phase, done, total)

    def _epoch(self, report: EpochReport) -> None:
        with self.catalogue.begin() as tx:
            runs.add_epoch(tx, self.run, self.term, report, self.where.lease_s)

    def _pack(self, dataset: Any, members: list[MemberRow]) -> pack.Pack:
        folder = pack.folder_of(self.where.packs, dataset.fingerprint)
        there = pack.open_pack(folder, dataset.fingerprint, len(members))
        if there is not None:
            return there
        try:
            return pack.build(
                folder,
                dataset.fingerprint,
                [member.file_key for member in members],
                self.where.store.open,
                workers=2,
                on_progress=lambda done: self._beat("pack", done, len(members)),
            )
        except (Permanent, Transient) as error:
            message = f"A photo of the data set {dataset.name} cannot be read: {error}"
            way_out = "put its file back, or make a new data set without it"
            raise PopqError(f"{message}. Data sets are frozen: {way_out}.") from error

    def _judge(
        self, folder: Path, dataset: Any, members: list[MemberRow], data: Data
    ) -> tuple[dict[str, Any], str]:
        """Judge the best epoch on the validation split, beside predictors that saw no pixel."""
        model, card = load(folder, "best")
        device = pick_device(self.where.device)
        place(model, device)
        chunks = np.array_split(data.val, max(1, len(data.val) // 256))
        found = []
        for shares in predict(model, (data.pixels[rows] for rows in chunks), card, device):
            found.append(shares)
            self._beat("judge", sum(map(len, found)), len(data.val))
        probabilities = np.concatenate(found)
        truth = data.targets[data.val] + 1
        labels = np.array([members[row].label for row in data.val])
        scores = probabilities @ np.array(dataset.tier_labels)
        judged = metrics.classification(truth, probabilities, labels, scores)
        correct = round(judged["accuracy"] * len(truth))
        chance = 1 / dataset.tiers
        judged["chance"] = chance
        judged["p_chance"] = metrics.binomial_p(correct, len(truth), chance)
        judged["without_pixels"] = _without_pixels(members, data)
        return judged, card.sha256


def _data(dataset: Any, members: list[MemberRow], pixels: npt.NDArray[np.uint8]) -> Data:
    split = np.array([member.split for member in members])
    if dataset.mean is None or len(dataset.mean) != 3:  # noqa: PLR2004 - channels
        raise BadInput(f"The data set {dataset.name} has no channel statistics; create it anew.")
    return Data(
        pixels=pixels,
        targets=np.array([member.tier - 1 for member in members], dtype=np.int64),
        train=np.flatnonzero(split == "train"),
        val=np.flatnonzero(split == "val"),
        mean=(dataset.mean[0], dataset.mean[1], dataset.mean[2]),
        std=(dataset.std[0], dataset.std[1], dataset.std[2]),
    )


def _without_pixels(members: list[MemberRow], data: Data) -> dict[str, float]:
    """Return the accuracies of predictors that never saw a picture, on the same split."""
    ids = np.array([m.flickr_id or -m.photo_id for m in members], dtype=np.int64)
    moments = np.array([m.moments for m in members], dtype=np.float64)
    means = moments[:, 1:4] / moments[:, :1]
    deviations = np.sqrt(np.maximum(moments[:, 4:7] / moments[:, :1] - means**2, 0))
    features = np.hstack([means, deviations])
    tiers = data.targets + 1
    return baselines.all_baselines(
        train_ids=ids[data.train],
        train_tiers=tiers[data.train],
        train_features=features[data.train],
        ids=ids[data.val],
        tiers=tiers[data.val],
        features=features[data.val],
    )
