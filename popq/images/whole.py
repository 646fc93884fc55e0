"""Files and folders that are there whole or not at all: written beside, then renamed."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from popq.errors import BadInput, Misconfigured
from popq.images.store import FULL, sync


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Yield a path to write to, which becomes `target` when the block ends well.

    Raises `BadInput` when the file cannot be written there, `Misconfigured` when the disk is full.
    """
    # Through a link to what it leads to: a link is not to be replaced by a file.
    place = Path(os.path.realpath(target))
    with _naming(target):
        if place.exists() and not place.is_file():
            raise BadInput(f"{target} is no ordinary file; name another.")
        scratch = _beside(place, target)
        try:
            yield scratch
            sync(scratch)
            scratch.replace(place)
        finally:
            with contextlib.suppress(OSError):
                scratch.unlink()


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yield a new folder to fill, which becomes `target` when the block ends well.

    Raises `BadInput` when something is there already or nothing can be written, `Misconfigured`
    when the disk is full.
    """
    place = Path(os.path.realpath(target))
    with _naming(target):
        if place.exists() and not (place.is_dir() and not any(place.iterdir())):
            raise BadInput(f"{target} is there already; name a new folder, or remove it first.")
        scratch = _beside(place, target)
        try:
            scratch.mkdir()
            yield scratch
            scratch.replace(place)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _beside(place: Path, target: Path) -> Path:
    if not place.parent.is_dir():
        raise BadInput(f"{target} cannot be written: there is no folder {place.parent}.")
    return place.with_name(f".{uuid.uuid4().hex}.popq")


@contextmanager
def _naming(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        if error.errno in FULL:
            message = f"There is no room for {target}: {why}"
            raise Misconfigured(f"{message}; free some, nothing half was left.") from error
        raise BadInput(f"{target} cannot be written: {why}; name another.") from error
