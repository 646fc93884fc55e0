"""A trained network that scores pictures: from files, from memory, in any number."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice, starmap
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from popq.errors import PopqError
from popq.images import decode
from popq.learn.augment import PACK_SIDE
from popq.learn.data import prefetch
from popq.learn.model import to_score
from popq.learn.predict import CHUNK, Card, predict

#: What one picture is given as.
Picture = TypeVar("Picture")


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the network says of one picture.

    `score` is in the unit of the labels that it was trained on (log2 views for the Social Media
    Prediction list), but without a unit where it was trained to rank; `tier` counts from 1 (the
    least popular), `probabilities` has one for each tier and sums to 1, or is None where the
    network was not trained to classify.
    """

    score: float
    tier: int
    probabilities: list[float] | None


@dataclass(frozen=True, slots=True)
class Refused(Generic[Picture]):
    """A picture that could not be read, and why."""

    picture: Picture
    error: PopqError


class Scorer:
    """A network ready to score; any number of calls, one at a time."""

    def __init__(self, model: nn.Module, card: Card, device: torch.device) -> None:
        self.card = card
        self._model = to_score(model, device)
        self._device = device

    def score(self, pictures: Iterable[Path | str | Image.Image]) -> list[Prediction]:
        """Score pictures and return one `Prediction` for each, in their order.

        Each is a path or a PIL image of at least 64 pixels on a side, whose numbers are those of
        its file (see `decode.upright` for large JPEGs that were loaded before); its centre square
        is looked at. They are batched inside, and a picture's numbers do not depend on its
        neighbours (to 1e-4). Raises `Permanent` or `Transient` for the first that cannot be read,
        is too small or too large; a note of the error says which it is.
        """
        found: list[Prediction] = []
        for result in self.stream(pictures, read):
            if isinstance(result, Refused):
                which = f"{result.picture} (picture {len(found) + 1} of those given)"
                result.error.add_note(f"It is {which}; leave it out to score the others.")
                raise result.error
            found.append(result)
        return found

    def stream(
        self, pictures: Iterable[Picture], load: Callable[[Picture], Image.Image]
    ) -> Iterator[Prediction | Refused[Picture]]:
        """Yield what comes of each picture, in order, in memory that does not grow with them.

        `load` returns a picture as upright RGB; it is called in one other thread, ahead of the
        network, and what it raises of popq's errors is the picture's `Refused`.
        """
        waiting: deque[list[Refused[Picture] | None]] = deque()

        def pixels() -> Iterator[NDArray[np.uint8]]:
            groups = _groups(pictures, CHUNK[self._device.type])
            for slots, crops in prefetch(lambda group: _loaded(group, load), groups):
                waiting.append(slots)
                yield crops

        with closing(predict(self._model, pixels(), self.card, self._device)) as readings:
            for reading in readings:
                good = starmap(Prediction, reading.photos())
                for refused in waiting.popleft():
                    yield next(good) if refused is None else refused


def read(picture: Path | str | Image.Image) -> Image.Image:
    """Return a picture from a path or from memory as upright RGB; raises as `images.decode`."""
    if isinstance(picture, Image.Image):
        return decode.upright(picture)
    return decode.decode(Path(picture)).image


def _groups(pictures: Iterable[Picture], size: int) -> Iterator[list[Picture]]:
    rest = iter(pictures)
    while group := list(islice(rest, size)):
        yield group


def _loaded(
    group: list[Picture], load: Callable[[Picture], Image.Image]
) -> tuple[list[Refused[Picture] | None], NDArray[np.uint8]]:
    slots: list[Refused[Picture] | None] = []
    crops = []
    for picture in group:
        try:
            crops.append(np.asarray(decode.crop(load(picture))))
            slots.append(None)
        except PopqError as error:
            slots.append(Refused(picture, error))
    if not crops:
        return slots, np.empty((0, PACK_SIDE, PACK_SIDE, 3), dtype=np.uint8)
    return slots, np.stack(crops)
