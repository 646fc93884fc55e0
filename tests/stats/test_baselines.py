"""Predictors that see no picture."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from popq.errors import BadInput
from popq.stats.baselines import (
    Facts,
    all_baselines,
    majority,
    mean_colour,
    nearest_id,
    owner_mean,
)

NOBODY = np.array([], dtype=np.int64)


def vote_slowly(train, photo, k):
    """Say the rule in the plainest way: sort by distance then id, count, let the nearest decide."""
    nearest = sorted(train, key=lambda pair: (abs(pair[0] - photo), pair[0]))[:k]
    votes = Counter(tier for _, tier in nearest)
    most = max(votes.values())
    return next(tier for _, tier in nearest if votes[tier] == most)


@given(
    st.dictionaries(st.integers(0, 60), st.integers(1, 3), min_size=1, max_size=30),
    st.lists(st.integers(-10, 80), max_size=20),
    st.integers(1, 40),
)
def test_the_nearest_vote_as_the_plain_rule_says(train, photos, k):
    pairs = list(train.items())
    found = nearest_id(
        np.array([photo for photo, _ in pairs]),
        np.array([tier for _, tier in pairs]),
        np.array(photos, dtype=np.int64),
        k,
    )
    assert found.tolist() == [vote_slowly(pairs, photo, k) for photo in photos]


def test_many_photos_are_voted_on_in_parts():
    ids = np.arange(30_000) * 2
    tiers = ids // 2 % 3 + 1
    assert (nearest_id(ids, tiers, ids + 1) == tiers).all()
    assert len(nearest_id(ids, tiers, ids + 1, 100)) == len(ids)


def test_ids_as_large_as_flickrs_do_not_overflow():
    train = np.array([2**53, 2**53 + 10])
    assert nearest_id(train, np.array([1, 2]), np.array([0, 2**53 + 7])).tolist() == [1, 2]


def test_majority_of_equals_is_the_lowest():
    assert majority(np.array([3, 2, 2, 3]), 3).tolist() == [2, 2, 2]


def test_mean_colour_learns_what_colour_shows():
    rng = np.random.default_rng(1)
    tiers = rng.integers(1, 4, 300)
    features = rng.normal(0, 0.05, (300, 6))
    features[:, 0] += tiers * 0.3
    guess = mean_colour(features[:200], tiers[:200], features[200:])
    assert np.mean(guess == tiers[200:]) > 0.95
    again = mean_colour(features[:200], tiers[:200], features[200:])
    assert guess.tolist() == again.tolist()


def test_mean_colour_takes_features_that_say_nothing():
    guess = mean_colour(np.zeros((4, 6)), np.array([1, 2, 2, 2]), np.zeros((2, 6)))
    assert guess.tolist() == [2, 2]


def test_mean_colour_of_one_tier_is_that_tier():
    assert mean_colour(np.zeros((2, 6)), np.array([3, 3]), np.ones((2, 6))).tolist() == [3, 3]


def test_mean_colour_of_no_photos_is_nothing():
    assert mean_colour(np.zeros((2, 6)), np.array([1, 3]), np.ones((0, 6))).tolist() == []


def facts(ids, owners, tiers, features):
    return Facts(ids=ids, owners=owners, labels=tiers * 1.0, tiers=tiers, features=features)


def test_all_of_them_side_by_side():
    rng = np.random.default_rng(2)
    ids = np.arange(400)
    tiers = ids // 10 % 3 + 1
    known = facts(ids, ids // 10, tiers, rng.random((400, 6)))
    train, judged = known.of(ids[::2]), known.of(ids[1::2])
    found = all_baselines(train, judged, [1.5, 2.5])
    right = {name: np.mean(guess == judged.tiers) for name, guess in found.items()}
    names = {"majority", "nearest_id", "nearest_id_3", "nearest_id_25", "owner_mean", "mean_colour"}
    assert set(right) == names
    # Runs of ten: the neighbour nearly always shares the tier, a random colour never does.
    assert right["nearest_id"] > 0.9
    assert right["nearest_id_3"] > 0.8 > right["nearest_id_25"]
    assert right["owner_mean"] == 1
    assert right["majority"] == pytest.approx(1 / 3, abs=0.05)
    assert right["mean_colour"] < 0.6


def test_owners_that_stand_on_one_side_only_have_no_mean():
    ids = np.arange(40)
    known = facts(ids, ids // 4, ids % 3 + 1, np.zeros((40, 6)))
    assert "owner_mean" not in all_baselines(known.of(ids[:20]), known.of(ids[20:]), [1.5, 2.5])


def test_the_owners_mean_is_cut_into_tiers_and_strangers_get_the_commonest():
    owners, labels = np.array([7, 7, 3, 3, 9]), np.array([1.0, 4.0, 8.0, 9.0, 1.0])
    tiers = np.array([1, 2, 3, 3, 1])
    guess = owner_mean(owners, labels, tiers, np.array([3, 7, 8, -1]), [2.0, 5.0])
    assert guess.tolist() == [3, 2, 1, 1]
    assert owner_mean(owners, labels, tiers, np.array([8, -1]), [2.0, 5.0]) is None


def test_an_empty_training_split_is_refused():
    with pytest.raises(BadInput, match="no photos"):
        majority(NOBODY, 3)
    with pytest.raises(BadInput, match="no photos"):
        nearest_id(NOBODY, NOBODY, np.array([1]))
    with pytest.raises(BadInput, match="no photos"):
        mean_colour(np.zeros((0, 6)), NOBODY, np.zeros((1, 6)))


def test_nobody_voting_is_refused():
    with pytest.raises(BadInput, match="at least one"):
        nearest_id(np.array([1]), np.array([1]), np.array([1]), 0)
