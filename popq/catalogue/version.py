"""Whether a database is a catalogue that this popq may touch: every command begins with this look.

It loads no Alembic, and changes nothing: not even a SQLite file's journal mode, which opening the
catalogue sets.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from sqlalchemy import text

import popq
from popq.catalogue.db import BUSY_S, Catalogue
from popq.errors import Misconfigured

_VERSION_TABLE: Final = "alembic_version"
_VERSION: Final = f"SELECT max(version_num) FROM {_VERSION_TABLE}"  # noqa: S608 - our own name
#: What stands where new tables go, but for what belongs to an extension (PostGIS's tables, say).
_TABLES: Final = """
SELECT relname FROM pg_class
WHERE relkind IN ('r', 'p', 'f') AND relnamespace = current_schema()::regnamespace
  AND NOT EXISTS (
    SELECT FROM pg_depend
    WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e')
"""
#: PostgreSQL's oldest version that popq is tested with.
_OLDEST: Final = (15,)
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
    """Raise `Misconfigured` for a newer popq's catalogue, and for another program's database.

    So it does for a PostgreSQL that is older than 15.
    """
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
        server = tx.dialect.server_version_info or _OLDEST
        if server < _OLDEST:
            message = f"{catalogue} is PostgreSQL {'.'.join(map(str, server))}"
            raise Misconfigured(f"{message}; popq needs {_OLDEST[0]} or newer: upgrade the server.")
        tables = set(tx.execute(text(_TABLES)).scalars())
        # Asked second: one that is made meanwhile has its version with its tables.
        version = tx.execute(text(_VERSION)).scalar() if _VERSION_TABLE in tables else None
    return tables - {_VERSION_TABLE}, version
