"""The catalogue as one SQLite file, whatever database it is in."""

from __future__ import annotations

from pathlib import Path

from popq.catalogue import copy
from popq.catalogue.db import Catalogue
from popq.errors import BadInput
from popq.images.whole import whole_file


def save(catalogue: Catalogue, target: Path) -> int:
    """Write a copy of the catalogue to a file; return how many rows there are in it.

    Raises `BadInput` when that file is the catalogue itself, which workers may have open.
    """
    here = catalogue.path
    if here is not None and here.exists() and target.exists() and target.samefile(here):
        raise BadInput(f"{target} is the catalogue itself; name another file for its copy.")
    with whole_file(target) as scratch:
        return copy.copy_to(catalogue, scratch)
