"""A fresh catalogue and store for each report."""

from __future__ import annotations

import shutil

import pytest
from report.scenes import Reported

from popq.catalogue import migrate
from popq.catalogue.db import Catalogue


@pytest.fixture(scope="session")
def empty_catalogue(tmp_path_factory):
    """A migrated SQLite file, to be copied."""
    path = tmp_path_factory.mktemp("report") / "empty.db"
    catalogue = Catalogue(f"sqlite:///{path}")
    migrate.upgrade(catalogue)
    catalogue.close()
    return path


@pytest.fixture
def scene(empty_catalogue, tmp_path):
    catalogue = Catalogue(f"sqlite:///{shutil.copy(empty_catalogue, tmp_path / 'popq.db')}")
    yield Reported(catalogue, tmp_path)
    catalogue.close()
