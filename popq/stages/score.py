"""Score: run a trained network over stored photos, in bulk."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt

from popq.catalogue.batches import Failed, Move, WorkPhoto
from popq.catalogue.db import Catalogue
from popq.catalogue.scores import Scored
from popq.catalogue.states import PhotoState
from popq.errors import Outcome, Permanent, Transient
from popq.images.store import Store
from popq.learn.model import pick_device, to_score
from popq.learn.predict import CHUNK, predict
from popq.stages import stocktake
from popq.stages.ledger import Result
from popq.stages.permits import Permits
from popq.stages.pixels import Pixels
from popq.stages.predict import open_run


class Score:
    """The score stage of one run: every stored photo gets a score and a tier.

    What they mean, and whether there are probabilities, depends on what the run was trained for:
    `popq.learn.objectives` says it.
    """

    name = "score"
    batch_size = 2000

    def __init__(
        self,
        catalogue: Catalogue,
        store: Store,
        *,
        runs_folder: Path,
        packs_folder: Path,
        run_id: int,
        device: str,
    ) -> None:
        """Load the run's best weights.

        Raises `BadInput` for a run without weights, or whose weights are not those it recorded.
        """
        self.rates: dict[str, float] = {}
        self._catalogue = catalogue
        model, self._card, _, dataset = open_run(catalogue, runs_folder, run_id)
        self._pixels = Pixels(catalogue, store, packs_folder, dataset)
        self._device = pick_device(device)
        self._model = to_score(model, self._device)
        self._store = store

    def process(self, photos: Sequence[WorkPhoto], permits: Permits) -> Generator[Result]:
        """Yield each photo's score, or what is wrong with its file.

        Raises `Misconfigured` when it is the whole store that is missing.
        """
        del permits  # the store is ours: nobody throttles it
        refused: deque[Result] = deque()
        chunks: deque[list[WorkPhoto]] = deque()
        rows = self._pixels.rows(photos)
        with (
            closing(self._batches(photos, rows, chunks, refused)) as batches,
            closing(predict(self._model, batches, self._card, self._device)) as readings,
        ):
            for reading in readings:
                for photo, said in zip(chunks.popleft(), reading.photos(), strict=True):
                    yield Scored(photo.id, *said, photo.file_key)
                while refused:
                    yield refused.popleft()
        yield from refused

    def _batches(
        self,
        photos: Sequence[WorkPhoto],
        rows: Mapping[int, int],
        chunks: deque[list[WorkPhoto]],
        refused: deque[Result],
    ) -> Generator[npt.NDArray[np.uint8]]:
        """Yield the pixels of the readable photos, noting in `chunks` whose they are."""
        size = CHUNK[self._device.type]  # decoded together, as the network sees them
        parts = [photos[at : at + size] for at in range(0, len(photos), size)]
        with ThreadPoolExecutor(1, thread_name_prefix="decode") as pool:
            decoded = deque(pool.submit(self._decode, part, rows) for part in parts[:1])
            try:
                for following in [*parts[1:], None]:
                    if following is not None:
                        decoded.append(pool.submit(self._decode, following, rows))
                    readable, pixels, bad = decoded.popleft().result()
                    refused.extend(bad)
                    if readable:
                        chunks.append(readable)
                        yield np.stack(pixels)
            finally:
                for future in decoded:
                    future.cancel()

    def _decode(
        self, photos: Sequence[WorkPhoto], rows: Mapping[int, int]
    ) -> tuple[list[WorkPhoto], list[npt.NDArray[np.uint8]], list[Result]]:
        readable, pixels, bad = [], [], []
        checked = False
        for photo in photos:
            try:
                pixels.append(self._pixels.crop(photo, rows.get(photo.id)))
                readable.append(photo)
            except (Permanent, Transient) as error:
                if error.outcome is Outcome.FILE_MISSING and not checked:
                    stocktake.check_there(self._catalogue, self._store)
                    checked = True
                bad.append(self._refused(photo, error))
        return readable, pixels, bad

    def _refused(self, photo: WorkPhoto, error: Permanent | Transient) -> Result:
        failed = Failed(photo.id, error.outcome, str(error))
        if error.outcome is Outcome.CORRUPT and self._is_whole(photo):
            # Whoever stored it could decode it: it is this machine that cannot.
            why = f"{photo.file_key} is whole, but cannot be decoded here: {error}"
            advice = "score it on a machine whose Pillow reads its format"
            return Failed(photo.id, Outcome.TRANSIENT, f"{why}; {advice}")
        if photo.image_url is None or error.outcome is Outcome.TRANSIENT:
            return failed  # a file that cannot be read now is not lost
        if error.outcome is Outcome.CORRUPT:
            # It was whole when it was stored: our file has rotted, not the photo.
            self._store.delete(str(photo.file_key))
        # The image can be fetched again: the next download job takes the photo up.
        # Its sha256 stays, as in `files.lost`: other runs' scores hold if the same bytes come.
        lost = {"file_key": None}
        return Move(photo.id, PhotoState.RESOLVED, values=lost, note=failed)

    def _is_whole(self, photo: WorkPhoto) -> bool:
        try:
            return self._store.is_whole(str(photo.file_key))
        except Permanent:
            return False  # it went between two looks
