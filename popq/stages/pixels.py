"""Photos as crops: from the pack of a data set where they are in it, else decoded from the store.

Both are the same function of the same bytes, to the bit, but a packed crop costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from popq.catalogue import datasets
from popq.catalogue.batches import WorkPhoto
from popq.catalogue.db import Catalogue
from popq.images import decode, pack
from popq.images.store import Store


class Pixels:
    """The crops of stored photos; `crop` may be called from any thread."""

    def __init__(self, catalogue: Catalogue, store: Store, packs: Path, dataset: Any) -> None:
        """`dataset` is the row of the data set whose pack is used, if there is one, and whole."""
        self._catalogue = catalogue
        self._store = store
        self._dataset = int(dataset.id)
        with catalogue.read() as tx:
            self._members = np.array(datasets.member_ids(tx, self._dataset), dtype=np.int64)
        folder = pack.folder_of(packs, dataset.fingerprint)
        self._pack = pack.open_pack(folder, dataset.fingerprint, len(self._members))

    def rows(self, photos: Sequence[WorkPhoto]) -> dict[int, int]:
        """Return which rows of the pack are these photos' crops, by photo.

        A photo whose file is another one by now than the pack was made of is left out.
        """
        if self._pack is None or not photos:
            return {}
        lo, hi = min(photo.id for photo in photos), max(photo.id for photo in photos)
        with self._catalogue.read() as tx:
            keys = datasets.file_keys(tx, self._dataset, lo, hi)
        same = [photo.id for photo in photos if keys.get(photo.id) == photo.file_key]
        return dict(zip(same, np.searchsorted(self._members, same).tolist(), strict=True))

    def crop(self, photo: WorkPhoto, row: int | None) -> npt.NDArray[np.uint8]:
        """Return a photo's crop, (256, 256, 3); raises as `Store.open` and `images.decode` do."""
        if row is not None and self._pack is not None:
            packed: npt.NDArray[np.uint8] = self._pack.pixels[row]
            return packed
        with self._store.open(str(photo.file_key)) as file:
            return np.asarray(decode.crop(decode.decode(file).image))
