"""Scores: one of each run and photo, of photos that are stored, however often they come."""

from __future__ import annotations

import pytest
from catalogue.scene import at_once

from popq.catalogue import scores
from popq.catalogue.scores import Scored


@pytest.fixture
def run(scene):
    return scene.run(done=True)


def record(scene, run, photos, score=0.5):
    with scene.catalogue.begin() as tx:
        return scores.record(tx, run, [Scored(photo, score, 2, [0.25, 0.75]) for photo in photos])


def test_a_score_is_written_once(scene, run):
    photos = scene.photos(3, "stored")
    assert record(scene, run, photos[:2]) == 2
    assert record(scene, run, photos, score=9.0) == 1
    assert record(scene, run, photos) == 0
    found = dict(scene.rows("SELECT photo_id, score FROM scores"))
    assert found == {photos[0]: 0.5, photos[1]: 0.5, photos[2]: 9.0}
    with scene.catalogue.read() as tx:
        assert scores.count(tx, run) == 3


def test_each_run_has_its_own(scene, run):
    photos = scene.photos(1, "stored")
    assert record(scene, run, photos) == 1
    assert record(scene, scene.run(done=True), photos) == 1


def test_only_stored_photos_are_scored(scene, run):
    photos = scene.photos(1, "resolved") + scene.photos(1, "stored") + [99]
    assert record(scene, run, photos) == 1
    assert record(scene, run, []) == 0


def test_two_workers_that_score_the_same_photos_at_once_do_not_jam(scene, run):
    photos = scene.photos(200, "stored")
    at_once(*[lambda: record(scene, run, photos)] * 4)
    assert scene.scalar("SELECT count(*) FROM scores") == len(photos)
