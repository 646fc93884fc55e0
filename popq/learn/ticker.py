"""What happens after each batch: progress is told, the run is saved now and then, or halted."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from popq.errors import PopqError
from popq.learn import cuts, resume
from popq.learn.checkpoint import MayWrite
from popq.learn.data import edges
from popq.learn.resume import Point
from popq.learn.training import Training


class Halt(PopqError):
    """What `on_progress` raises to stop a run: it is saved where it is, to go on from there."""


@dataclass(frozen=True)
class Metrics:
    """Mean loss over the objective's examples (photos, or pairs), and the share that are right."""

    loss: float
    accuracy: float


@dataclass(frozen=True)
class Progress:
    """How far epoch `epoch` is, in photos trained on or validated, of `total`.

    Epoch 0 computes a frozen network's features. `loss` and `accuracy` are those of training in
    this epoch when last looked at; `images_per_second` and `left_s`, to the end of the last epoch,
    follow from what was trained and validated since this process began. None where not known yet.
    """

    epoch: int
    done: int
    total: int
    loss: float | None = None
    accuracy: float | None = None
    images_per_second: float | None = None
    left_s: float | None = None


class Ticker:
    """Tells of progress, saves and halts; one for a run, in each of its processes."""

    def __init__(
        self,
        training: Training,
        folder: Path,
        point: Point,
        on_progress: Callable[[Progress], None],
        on_note: Callable[[str], None],
        save_every_s: float,
        may_write: MayWrite,
    ) -> None:
        self._training, self._folder, self._point = training, folder, point
        self._on_progress, self._on_note = on_progress, on_note
        self._every_s, self._may_write = save_every_s, may_write
        self._saved = self._began = time.monotonic()
        self._photos = 0
        self._halt: Halt | None = None
        self._parts = 1
        self.note: str | None = None
        self._trains = int(edges(training.data, training.config)[-1])
        self._total = self._trains + len(training.data.val)

    def features(self, done: int) -> None:
        """Tell of photos whose features are known."""
        self._on_progress(Progress(0, done, len(self._training.data.pixels)))
        # Rate and time left are those of training, which begins once all features are there.
        self._began = time.monotonic()

    def cutting(self, done: int) -> None:
        """Tell of photos whose scores say where a ranking's tiers are cut."""
        total = min(len(self._training.data.train), cuts.PHOTOS)
        self._on_progress(Progress(self._training.config.epochs, done, total))

    def trained(self, epoch: int, photos: int, seen: Metrics | None, *, look: bool) -> None:
        """Tell of a batch that was trained on; `look` says that processes may agree now."""
        middle, leads = self._point.middle, self._training.engine.leads
        self._photos += photos
        self._say_parts()
        if leads:
            try:
                self._tell(epoch, middle.done, seen)
            except Halt as halt:
                self._halt = halt
        alone = self._training.engine.processes == 1
        if (alone or look) and self._training.engine.any(self._halt is not None):
            if leads:
                self.save()
            raise self._halt or Halt("another process was asked to stop")
        if leads and time.monotonic() - self._saved >= self._every_s:
            self.save()

    def validated(self, epoch: int, photos: int, done: int) -> None:
        """Tell of a batch of validation; a halt here leaves the epoch's last step to go on from."""
        self._photos += photos
        if not self._training.engine.leads:
            return
        try:
            self._tell(epoch, self._trains + done, None)
        except Halt:
            self.save()
            raise

    def save(self) -> None:
        """Write `last` as of now."""
        resume.save(self._training, self._folder, self._point, self._may_write)
        self._saved = time.monotonic()

    def _tell(self, epoch: int, done: int, seen: Metrics | None) -> None:
        seconds = time.monotonic() - self._began
        left = (self._training.config.epochs - epoch + 1) * self._total - done
        told = Progress(
            epoch,
            done,
            self._total,
            loss=seen.loss if seen else None,
            accuracy=seen.accuracy if seen else None,
            images_per_second=self._photos / seconds if seconds else None,
            left_s=left * seconds / self._photos if self._photos else None,
        )
        self._on_progress(told)

    def _say_parts(self) -> None:
        parts = self._training.parts
        if parts == self._parts:
            return
        self._parts = parts
        size = self._training.config.batch_size
        self.note = (
            f"memory ran out for a batch of {size}: each is worked in {parts} parts now (batch "
            "norms see a part at a time); a smaller --batch-size or --image-size avoids it"
        )
        self._on_note(self.note)
