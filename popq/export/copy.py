"""The catalogue as one SQLite file, whatever database it is in."""

from __future__ import annotations

from pathlib import Path

from popq.catalogue import copy
from popq.catalogue.db import Catalogue
from popq.export.whole import whole_file


def save(catalogue: Catalogue, target: Path) -> int:
    """Write a copy of the catalogue to a file; return how many rows there are in it."""
    with whole_file(target) as scratch:
        return copy.copy_to(catalogue, scratch)
