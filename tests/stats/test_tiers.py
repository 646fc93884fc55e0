"""Cuts are values: equal labels share a tier, and no tier is empty."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from popq.errors import BadInput
from popq.stats.tiers import assign, by_rank, checked_cuts, fit_cuts, tie_counts

finite = st.floats(-1e6, 1e6, allow_nan=False)
coarse = st.integers(0, 12).map(lambda value: value / 2)
any_labels = st.lists(finite | coarse, min_size=2, max_size=120).map(np.array)
any_tiers = st.integers(2, 5)


def cuts_or_none(labels, tiers):
    try:
        return fit_cuts(labels, tiers)
    except BadInput:
        return None


@given(any_labels, any_tiers)
def test_every_tier_is_filled_in_order_and_equal_labels_share_one(labels, tiers):
    cuts = cuts_or_none(labels, tiers)
    assume(cuts is not None)
    assert len(cuts) == tiers - 1
    assert all(low < high for low, high in pairwise(cuts))
    assigned = assign(labels, cuts)
    assert set(assigned.tolist()) == set(range(1, tiers + 1))
    by_label = sorted(zip(labels.tolist(), assigned.tolist(), strict=True))
    assert all(low[1] <= high[1] for low, high in pairwise(by_label))
    tier_of = {}
    for label, tier in by_label:
        assert tier_of.setdefault(label, tier) == tier


@given(any_labels, any_tiers, st.randoms(use_true_random=False))
def test_the_order_of_the_labels_does_not_matter(labels, tiers, random):
    shuffled = np.array(random.sample(labels.tolist(), len(labels)))
    assert cuts_or_none(shuffled, tiers) == cuts_or_none(labels, tiers)


@given(st.lists(finite, min_size=5, max_size=100, unique=True), any_tiers)
def test_distinct_labels_fall_into_nearly_equal_tiers(labels, tiers):
    labels = np.array(labels)
    sizes = np.bincount(assign(labels, fit_cuts(labels, tiers)))[1:]
    assert sizes.max() - sizes.min() <= 2
    assert np.abs(np.cumsum(sizes) - len(labels) * np.arange(1, tiers + 1) / tiers).max() <= 0.5


@given(any_labels, any_tiers)
def test_each_cut_is_the_value_nearest_to_its_share(labels, tiers):
    cuts = cuts_or_none(labels, tiers)
    assume(cuts is not None)
    for k, cut in enumerate(cuts, start=1):
        distances = {
            value: abs(np.count_nonzero(labels < value) * tiers - k * len(labels))
            for value in np.unique(labels)[1:].tolist()
        }
        assert cut == min(distances, key=lambda value: (distances[value], value))


def test_a_label_at_the_cut_belongs_to_the_upper_tier():
    assert assign(np.array([1.0, 2.0, 3.0]), (2.0, 3.0)).tolist() == [1, 2, 3]


def test_ties_at_a_cut_are_counted():
    assert tie_counts(np.array([1.0, 2.0, 2.0, 3.0]), (2.0, 3.0)) == (2, 1)


def test_of_two_cuts_equally_near_the_lower_is_taken():
    assert fit_cuts(np.array([1.0, 2.0, 2.0, 3.0]), 2) == (2.0,)


def test_cuts_fitted_on_some_labels_serve_others():
    cuts = fit_cuts(np.arange(9.0), 3)
    assert assign(np.array([-5.0, 2.9, 3.0, 99.0]), cuts).tolist() == [1, 1, 2, 3]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_labels_that_are_not_finite_are_refused(bad):
    labels = np.array([1.0, 2.0, bad])
    with pytest.raises(BadInput, match="1 of 3 labels"):
        fit_cuts(labels, 2)
    with pytest.raises(BadInput, match="1 of 3 labels"):
        assign(labels, (2.0,))


def test_fewer_distinct_labels_than_tiers_are_refused():
    labels = np.array([1.0, 1.0, 2.0, 2.0])
    for cut in (fit_cuts, by_rank):
        with pytest.raises(BadInput, match="4 labels with 2 distinct values make no 3 tiers"):
            cut(labels, 3)


def test_ranks_do_not_count_the_labels_that_they_leave_over():
    labels = np.array([1.0] * 6 + [2.0, 3.0])
    with pytest.raises(BadInput, match="6 labels with 1 distinct values make no 3 tiers"):
        by_rank(labels, 3)


def test_no_labels_are_refused():
    with pytest.raises(BadInput, match="0 labels"):
        fit_cuts(np.array([]), 3)


def test_ties_that_would_leave_a_tier_empty_are_refused_with_counts():
    labels = np.array([1.0] * 98 + [2.0, 3.0])
    with pytest.raises(BadInput, match=r"\[98, 0, 2\].*3 distinct"):
        fit_cuts(labels, 3)


def test_one_tier_is_none():
    with pytest.raises(BadInput, match="at least 2"):
        fit_cuts(np.arange(5.0), 1)


@given(st.lists(st.integers(0, 5).map(float), min_size=2, max_size=40), st.integers(2, 5))
def test_ranks_have_equal_sizes_in_order_and_leave_out_the_highest(values, count):
    labels = np.array(values)
    kept = np.sort(labels)[: len(labels) // count * count]
    if len(np.unique(kept)) < count:
        with pytest.raises(BadInput):
            by_rank(labels, count)
        return
    found = by_rank(labels, count)
    sizes = np.bincount(found, minlength=count + 1)
    assert set(sizes[1:]) == {len(labels) // count}
    assert sizes[0] == len(labels) % count
    place = np.where(found == 0, count + 1, found)
    order = np.argsort(labels, kind="stable")
    assert (np.diff(place[order]) >= 0).all()


@pytest.mark.parametrize("cuts", [(), (2.0, 1.0), (1.0, 1.0), (float("nan"),), (1.0, float("inf"))])
def test_cuts_that_make_no_tiers_are_refused(cuts):
    with pytest.raises(BadInput, match="must be finite numbers, each above"):
        checked_cuts(cuts)
