"""Scores judged by the labels: each photo by its own."""

from __future__ import annotations

import pytest
from catalogue.scene import fresh_scene

from popq.catalogue import scores
from popq.catalogue.scores import Scored
from popq.stages.evaluate import evaluate


@pytest.fixture
def scene(tmp_path):
    with fresh_scene(tmp_path) as scene:
        yield scene


def test_files_of_one_name_in_two_folders_keep_their_own_scores(scene):
    stored = {"state": "stored", "file_key": "a.jpg", "sha256": "ab"}
    photos = [scene.photo(source_key=f"{n}/1.jpg", label=float(n), **stored) for n in range(3)]
    members = [(photo, float(n), 1, "val", f"{n}.jpg") for n, photo in enumerate(photos)]
    run = scene.run(scene.dataset("d1", members), done=True)
    with scene.catalogue.begin() as tx:
        scores.record(tx, run, [Scored(photo, n, 1, None) for n, photo in enumerate(photos)])
    told = evaluate(scene.catalogue, run, None)
    assert (told["n"], told["spearman"], told["mae"]) == (3, pytest.approx(1), 0)
    assert (told["missing"], told["unknown"]) == (0, 0)
