"""Failed tries as CSV: which photo, what came of it, what the host said.

Cells are as the catalogue has them. Nothing is put before a cell that a spreadsheet might take for
a formula (`=`, `+`, `-`, `@`): that would change data for every other reader, and each program has
its own list of what is dangerous. Links and messages come from outside; import them as text.
"""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from popq.catalogue import queries
from popq.catalogue.db import Catalogue
from popq.export.tables import csv_by_name
from popq.images.whole import whole_file


def write(
    catalogue: Catalogue, out: TextIO, *, job: int | None = None, outcome: str | None = None
) -> int:
    """Write the failed tries, oldest first, below a line of names; return how many there were."""
    table = csv_by_name(out, queries.FAILURE_COLUMNS)
    written = 0
    with catalogue.read() as tx:
        for rows in queries.all_failures(tx, job=job, outcome=outcome):
            table.writerows(rows)
            written += len(rows)
    return written


def save(
    catalogue: Catalogue, target: Path, *, job: int | None = None, outcome: str | None = None
) -> int:
    """Write them to a file, which is there whole or not at all; see `whole_file`."""
    with whole_file(target) as scratch, scratch.open("w", encoding="utf-8", newline="") as out:
        return write(catalogue, out, job=job, outcome=outcome)
