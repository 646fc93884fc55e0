"""Frozen data sets: who could be in, who is, and sums that are exact."""

from __future__ import annotations

import datetime as dt

import pytest
from catalogue.scene import DATASET, moments
from sqlalchemy import update

from popq.catalogue import datasets
from popq.catalogue.models import Photo
from popq.errors import BadInput


@pytest.fixture
def frozen(scene):
    """Four photos: two to train on, one to validate with, one outside."""
    ids = scene.photos(4, "stored")
    members = [
        (ids[1], 0.1, 1, "train", "b.jpg"),
        (ids[0], 0.9, 2, "train", "a.jpg"),
        (ids[2], 0.5, 2, "val", "c.jpg"),
    ]
    return scene, ids, scene.dataset("d1", members)


def test_candidates_are_stored_measured_and_labelled(scene):
    first, second, third = scene.photos(3, "stored")
    scene.photos(2, "resolved")
    scene.do("UPDATE photos SET label = NULL WHERE id = :id", id=second)
    scene.do("DELETE FROM moments WHERE photo_id = :id", id=third)
    with scene.catalogue.read() as tx:
        found = datasets.candidates(tx)
    assert (found.id, found.label, found.owner) == ([first], [0.0], ["0@N00"])
    assert found.posted == [None]


def test_upload_times_come_as_unix_seconds(scene):
    (photo,) = scene.photos(1, "stored")
    moment = dt.datetime(2017, 3, 24, 17, 27, 52, tzinfo=dt.UTC)
    with scene.catalogue.begin() as tx:
        tx.execute(update(Photo).where(Photo.id == photo).values(posted_at=moment))
    with scene.catalogue.read() as tx:
        assert datasets.candidates(tx).posted == [1490376472]


def test_training_sums_are_exact_integers_of_the_training_split(frozen):
    scene, ids, dataset = frozen
    huge = 2**53 + 1  # a double would lose the one
    scene.do("UPDATE moments SET square_b = :n WHERE photo_id = :id", n=huge, id=ids[0])
    expected = [
        one + other for one, other in zip(*(moments(i).values() for i in ids[:2]), strict=True)
    ]
    expected[-1] = huge + moments(ids[1])["square_b"]
    with scene.catalogue.read() as tx:
        sums = datasets.training_sums(tx, dataset)
    assert sums == tuple(expected)
    assert all(type(value) is int for value in sums)


def test_members_come_by_id_as_they_were_when_the_set_was_frozen(frozen):
    scene, ids, dataset = frozen
    scene.do("UPDATE photos SET label = 7, file_key = 'new.jpg'")
    with scene.catalogue.read() as tx:
        found = datasets.members(tx, dataset)
    assert [(m.photo_id, m.label, m.tier, m.split, m.file_key) for m in found] == [
        (ids[0], 0.9, 2, "train", "a.jpg"),
        (ids[1], 0.1, 1, "train", "b.jpg"),
        (ids[2], 0.5, 2, "val", "c.jpg"),
    ]
    assert found[0].moments == tuple(moments(ids[0]).values())


def test_members_are_all_that_were_frozen_or_none(frozen):
    scene, ids, dataset = frozen
    scene.do("DELETE FROM moments WHERE photo_id = :id", id=ids[1])
    with scene.catalogue.read() as tx:
        assert datasets.member_ids(tx, dataset) == ids[:3]
        with pytest.raises(BadInput, match=rf"1 of the 3 .*photo {ids[1]} .*popq download"):
            datasets.members(tx, dataset)


def test_counts_are_of_photos_by_split_and_tier(frozen):
    scene, _, dataset = frozen
    with scene.catalogue.read() as tx:
        counts = [tuple(row) for row in datasets.counts(tx, dataset)]
    assert counts == [("train", 1, 1), ("train", 2, 1), ("val", 2, 1)]


def test_channel_statistics_come_back_to_the_last_bit(frozen):
    scene, _, dataset = frozen
    mean, std = [0.1 + 0.2, 1 / 3, 1e-17], [0.5, 2 / 3, 1.0]
    with scene.catalogue.begin() as tx:
        datasets.set_channels(tx, dataset, mean, std)
        row = datasets.get(tx, dataset=dataset)
    assert (row.mean, row.std, row.cuts, row.name) == (mean, std, [0.5], "d1")


def test_data_sets_are_found_by_name_or_id(frozen):
    scene, _, dataset = frozen
    other = scene.dataset("d2")
    with scene.catalogue.read() as tx:
        assert datasets.get(tx, "d2").id == other
        assert datasets.find(tx, dataset=dataset).name == "d1"
        assert [row.id for row in datasets.list_all(tx)] == [dataset, other]
        assert datasets.members(tx, other) == []
        assert datasets.find(tx, "d3") is None
        with pytest.raises(BadInput, match="no data set 'd3'"):
            datasets.get(tx, "d3")


def test_members_are_frozen_with_the_labels_and_files_of_the_moment(scene):
    first, second = scene.photos(2, "stored")
    members = [(second, 2, "val"), (first, 1, "train")]
    with scene.catalogue.begin() as tx:
        dataset = datasets.create(tx, DATASET | {"name": "d"}, iter(members))
    scene.do("UPDATE photos SET label = 99, file_key = 'new'")
    columns = "photo_id, label, tier, split, file_key"
    assert scene.rows(f"SELECT {columns} FROM members WHERE dataset_id = :d", d=dataset) == [
        (first, 0.0, 1, "train", "0.jpg"),
        (second, 1.0, 2, "val", "1.jpg"),
    ]
