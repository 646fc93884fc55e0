"""Train: lease a run, build the pack once, fit, judge the best epoch, record it all."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
import structlog

from popq.catalogue import datasets, pairs, runs
from popq.catalogue.datasets import MemberRow
from popq.catalogue.db import Catalogue
from popq.errors import (
    BadInput,
    LeaseLost,
    Misconfigured,
    Permanent,
    PopqError,
    ServiceDown,
    Transient,
)
from popq.images import pack
from popq.images.store import Store
from popq.learn import engine, loop, trackers
from popq.learn.config import Config
from popq.learn.data import Data, Labels, Pairs, check_spread
from popq.learn.model import pick_device, to_score
from popq.learn.objectives import Reading
from popq.learn.predict import load, predict
from popq.learn.resume import EpochReport, OtherData
from popq.learn.ticker import Halt, Progress
from popq.stages import judge as judging
from popq.stages import provenance
from popq.stages.heartbeat import Heartbeat
from popq.stats.figures import in_labels_unit

log = structlog.get_logger()

#: A run that has not got on for so long (a step, a part of the pack) is taken for hung. A first
#: step may compile for minutes.
LONGEST_STEP_S: Final = 900.0
#: So often a run says in the catalogue how far it is, and sees whether it was asked to stop.
TELL_S: Final = 1.0

Value = TypeVar("Value")

#: Called with a phase ("pack", "epoch 3"), how much of it is done, and of how much.
OnProgress = Callable[[str, int, int], None]


class Stopped(Halt):
    """This process was asked to stop; the run goes on from where it was, by whoever is free."""

    exit_code = 130


class StoppedByName(Stopped):
    """Somebody asked for this very run to stop (`popq runs stop`); it waits to be asked for."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a trainer works: the image store, folders for packs and runs, the device, its pace.

    `save_every_s` is the time between two checkpoints within an epoch.
    """

    store: Store
    packs: Path
    runs: Path
    device: str
    worker: str
    lease_s: float
    save_every_s: float = loop.SAVE_EVERY_S


def team(device: str) -> engine.Engine | None:
    """Return this process's engine if a launcher started several, else None.

    Alone the engine is made once the run is claimed, so that the run can say what is wrong with it.
    """
    return engine.engine(pick_device(device)) if engine.launched() else None


def agreed(device: str, ask: Callable[[], Value]) -> Value:
    """Return what `ask` returns; of several processes the leader asks, and the others are told."""
    several = team(device)
    if several is None:
        return ask()
    answer: Any = several.same(ask() if several.leads else None)
    told: Value = answer
    return told


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
    Raises `Stopped` when `stop` is set or the run was asked to, and what ended the run otherwise
    (its row says so): `stopped` by what a person can mend, `failed` by anything else, and `queued`
    by a service that is down.

    Of several processes only the first is known to the catalogue; the others compute with it. It
    raises `LeaseLost` when the run it had is another worker's.
    """

    def claim() -> int | None:
        with catalogue.begin() as tx:
            return runs.claim(tx, run, where.worker, where.lease_s)

    several = team(where.device)
    term = agreed(where.device, claim)
    if term is None:
        return False
    if several is not None and not several.leads:
        _compute_along(catalogue, run, where, several)
        return True
    with structlog.contextvars.bound_contextvars(run=run, term=term, worker=where.worker):
        done = _work(catalogue, run, term, where, stop, on_progress)
    if several is not None:
        if not done:
            # They wait in the middle of a step: the launcher ends them with us.
            raise LeaseLost(f"Run {run} is another worker's by now, who goes on with it.")
        several.same(None)  # the row is written
    return done


