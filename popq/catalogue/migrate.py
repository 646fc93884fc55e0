"""Bringing a catalogue to this version's shape with the migrations that popq ships."""

from __future__ import annotations

from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import func, select, text

from popq.catalogue.db import Catalogue
from popq.catalogue.version import migrations_folder, refuse_strangers
from popq.errors import Misconfigured

#: Any number that no other user of the same PostgreSQL database takes a lock on.
_UPGRADE_LOCK: Final = 0x706F7071
#: How long an upgrade waits for others that upgrade, or that hold a table it changes.
WAIT_S: Final = 60.0
#: How long one statement of a migration may take (it may write a large table anew).
STATEMENT_TIMEOUT: Final = "30min"


def versions(catalogue: Catalogue) -> tuple[str | None, str | None]:
    """Return the catalogue's migration and the newest one that this popq knows.

    The first is None for a database without a catalogue.
    """
    head = _scripts().get_current_head()
    if not catalogue.exists():
        return None, head
    with catalogue.read() as tx:
        return MigrationContext.configure(tx).get_current_revision(), head


def refuse_older(catalogue: Catalogue, before: str | None, head: str | None) -> None:
    """Raise `Misconfigured` for a catalogue of an older version: `versions` said both."""
    if before not in (None, head):
        message = f"{catalogue} is at version {before}, popq at {head}"
        raise Misconfigured(f"{message}; run `popq init` when its workers have stopped.")


def upgrade(catalogue: Catalogue, *, wait_s: float = WAIT_S) -> str | None:
    """Migrate to the newest version in one transaction; return the version that it had before.

    Raises `Misconfigured` for a catalogue that a newer popq made and for another program's
    database, and `ServiceDown` when others (who upgrade it, or work in it) do not let us for
    `wait_s` seconds (SQLite: for 30).
    """
    refuse_strangers(catalogue)
    catalogue.create_folder()
    with catalogue.begin(create=True) as tx:
        if not catalogue.is_sqlite:
            # Those that wait for a lock hold others up who come after: so not for long.
            tx.execute(text(f"SET LOCAL lock_timeout = {wait_s * 1000:.0f}"))
            tx.execute(text(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'"))
            # Others that upgrade at the same moment wait here (SQLite: in BEGIN IMMEDIATE).
            tx.execute(select(func.pg_advisory_xact_lock(_UPGRADE_LOCK)))
        before = MigrationContext.configure(tx).get_current_revision()
        config = _config()
        config.attributes["connection"] = tx
        command.upgrade(config, "head")
    return before


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())
