"""The same tests on SQLite and on PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from catalogue.scene import Scene, empty
from servers import postgres_url
from sqlalchemy import create_engine, text

from popq.catalogue import migrate
from popq.catalogue.db import Catalogue


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
    empty(catalogue)
    yield catalogue
    catalogue.close()


@pytest.fixture(params=["sqlite", "postgres"])
def catalogue(request) -> Catalogue:
    """An empty catalogue on each database."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def scene(catalogue) -> Scene:
    return Scene(catalogue)


@pytest.fixture(scope="session")
def spare_postgres() -> Iterator[str]:
    """One more PostgreSQL database: to make one costs a checkpoint."""
    with postgres_url() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def bare_url(request, tmp_path) -> str:
    """The URL of a database with nothing in it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'bare.db'}"
    url = request.getfixturevalue("spare_postgres")
    engine = create_engine(url)
    with engine.begin() as tx:
        tx.execute(text("DROP SCHEMA public CASCADE"))
        tx.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return url