def _compute_along(catalogue: Catalogue, run: int, where: Place, several: engine.Engine) -> None:
    """Compute with the leader, writing nothing; the launcher ends this process if it dies."""
    with catalogue.read() as tx:
        row = runs.get(tx, run)
        dataset = datasets.get(tx, dataset=row.dataset_id)
        members = datasets.members(tx, dataset.id)
    several.same(None)  # the pack is built
    folder = pack.folder_of(where.packs, dataset.fingerprint)
    packed = pack.open_pack(folder, dataset.fingerprint, len(members))
    if packed is None:
        raise Misconfigured(f"{folder} is not here; the machines of one run share POPQ_DATA_DIR.")
    config = Config.from_json(row.config)
    loop.fit(
        config,
        _data(dataset, members, packed.pixels, _pairs(catalogue, dataset, members, config)),
        where.runs / f"run-{run}",
        on_epoch=lambda _: None,
        on_progress=lambda _: None,
        cache=folder,
        together=several,
    )
    several.same(None)  # the leader has judged and written


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
            end = runs.stop if isinstance(stopped, StoppedByName) else runs.hand_back
            end(tx, run, term)
        log.info("run stopped", why=str(stopped))
        raise
    except KeyboardInterrupt:
        with catalogue.begin() as tx:
            runs.stop(tx, run, term)
        raise
    except LeaseLost as error:
        log.warning("run lost", why=str(error))
        return False
    except ServiceDown as error:
        # No fault of the run's: it waits, and goes on from its checkpoint when somebody takes it.
        # If it is the database that is away, that is when its lease has run out.
        with contextlib.suppress(ServiceDown, LeaseLost), catalogue.begin() as tx:
            runs.hand_back(tx, run, term, str(error))
        raise
    except OtherData as error:
        # Data sets are frozen but for purges, one of which came while the run was in somebody's
        # hands; but pairs follow from what is known of the photos now.
        with catalogue.begin() as tx:
            runs.fail(tx, run, term, runs.CHANGED)
        raise BadInput(f"Run {run} failed: {runs.CHANGED}.") from error
    except Exception as error:
        # A full disk, weights out of reach: once that is mended it goes on where it was. The same
        # numbers diverge again. What nobody foresaw fails: a run is never left "running".
        goes_on = isinstance(error, PopqError) and not isinstance(error, loop.Diverged)
        why = str(error) or type(error).__name__
        with catalogue.begin() as tx:
            runs.stop(tx, run, term, why) if goes_on else runs.fail(tx, run, term, why)
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
    told: float = 0.0

    def work(self) -> None:
        with self.catalogue.read() as tx:
            row = runs.get(tx, self.run)
            dataset = datasets.get(tx, dataset=row.dataset_id)
            members = datasets.members(tx, dataset.id)
        versions = provenance.of_code() | {"data": dataset.fingerprint}
        folder = self.where.runs / f"run-{self.run}"
        with self.catalogue.begin() as tx:
            runs.note(tx, self.run, self.term, folder=folder.name, versions=versions)
        config = Config.from_json(row.config)
        # Before pairs are counted, of which equal labels have none, and before the pack is built.
        check_spread(np.array([one.label for one in members if one.split == "train"]))
        found = _pairs(self.catalogue, dataset, members, config)
        several = team(self.where.device)
        packed = self._pack(dataset, members)
        if several is not None:
            several.same(None)  # they may open it
        data = _data(dataset, members, packed.pixels, found)
        with trackers.tracking(row.tracker, folder, folder.name, row.config) as tell:
            result = loop.fit(
                config,
                data,
                folder,
                device=self.where.device,
                on_epoch=lambda report: self._epoch(report, tell),
                on_progress=self._step,
                on_note=self._note,
                may_write=self._may_write,
                save_every_s=self.where.save_every_s,
                cache=pack.folder_of(self.where.packs, dataset.fingerprint),
                together=several,
            )
        said, sha256 = self._predictions(folder, data)
        unit = in_labels_unit(row.config)
        judged = judging.judge(dataset, members, said, unit=unit)
        with self.catalogue.begin() as tx:
            judging.record(tx, self.run, [members[row].photo_id for row in data.val], said)
            runs.finish(
                tx,
                self.run,
                self.term,
                best_epoch=result.best_epoch,
                weights_sha256=sha256,
                metrics=judged,
                versions=result.versions | versions,
            )

    def _step(self, progress: Progress) -> None:
        phase = f"epoch {progress.epoch}" if progress.epoch else "features"
        self._beat(phase, progress.done, progress.total, progress)

    def _beat(self, phase: str, done: int, total: int, progress: Progress | None = None) -> None:
        """Tell of progress, and stop when asked to or when the run is another worker's."""
        if self.stop.is_set():
            raise Stopped(f"run {self.run} stopped at {phase}; it goes on from there")
        self.heart.check()
        self.heart.progress()
        if time.monotonic() - self.told >= TELL_S:
            self.told = time.monotonic()
            told = asdict(progress) if progress else {"done": done, "total": total}
            # A database that is away is the heartbeat's business.
            with contextlib.suppress(ServiceDown), self.catalogue.begin() as tx:
                if runs.tell(tx, self.run, self.term, {"phase": phase, **told}):
                    raise StoppedByName(f"run {self.run} was stopped by name at {phase}")
        self.on_progress(phase, done, total)

    def _may_write(self) -> None:
        """Raise `LeaseLost` when the run is another's by now, whose checkpoints must stay.

        The catalogue is asked, not only the heartbeat: a process that slept through its lease wakes
        with both at once. While it does not answer, what was learnt is kept.
        """
        self.heart.check()
        with contextlib.suppress(ServiceDown), self.catalogue.begin() as tx:
            runs.renew(tx, self.run, self.term, self.where.lease_s)

    def _note(self, text: str) -> None:
        log.warning("run goes on otherwise than asked", why=text)
        with self.catalogue.begin() as tx:
            runs.note(tx, self.run, self.term, message=text)

    def _epoch(self, report: EpochReport, tell: trackers.Tell) -> None:
        with self.catalogue.begin() as tx:
            new = runs.add_epoch(tx, self.run, self.term, report, self.where.lease_s)
        if new:
            values = {name: float(value) for name, value in asdict(report).items()}
            tell(values, report.epoch)

    def _pack(self, dataset: Any, members: list[MemberRow]) -> pack.Pack:
        folder = pack.folder_of(self.where.packs, dataset.fingerprint)
        try:
            return pack.build(
                folder,
                dataset.fingerprint,
                [member.file_key for member in members],
                self.where.store.open,
                workers=os.cpu_count() or 2,
                on_progress=lambda done: self._beat("pack", done, len(members)),
            )
        except (Permanent, Transient) as error:
            message = f"A photo of the data set {dataset.name} cannot be read: {error}"
            # Other bytes, which Flickr may send by now, are other pixels than the set was made of.
            way_out = "put its file back (`popq doctor --store --repair` and `popq download` fetch"
            way_out += " it again), or, if it comes as other bytes or not at all, make a new data"
            raise PopqError(f"{message}. Data sets are frozen: {way_out} set.") from error

    def _predictions(self, folder: Path, data: Data) -> tuple[judging.Said, str]:
        """Return what the best epoch says of the validation split, and its weights' sha256."""
        model, card = load(folder, "best")
        device = pick_device(self.where.device)
        model = to_score(model, device)
        chunks = np.array_split(data.val, max(1, len(data.val) // 256))
        found: list[Reading] = []
        for reading in predict(model, (data.pixels[rows] for rows in chunks), card, device):
            found.append(reading)
            self._beat("judge", sum(len(one.tiers) for one in found), len(data.val))
        shares = [one.probabilities for one in found if one.probabilities is not None]
        return judging.Said(
            np.concatenate([one.scores for one in found]),
            np.concatenate([one.tiers for one in found]),
            np.concatenate(shares) if shares else None,
        ), card.sha256


def _pairs(
    catalogue: Catalogue, dataset: Any, members: list[MemberRow], config: Config
) -> Pairs | None:
    """Return the pairs to rank by, each within its split; None for another objective."""
    if config.objective != "rank":
        return None
    ids = np.array([member.photo_id for member in members])
    training = np.array([member.label for member in members if member.split == "train"])
    apart = pairs.CLEARLY_APART * float(training.std())
    found = {}
    for split in ("train", "val"):
        with catalogue.read() as tx:
            mined = pairs.mine(tx, dataset.id, split, apart=apart, within=config.pairs)
            photos = np.array([pair for some in mined for pair in some], dtype=np.int64)
        rows = np.searchsorted(ids, photos.reshape(-1, 2))
        # By number, so that one catalogue gives one run whatever its database's order.
        found[split] = rows[np.lexsort(rows.T)]
    log.info("pairs mined", within=config.pairs, **{k: len(v) for k, v in found.items()})
    mined_pairs = Pairs(found["train"], found["val"])
    mined_pairs.check(config.pairs)  # before the pack, which may take an hour
    return mined_pairs


def _data(
    dataset: Any, members: list[MemberRow], pixels: npt.NDArray[np.uint8], found: Pairs | None
) -> Data:
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
        labels=Labels(
            values=np.array([member.label for member in members], dtype=np.float64),
            cuts=tuple(dataset.cuts),
            tier_labels=tuple(dataset.tier_labels),
        ),
        pairs=found,
    )
