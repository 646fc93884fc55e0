"""What the report counts, on both databases."""

from __future__ import annotations

import pytest

from popq.catalogue import scores, summaries
from popq.catalogue.scores import Scored
from popq.catalogue.summaries import Order


def plain(rows):
    return [tuple(row) for row in rows]


def test_exits_are_counted_by_state_and_reason_the_commonest_first(scene):
    scene.photos(2)
    for state, reason in [("gone", "gone"), *[("gone", "private")] * 2, ("rejected", "video")]:
        scene.photo(state=state, reason=reason)
    scene.photo(state="gone", reason="not_found")
    with scene.catalogue.read() as tx:
        found = plain(summaries.exits(tx))
    assert found == [
        ("gone", "private", 2),
        ("gone", "gone", 1),
        ("gone", "not_found", 1),
        ("rejected", "video", 1),
    ]


def test_the_newest_data_set_is_the_one_made_last(scene):
    with scene.catalogue.read() as tx:
        assert summaries.newest_dataset(tx) is None
    scene.dataset("z")
    scene.dataset("a")
    with scene.catalogue.read() as tx:
        assert summaries.newest_dataset(tx) == "a"


@pytest.fixture
def scored(scene):
    """A run on eight photos, of which half are for training, scored; two scores are equal."""
    photos = scene.photos(8, "stored")
    splits = ["train"] * 4 + ["val", "val", "val", "test"]
    labels = [1.0, 1.0, 2.5, 9.0, 1.0, 2.5, 4.0, 8.0]
    members = [
        (photo, label, 1 if label < 2 else 2, split, f"{photo}.jpg")
        for photo, label, split in zip(photos, labels, splits, strict=True)
    ]
    scene.dataset("other", [(photos[0], 5.0, 1, "val", "x.jpg")])
    dataset = scene.dataset("d1", members)
    run = scene.run(dataset, done=True)
    values = [9.0, 9.0, 9.0, 9.0, 3.0, 3.0, 0.5, 7.0]
    rows = [Scored(p, v, 2, [0.25, 0.75]) for p, v in zip(photos, values, strict=True)]
    with scene.catalogue.begin() as tx:
        scores.record(tx, run, rows)
    return scene, dataset, run, photos


def test_labels_and_tiers_are_counted_for_one_data_set(scored):
    scene, dataset, _, _ = scored
    with scene.catalogue.read() as tx:
        assert plain(summaries.labels(tx, dataset)) == [
            (1.0, 3),
            (2.5, 2),
            (4.0, 1),
            (8.0, 1),
            (9.0, 1),
        ]
        assert plain(summaries.tiers(tx, dataset)) == [
            (1, "train", 2, 1.0, 1.0),
            (1, "val", 1, 1.0, 1.0),
            (2, "test", 1, 8.0, 8.0),
            (2, "train", 2, 2.5, 9.0),
            (2, "val", 2, 2.5, 4.0),
        ]


def test_only_photos_outside_the_training_split_are_shown_and_ties_go_by_id(scored):
    scene, dataset, run, photos = scored
    *_, a, b, c, d = photos
    with scene.catalogue.read() as tx:
        assert summaries.unseen(tx, run, dataset) == {"test": 1, "val": 3}

        def ids(order, limit=10, without=()):
            rows = summaries.shown(tx, run, dataset, order, limit, without)
            return [row.id for row in rows]

        assert ids(Order.HIGHEST) == [d, a, b, c]
        assert ids(Order.LOWEST) == [c, a, b, d]
        assert ids(Order.FURTHEST) == [c, a, d, b]
        assert ids(Order.MISPLACED) == [a, b, c, d]
        assert ids(Order.HIGHEST, 2, [d]) == [a, b]
        assert ids(Order.LOWEST, 10, photos) == []


def test_a_shown_photo_has_its_label_in_the_set_and_both_tiers(scored):
    scene, dataset, run, photos = scored
    scene.do("UPDATE photos SET label = 99, title = 'T', licence = 4 WHERE id = :id", id=photos[4])
    with scene.catalogue.read() as tx:
        row = summaries.shown(tx, run, dataset, Order.FURTHEST, 2, [photos[6]])[0]
    assert (row.label, row.score, row.tier, row.predicted) == (1.0, 3.0, 1, 2)
    assert (row.title, row.licence, row.split) == ("T", 4, "val")
    assert row.file_key == "4.jpg"


def test_a_photo_that_is_not_stored_any_more_is_not_shown(scored):
    scene, dataset, run, photos = scored
    scene.do("UPDATE photos SET state = 'gone', reason = 'gone' WHERE id = :id", id=photos[4])
    with scene.catalogue.read() as tx:
        assert summaries.unseen(tx, run, dataset) == {"test": 1, "val": 2}
        rows = summaries.shown(tx, run, dataset, Order.HIGHEST, 10, [])
    assert photos[4] not in [row.id for row in rows]
