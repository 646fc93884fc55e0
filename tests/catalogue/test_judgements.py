"""Judgements: what a run said of its validation photos, kept whole or not at all."""

from __future__ import annotations

import pytest

from popq.catalogue import judgements, scores
from popq.catalogue.judgements import Judged
from popq.catalogue.scores import Scored


@pytest.fixture
def judging(scene):
    """A run on three validation photos and one training photo; their ids, the last trains."""
    photos = scene.photos(4, "stored", owners=("0@N00", None))
    sides = ("val", "val", "val", "train")
    members = [
        (photo, n / 2, 1 + n % 2, side, f"{photo}.jpg")
        for n, (photo, side) in enumerate(zip(photos, sides, strict=True))
    ]
    dataset = scene.dataset(members=members)
    return scene.run(dataset, done=True), dataset, photos


def record(scene, run, photos, score=0.5, shares=(0.25, 0.75)):
    n = len(photos)
    probabilities = None if shares is None else [list(shares)] * n
    with scene.catalogue.begin() as tx:
        judgements.record(tx, run, photos, [score + i for i in range(n)], [2] * n, probabilities)


def of_run(scene, run, dataset):
    with scene.catalogue.read() as tx:
        return judgements.of_run(tx, run, dataset)


def test_what_a_run_said_stands_beside_what_is_true(scene, judging):
    run, dataset, photos = judging
    record(scene, run, photos[:3])
    assert of_run(scene, run, dataset) == [
        Judged(photos[0], "0@N00", 0.0, 1, 0.5, 2, [0.25, 0.75]),
        Judged(photos[1], None, 0.5, 2, 1.5, 2, [0.25, 0.75]),
        Judged(photos[2], "0@N00", 1.0, 1, 2.5, 2, [0.25, 0.75]),
    ]


def test_a_second_judgement_takes_the_place_of_the_first(scene, judging):
    run, dataset, photos = judging
    record(scene, run, photos[:3])
    record(scene, run, photos[1:3], score=9.0, shares=None)
    found = of_run(scene, run, dataset)
    assert [(one.photo, one.score, one.probabilities) for one in found] == [
        (photos[1], 9.0, None),
        (photos[2], 10.0, None),
    ]


def test_photos_that_were_purged_meanwhile_are_left_out(scene, judging):
    run, dataset, photos = judging
    scene.do("DELETE FROM photos WHERE id = :id", id=photos[1])
    record(scene, run, photos[:3])
    assert [one.photo for one in of_run(scene, run, dataset)] == [photos[0], photos[2]]
    scene.do("DELETE FROM photos WHERE id = :id", id=photos[0])
    assert [one.photo for one in of_run(scene, run, dataset)] == [photos[2]]


def test_a_run_judged_before_that_speaks_by_its_scores(scene, judging):
    run, dataset, photos = judging
    assert of_run(scene, run, dataset) == []
    with scene.catalogue.begin() as tx:
        scores.record(tx, run, [Scored(photo, 0.5, 2, [0.25, 0.75]) for photo in photos])
    found = of_run(scene, run, dataset)
    assert [one.photo for one in found] == photos[:3]
    assert {one.predicted for one in found} == {2}
