"""Predict: score pictures that are in no catalogue, with a run of one or with an exported model."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from PIL import Image

from popq.catalogue import datasets, runs
from popq.catalogue.db import Catalogue
from popq.errors import BadInput, Outcome, Permanent
from popq.images import decode
from popq.images.fetch import ImageClient
from popq.learn import exported
from popq.learn.model import pick_device
from popq.learn.predict import Card, load
from popq.learn.scorer import Refused, Scorer

#: What files of photos in a folder end with.
ENDINGS: Final = frozenset({".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp"})


def open_run(catalogue: Catalogue, runs_folder: Path, run_id: int) -> tuple[Any, Card, Any, Any]:
    """Return a run's best network (on the CPU), its card, its row and its data set's row.

    Raises `BadInput` for a run without weights, or whose weights are not those it recorded.
    """
    with catalogue.read() as tx:
        run = runs.get(tx, run_id)
        dataset = datasets.get(tx, dataset=run.dataset_id)
    if run.state != "done":
        message = f"Run {run_id} is {run.state}: it has no weights to score with"
        raise BadInput(f"{message}. `popq runs {run_id}` says where it stands.")
    folder = runs_folder / run.folder
    model, card = load(folder, "best")
    if card.sha256 != run.weights_sha256:
        message = f"The weights in {folder} are not those that run {run_id} recorded"
        raise BadInput(f"{message} (sha256 differs): restore them, or train anew.")
    return model, card, run, dataset


def load_run(catalogue: Catalogue, runs_folder: Path, run_id: int, device: str) -> Scorer:
    """Return a scorer with a run's best weights; raises as `open_run`."""
    model, card, _, _ = open_run(catalogue, runs_folder, run_id)
    return Scorer(model, card, pick_device(device))


def load_exported(folder: Path, device: str) -> Scorer:
    """Return a scorer with an exported model; `BadInput` when the folder holds none."""
    model, card = exported.read(folder)
    return Scorer(model, card, pick_device(device))


def sources(given: Iterable[str], stdin: Iterable[str]) -> Iterator[str]:
    """Yield the files and links that were named: those themselves, of folders, and of `-`.

    `stdin` are lines of paths and links. Raises `BadInput` for a folder without images, and when
    nothing comes from standard input.
    """
    for name in given:
        if not name:
            raise BadInput("A name is empty: is a variable of the shell not set?")
        found = 0
        if name == "-":
            for line in stdin:
                if stripped := line.strip():
                    found += 1
                    yield stripped
            if not found:
                raise BadInput("Nothing came from standard input: pipe in paths or links, a line.")
        elif not _is_link(name) and Path(name).is_dir():
            for path in _images_below(Path(name)):
                found += 1
                yield str(path)
            if not found:
                endings = ", ".join(sorted(ENDINGS))
                raise BadInput(f"There is no image in the folder {name} ({endings}).")
        else:
            yield name


def predict(
    scorer: Scorer, names: Iterable[str], client: ImageClient
) -> Iterator[tuple[str, dict[str, Any] | None, str | None]]:
    """Yield (name, what the network says, None) or (name, None, why not) of each, in order.

    Links are fetched only from where a photo of the list would be; see `images.reach`.
    """

    def read(name: str) -> Image.Image:
        if "\0" in name:
            message = "no file's name has a NUL in it: one path or link a line, please"
            raise Permanent(message, outcome=Outcome.FILE_MISSING)
        if _is_link(name):
            return decode.decode(io.BytesIO(client.fetch(name).data)).image
        return decode.decode(Path(name)).image

    asked: list[str] = []

    def noted() -> Iterator[str]:
        for name in names:
            asked.append(name)
            yield name

    for result in scorer.stream(noted(), read):
        name = asked.pop(0)
        if isinstance(result, Refused):
            yield name, None, str(result.error)
        else:
            said = {"score": result.score, "tier": result.tier}
            yield name, {**said, "probabilities": result.probabilities}, None


def _is_link(name: str) -> bool:
    return name[:8].lower().startswith(("https://", "http://"))


def _images_below(folder: Path) -> Iterator[Path]:
    """Yield a folder's images, its folders' too, in the same order on every machine."""
    for here, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            if Path(name).suffix.lower() in ENDINGS:
                yield Path(here, name)
