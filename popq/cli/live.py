"""`popq train --follow`: a table that grows by a line an epoch, and how far the next one is."""

from __future__ import annotations

import time
from typing import Any, Final

import click

from popq.cli import show
from popq.cli.progress import QUIET_S
from popq.cli.voice import LINE

#: Seconds between two looks where lines are overwritten.
LOOK_S: Final = 1.0
_WIDTHS: Final = (
    ("epoch", 9),
    ("loss", 8),
    ("accuracy", 9),
    ("val loss", 9),
    ("val accuracy", 13),
    ("images/s", 10),
    ("time left", 12),
)


class Live:
    """Shows a run on stderr: a line for each whole epoch, and one that says how the next goes.

    On a terminal that one is overwritten; elsewhere it comes every few seconds.
    """

    def __init__(self) -> None:
        self._shown = 0
        self._looked = self._spoke = -QUIET_S
        self._header = False

    def due(self) -> bool:
        """Return whether it is time to look at the run again."""
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return False
        self._looked = now
        return True

    def __call__(self, run: dict[str, Any]) -> None:
        """Show the run as `api.show_run` returns it."""
        epochs, running = run["epochs"], run["state"] == "running"
        progress = run["progress"] if running else {}
        left = progress.get("left_s")
        for epoch in epochs[self._shown :]:
            self._line(
                f"{epoch['epoch']}/{run['config']['epochs']}",
                epoch["train_loss"],
                epoch["train_accuracy"],
                epoch["val_loss"],
                epoch["val_accuracy"],
                epoch["images_per_second"],
                left if epoch is epochs[-1] else None,
            )
        self._shown = len(epochs)
        now = time.monotonic()
        if progress and now - self._spoke >= (0 if LINE.over else QUIET_S):
            self._spoke = now
            self._now(progress)

    def _now(self, progress: dict[str, Any]) -> None:
        """Say how far it is."""
        done, total = progress["done"], progress["total"]
        parts = [f"{progress['phase']}: {done:,} of {total:,}"]
        if progress.get("loss") is not None:
            parts.append(f"loss {progress['loss']:.4f}, accuracy {progress['accuracy']:.3f}")
        if progress.get("images_per_second"):
            parts.append(f"{progress['images_per_second']:.1f} images/s")
        if progress.get("left_s") is not None:
            parts.append(f"{show.duration(progress['left_s'])} left")
        LINE.put(", ".join(parts))

    def _line(self, name: str, *values: float | None) -> None:
        if not self._header:
            self._header = True
            self._say("".join(f"{title:>{width}}" for title, width in _WIDTHS))
        shown = [name]
        for value, digits in zip(values, (4, 3, 4, 3, 1), strict=False):
            shown.append("-" if value is None else f"{value:.{digits}f}")
        left = values[-1]
        shown.append("" if left is None else show.duration(left))
        self._say("".join(f"{text:>{w}}" for text, (_, w) in zip(shown, _WIDTHS, strict=True)))

    @staticmethod
    def _say(line: str) -> None:
        LINE.wipe()
        click.echo(line, err=True)
