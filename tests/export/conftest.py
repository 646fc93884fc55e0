"""A fresh catalogue for each export."""

from __future__ import annotations

import pytest
from catalogue.scene import Scene

from popq.catalogue import migrate
from popq.catalogue.db import Catalogue


@pytest.fixture
def scene(tmp_path):
    catalogue = Catalogue(f"sqlite:///{tmp_path / 'popq.db'}")
    migrate.upgrade(catalogue)
    yield Scene(catalogue)
    catalogue.close()
