"""What tests of stages share: an empty catalogue, without a house around it."""

from __future__ import annotations

import pytest

from popq.catalogue import migrate
from popq.catalogue.db import Catalogue


@pytest.fixture
def catalogue(tmp_path):
    catalogue = Catalogue(f"sqlite:///{tmp_path}/c.db")
    migrate.upgrade(catalogue)
    yield catalogue
    catalogue.close()
