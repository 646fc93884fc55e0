"""A copy of a whole catalogue as one SQLite file, for programs that read nothing else."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from sqlalchemy import insert, select

from popq.catalogue import datasets, migrate
from popq.catalogue.db import Catalogue
from popq.catalogue.models import Base
from popq.errors import Misconfigured

#: Rows that are read and written at a time.
_AT_A_TIME: Final = 5_000


def copy_to(catalogue: Catalogue, target: Path) -> int:
    """Copy every row, as of one moment, into a new SQLite file; return how many rows there are.

    The file needs nothing beside it. Raises `OSError` when it cannot be made or the disk is full,
    and `Misconfigured` for a catalogue of an older version and whatever else SQLite finds wrong.
    """
    migrate.refuse_older(catalogue, *migrate.versions(catalogue))
    target.touch()  # a place that takes no file says better than SQLite why
    try:
        if catalogue.path is None:
            _copy_rows(catalogue, target)
        else:
            with catalogue.read() as tx:  # says what is wrong if there is none
                tx.execute(select(1))
            with closing(sqlite3.connect(catalogue.path)) as source:
                source.execute("VACUUM INTO ?", (str(target),))
        with closing(sqlite3.connect(target)) as there:
            there.execute("PRAGMA journal_mode=DELETE")
            names = [table.name for table in Base.metadata.sorted_tables]
            counts = (f"SELECT count(*) FROM {name}" for name in names)  # noqa: S608 - our names
            return sum(there.execute(count).fetchone()[0] for count in counts)
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        message = f"{target.parent} does not take a copy of {catalogue}: {error}"
        raise Misconfigured(f"{message}; free some room there, or name another file.") from error


def _copy_rows(catalogue: Catalogue, target: Path) -> None:
    there = Catalogue(f"sqlite:///{target}")
    try:
        migrate.upgrade(there)
        with catalogue.begin() as source, there.begin() as out:
            datasets.hold_still(source)
            for table in Base.metadata.sorted_tables:
                query = select(table).execution_options(yield_per=_AT_A_TIME)
                for rows in source.execute(query).mappings().partitions():
                    out.execute(insert(table), [dict(row) for row in rows])
    finally:
        there.close()
