"""Predictors that see no picture."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from popq.errors import BadInput
from popq.stats.baselines import all_baselines, majority, mean_colour, nearest_id

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


def test_all_of_them_side_by_side():
    rng = np.random.default_rng(2)
    ids = np.arange(400)
    tiers = ids // 10 % 3 + 1
    features = rng.random((400, 6))
    train = ids % 2 == 0
    result = all_baselines(
        train_ids=ids[train],
        train_tiers=tiers[train],
        train_features=features[train],
        ids=ids[~train],
        tiers=tiers[~train],
        features=features[~train],
    )
    assert set(result) == {"majority", "nearest_id", "nearest_id_25", "mean_colour"}
    # Runs of ten: the neighbour nearly always shares the tier, a random colour never does.
    assert result["nearest_id"] > 0.9
    assert result["majority"] == pytest.approx(1 / 3, abs=0.05)
    assert result["mean_colour"] < 0.6


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
