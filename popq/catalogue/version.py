"""Whether a database is a catalogue that this popq may touch: every command begins with this look.

It loads no Alembic, and changes nothing: not even a SQLite file's journal mode, which opening the
catalogue sets.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from sqlalchemy import inspect, text

import popq
from popq.catalogue.db import BUSY_S, Catalogue
from popq.errors import Misconfigured

_VERSION_TABLE: Final = "alembic_version"
_VERSION: Final = f"SELECT max(version_num) FROM {_VERSION_TABLE}"  # noqa: S608 - our own name
#: Tables that every catalogue has had since the first.
_OURS: Final = frozenset({"photos", "batches"})


def migrations_folder() -> Path:
    """Return where the migrations lie: inside an installed popq, or beside it in a checkout."""
    package = Path(popq.__file__).parent
    for folder in (package / "migrations", package.parent / "migrations"):
        if (folder / "env.py").is_file():
            return folder
    raise Misconfigured(f"No migrations beside {package}: the installation is broken; reinstall.")


def refuse_strangers(catalogue: Catalogue) -> None:
    """Raise `Misconfigured` for a newer popq's catalogue, and for another program's database."""
    if not catalogue.exists():
        return
    tables, version = _sqlite(catalogue.path) if catalogue.path else _server(catalogue)
    migrations = (migrations_folder() / "versions").glob("*.py")
    known = {migration.name.partition("_")[0] for migration in migrations}
    if version in known or not tables:
        return
    if version is not None and tables >= _OURS:
        message = f"{catalogue} was made by a newer popq (migration {version})"
        raise Misconfigured(f"{message}; upgrade popq.")
    message = f"{catalogue} holds another program's tables, so it is left alone"
    raise Misconfigured(f"{message}; name a database of popq's own in POPQ_DATABASE_URL.")


def _sqlite(path: Path) -> tuple[set[str], str | None]:
    """Return the file's tables and its migration; nothing for one that cannot be read as such."""
    ask = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_S)) as file:
            tables = {row[0] for row in file.execute(ask)}
            here = _VERSION_TABLE in tables
            version = file.execute(_VERSION).fetchone()[0] if here else None
    except sqlite3.Error:
        # Whoever opens it for work says what is wrong with it.
        return set(), None
    return tables - {_VERSION_TABLE}, version


def _server(catalogue: Catalogue) -> tuple[set[str], str | None]:
    with catalogue.read() as tx:
        tables = set(inspect(tx).get_table_names())
        # Asked second: one that is made meanwhile has its version with its tables.
        version = tx.execute(text(_VERSION)).scalar() if _VERSION_TABLE in tables else None
    return tables - {_VERSION_TABLE}, version
