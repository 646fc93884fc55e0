"""A fresh catalogue for each export."""

from __future__ import annotations

import pytest
from catalogue.scene import fresh_scene


@pytest.fixture
def scene(tmp_path):
    with fresh_scene(tmp_path) as scene:
        yield scene
