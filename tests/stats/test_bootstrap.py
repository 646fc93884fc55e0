"""Intervals by owner: what counts photos several times is what copying them would be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popq.errors import BadInput
from popq.stats.bootstrap import interval, replicates
from popq.stats.metrics import points, predictions


def made(n, owners, seed, *, decimals=1, noise=1.0):
    """Predictions of three tiers, right as often as the noise allows, and whose photos they are."""
    rng = np.random.default_rng(seed)
    owner = rng.integers(0, owners, n)
    taste = rng.standard_normal(owners)[owner]
    labels = np.round(rng.standard_normal(n) + taste, decimals)
    scores = np.round(labels + noise * rng.standard_normal(n), decimals)
    truth, predicted = (np.digitize(of, [-0.5, 0.5]) + 1 for of in (labels, scores))
    shares = rng.dirichlet([1, 1, 1], n)
    shares[np.arange(n), predicted - 1] += 1
    found = predictions(
        truth, predicted, labels, scores, tiers=3, probabilities=shares / 2, unit=True
    )
    return found, owner


def copied(found, rows):
    return predictions(
        found.truth[rows],
        found.predicted[rows],
        found.labels[rows],
        found.scores[rows],
        tiers=found.tiers,
        probabilities=found.probabilities[rows],
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 60), st.integers(1, 9), st.integers(0, 3))
def test_every_resample_has_the_metrics_of_owners_copied(seed, n, owners, decimals):
    found, owner = made(n, owners, seed, decimals=decimals)
    distinct, number = np.unique(owner, return_inverse=True)
    values = replicates(found, owner, resamples=8, seed=seed)
    # The draws are the generator's: whole owners, as many as there are, with replacement.
    drawn = np.random.default_rng(seed).integers(0, len(distinct), (8, len(distinct)))
    for place, owners_drawn in enumerate(drawn):
        rows = np.concatenate([np.flatnonzero(number == one) for one in owners_drawn])
        expected = points(copied(found, rows))
        assert set(values) == set(expected)
        for name, value in expected.items():
            expect = np.nan if value is None else value
            # A constant score has no ranks, but pairs all the same.
            assert values[name][place] == pytest.approx(expect, abs=1e-12, nan_ok=True), name


def test_the_same_seed_draws_the_same_and_owners_may_have_any_names():
    found, owner = made(200, 20, 1)
    once = replicates(found, owner, resamples=20)
    names = np.array([f"{100 + one}@N00" for one in owner])
    again = replicates(found, names, resamples=20)
    assert all(np.array_equal(once[name], again[name]) for name in once)
    other = replicates(found, owner, resamples=20, seed=1)
    assert not np.array_equal(once["accuracy"], other["accuracy"])


def test_an_interval_is_wider_when_photos_of_an_owner_go_together():
    found, owner = made(600, 30, 2)
    by_owner = interval(replicates(found, owner, resamples=300)["mae"])
    right = np.repeat([True, False], 300)
    flags = {"half": right}
    together = interval(replicates(found, right, flags=flags, resamples=300)["half"])
    alone = interval(replicates(found, np.arange(600), flags=flags, resamples=300)["half"])
    assert together == [0.0, 1.0]
    assert 0.4 < alone[0] < 0.5 < alone[1] < 0.6
    assert by_owner[0] < points(found)["mae"] < by_owner[1]


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    held = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        owner = np.repeat(np.arange(60), 5)
        chance = np.clip(0.6 + 0.2 * rng.standard_normal(60), 0, 1)[owner]
        tiers = np.ones(300, dtype=int)
        found = predictions(tiers, tiers, tiers, tiers, tiers=2)
        flags = {"right": rng.random(300) < chance}
        low, high = interval(replicates(found, owner, flags=flags, resamples=200)["right"])
        held.append(low <= 0.6 <= high)
    assert 0.88 <= np.mean(held) <= 1.0


def test_what_is_mostly_undefined_has_no_interval():
    assert interval(np.array([np.nan, np.nan, np.nan, 1.0])) is None
    assert interval(np.array([])) is None
    assert interval(np.array([np.nan, 1.0, 2.0, 3.0])) == pytest.approx([1.05, 2.95])


def test_owners_must_match():
    found, owner = made(10, 3, 0)
    with pytest.raises(BadInput, match="10 photos and 9 owners"):
        replicates(found, owner[:9])
