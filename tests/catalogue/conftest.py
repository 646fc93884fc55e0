"""The same tests on SQLite and on PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from catalogue.scene import Scene
from servers import postgres_url
from sqlalchemy import text

from popq.catalogue import migrate
from popq.catalogue.db import Catalogue
from popq.catalogue.models import Base


@pytest.fixture(scope="session")
def empty_sqlite(tmp_path_factory) -> Path:
    """A migrated SQLite file, to be copied."""
    path = tmp_path_factory.mktemp("catalogue") / "empty.db"
    catalogue = Catalogue(f"sqlite:///{path}")
    migrate.upgrade(catalogue)
    catalogue.close()
    return path


@pytest.fixture(scope="session")
def migrated_postgres() -> Iterator[str]:
    """A migrated PostgreSQL database, to be emptied by each test."""
    with postgres_url() as url:
        catalogue = Catalogue(url)
        migrate.upgrade(catalogue)
        catalogue.close()
        yield url


@pytest.fixture
def sqlite(empty_sqlite, tmp_path) -> Iterator[Catalogue]:
    catalogue = Catalogue(f"sqlite:///{shutil.copy(empty_sqlite, tmp_path / 'popq.db')}")
    yield catalogue
    catalogue.close()


@pytest.fixture
def postgres(migrated_postgres) -> Iterator[Catalogue]:
    catalogue = Catalogue(migrated_postgres)
    names = ", ".join(table.name for table in Base.metadata.sorted_tables)
    with catalogue.begin() as tx:
        tx.execute(text("SET LOCAL lock_timeout = '10s'"))
        tx.execute(text(f"TRUNCATE {names} RESTART IDENTITY CASCADE"))
    yield catalogue
    catalogue.close()


@pytest.fixture(params=["sqlite", "postgres"])
def catalogue(request) -> Catalogue:
    """An empty catalogue on each database."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def scene(catalogue) -> Scene:
    return Scene(catalogue)


@pytest.fixture(params=["sqlite", "postgres"])
def bare_url(request, tmp_path) -> Iterator[str]:
    """The URL of a database with nothing in it."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'bare.db'}"
    else:
        with postgres_url() as url:
            yield url
