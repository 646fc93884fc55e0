"""A data set as a manifest without any image, or as folders of images, one a tier.

A manifest says where photos are had from; whoever gets it fetches them from Flickr. Images go only
into a folder that was asked for, as links into the store or as copies, and are nobody's to hand on.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, TextIO

from popq.catalogue import datasets, exports
from popq.catalogue.db import Catalogue
from popq.errors import BadInput, Permanent
from popq.export import tables
from popq.images.store import Store
from popq.images.whole import whole_file, whole_folder

MANIFEST_KINDS: Final = ("csv", "jsonl", "parquet")
#: What Hugging Face calls the splits.
_FOLDERS: Final = {"train": "train", "val": "validation", "test": "test"}
_METADATA: Final = "metadata.csv"


def save_manifest(catalogue: Catalogue, dataset: str, target: Path, kind: str) -> int:
    """Write what is known of each photo of a data set, but no image; return how many there were."""
    with catalogue.read() as tx:
        found = exports.members(tx, datasets.get(tx, dataset).id)
        rows = ([row for row, _ in part] for part in found)
        with whole_file(target) as scratch:
            return tables.write(scratch, kind, exports.MEMBER_COLUMNS, rows)


def write_manifest(catalogue: Catalogue, dataset: str, out: TextIO, kind: str) -> int:
    """Write it to an open text file, as `csv` or `jsonl`."""
    with catalogue.read() as tx:
        found = exports.members(tx, datasets.get(tx, dataset).id)
        lines = tables.write_csv if kind == "csv" else tables.write_jsonl
        return lines(out, exports.MEMBER_COLUMNS, ([row for row, _ in part] for part in found))


def save_folders(
    catalogue: Catalogue, store: Store, dataset: str, target: Path, *, copy: bool
) -> dict[str, Any]:
    """Make `target/SPLIT/TIER/PHOTO.jpg` and a `metadata.csv` beside each split's tiers.

    Returns the numbers of photos, and the ids of those whose files the store has no more. Without
    `copy` the files are links into the store; `BadInput` when it is not on a disk.
    """
    if store.path("") is None and not copy:
        raise BadInput(f"The store {store} is on no disk to link to; ask for copies (--copy).")
    done, missing = 0, []
    with catalogue.read() as tx, whole_folder(target) as scratch, ExitStack() as stack:
        found = datasets.get(tx, dataset)
        folders = _Folders(scratch, stack)
        for row, file_key in _each(exports.members(tx, found.id)):
            about = dict(zip(exports.MEMBER_COLUMNS, row, strict=True))
            place, name = folders.place_of(about, file_key)
            try:
                if copy:
                    with store.open(file_key) as source, place.open("xb") as out:
                        shutil.copyfileobj(source, out, 1 << 20)
                else:
                    _link(store, file_key, place)
            except Permanent:
                missing.append(about["photo_id"])
                continue
            folders.note(about, name)
            done += 1
        if not done:
            raise BadInput(f"The store {store} has no photo of the data set {dataset} any more.")
    return {"photos": done, "missing": missing}


def _each(parts: Iterator[list[tuple[tuple[Any, ...], str]]]) -> Iterator[tuple[Any, str]]:
    for part in parts:
        yield from part


def _link(store: Store, file_key: str, place: Path) -> None:
    store.size(file_key)  # raises for a file that is gone
    source = store.path(file_key)
    assert source is not None  # noqa: S101 - looked at before
    place.symlink_to(os.path.abspath(source))  # noqa: PTH100 - as it is named, links and all


class _Folders:
    """Folders of splits and tiers, made as photos come, and the splits' open `metadata.csv`."""

    def __init__(self, root: Path, stack: ExitStack) -> None:
        self._root = root
        self._stack = stack
        self._tables: dict[str, Any] = {}
        self._made: set[Path] = set()

    def place_of(self, about: dict[str, Any], file_key: str) -> tuple[Path, str]:
        """Return where a photo goes, and what its split's table calls it."""
        stem = about["flickr_id"] or f"photo-{about['photo_id']}"
        name = f"{about['tier']}/{stem}{Path(file_key).suffix}"
        place = self._root / _FOLDERS[about["split"]] / name
        if place.parent not in self._made:
            place.parent.mkdir(parents=True)
            self._made.add(place.parent)
        return place, name

    def note(self, about: dict[str, Any], name: str) -> None:
        """Add a photo to its split's table."""
        split = about.pop("split")
        table = self._tables.get(split)
        if table is None:
            path = self._root / _FOLDERS[split] / _METADATA
            out = self._stack.enter_context(path.open("w", encoding="utf-8", newline=""))
            table = self._tables[split] = tables.csv_by_name(out, ["file_name", *about])
        table.writerow({"file_name": name, **about})
