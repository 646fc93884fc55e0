"""Pairs: of one split and one owner, posted within days, labels clearly apart; or of anybody."""

from __future__ import annotations

import datetime as dt

import pytest
from catalogue.scene import DATASET
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from popq.catalogue import datasets, pairs
from popq.catalogue.models import Photo

NOON = dt.datetime(2017, 3, 24, 12, tzinfo=dt.UTC)


def freeze(scene, photos):
    """Make a data set of photos (owner, label, day posted or None, split); return it and ids."""
    ids = scene.photos(len(photos), "stored") if photos else []
    splits = [photo[3] for photo in photos]
    with scene.catalogue.begin() as tx:
        for photo, (owner, label, day, _) in zip(ids, photos, strict=True):
            posted = None if day is None else NOON + dt.timedelta(days=day)
            values = {"owner": owner, "label": label, "posted_at": posted}
            tx.execute(update(Photo).where(Photo.id == photo).values(values))
        dataset = datasets.create(
            tx, {**DATASET, "name": "d1"}, zip(ids, [1] * len(ids), splits, strict=True)
        )
    return dataset, ids


def mined(scene, dataset, split="train", apart=1.0, within="owner"):
    with scene.catalogue.read() as tx:
        found = pairs.mine(tx, dataset, split, apart=apart, within=within)
        return sorted(tuple(pair) for some in found for pair in some)


def test_pairs_are_of_one_owner_and_the_less_popular_comes_first(scene):
    photos = [("a", 5.0, 0, "train"), ("b", 1.0, 0, "train"), ("a", 2.0, 1, "train")]
    dataset, ids = freeze(scene, [*photos, (None, 9.0, 0, "train"), (None, 1.0, 0, "train")])
    assert mined(scene, dataset) == [(ids[2], ids[0])]


def test_photos_of_two_splits_are_never_a_pair(scene):
    photos = [("a", float(n), 0, "val" if n % 2 else "train") for n in range(6)]
    dataset, ids = freeze(scene, photos)
    for within in ("owner", "any"):
        assert mined(scene, dataset, "train", within=within) == [
            (ids[0], ids[2]),
            (ids[0], ids[4]),
            (ids[2], ids[4]),
        ]
        assert mined(scene, dataset, "val", within=within) == [
            (ids[1], ids[3]),
            (ids[1], ids[5]),
            (ids[3], ids[5]),
        ]
    assert mined(scene, dataset, "test") == []


def test_ten_days_apart_is_near_where_both_times_are_known(scene):
    photos = [("a", 1.0, 0, "train"), ("a", 3.0, 10, "train"), ("a", 5.0, 10.01, "train")]
    dataset, ids = freeze(scene, [*photos, ("a", 7.0, None, "train")])
    assert mined(scene, dataset) == [
        (ids[0], ids[1]),
        (ids[0], ids[3]),
        (ids[1], ids[2]),
        (ids[1], ids[3]),
        (ids[2], ids[3]),
    ]
    far = (ids[0], ids[2])
    assert far in mined(scene, dataset, within="any")


def test_labels_that_are_not_clearly_apart_make_no_pair(scene):
    dataset, ids = freeze(scene, [("a", label, None, "train") for label in (1.0, 1.9, 2.0, 2.0)])
    assert mined(scene, dataset) == [(ids[0], ids[2]), (ids[0], ids[3])]
    assert mined(scene, dataset, apart=5.0) == []
    # Equal labels have no order, however near others may be.
    assert (ids[2], ids[3]) not in mined(scene, dataset, apart=0.0)


def test_labels_are_those_that_were_frozen(scene):
    dataset, ids = freeze(scene, [("a", 1.0, 0, "train"), ("a", 4.0, 0, "train")])
    with scene.catalogue.begin() as tx:
        tx.execute(update(Photo).values(label=0.0))
    assert mined(scene, dataset) == [(ids[0], ids[1])]


@pytest.mark.parametrize("within", ["owner", "any"])
def test_pairs_grow_as_photos_do(scene, within):
    count = 3 * pairs.REACH
    dataset, ids = freeze(scene, [("a", float(n), n / 100, "train") for n in range(count)])
    found = mined(scene, dataset, within=within)
    assert (
        len(set(found)) == len(found) == count * pairs.REACH - pairs.REACH * (pairs.REACH + 1) / 2
    )
    assert {photo for pair in found for photo in pair} == set(ids)
    if within == "any":
        # As if drawn by lot: partners are not at a few fixed distances.
        assert len({high - low for low, high in found}) > count / 2


PHOTO = st.tuples(
    st.sampled_from(["a", "b", None]),
    st.integers(0, 6).map(float),
    st.none() | st.integers(0, 30),
    st.sampled_from(["train", "train", "val"]),
)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(photos=st.lists(PHOTO, max_size=10))
def test_few_photos_make_all_the_pairs_that_the_rule_allows(scene, photos):
    for table in ("datasets", "photos"):
        scene.do(f"DELETE FROM {table}")
    dataset, ids = freeze(scene, photos)
    every = [
        (ids[i], ids[j])
        for i, (owner, label, day, split) in enumerate(photos)
        for j, (whose, more, when, side) in enumerate(photos)
        if split == side == "train" and more - label >= 2 and owner == whose and owner
        if day is None or when is None or abs(when - day) <= pairs.DAYS_APART
    ]
    assert mined(scene, dataset, apart=2.0) == sorted(every)
