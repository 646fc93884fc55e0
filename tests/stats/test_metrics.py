"""Metrics: what is undefined is None, and everything fits into JSON."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from popq.errors import BadInput
from popq.stats.metrics import (
    binomial_p,
    by_label,
    calibration,
    confusion,
    paired_p,
    pairwise_accuracy,
    points,
    predictions,
)


def certain(tiers, k=3, sure=1.0):
    shares = np.full((len(tiers), k), (1 - sure) / (k - 1))
    shares[np.arange(len(tiers)), np.array(tiers) - 1] = sure
    return shares


def judged(truth, shares, labels=None, scores=None, **more):
    """Predictions of the likeliest tier; labels and scores are the tiers unless given."""
    truth = np.array(truth)
    predicted = shares.argmax(axis=1) + 1
    return predictions(
        truth,
        predicted,
        truth if labels is None else np.array(labels),
        predicted if scores is None else np.array(scores),
        tiers=shares.shape[1],
        probabilities=shares,
        **more,
    )


def test_a_small_case_worked_by_hand():
    shares = certain([1, 2, 2, 3], sure=0.8)
    found = judged([1, 1, 2, 3], shares, [1.0, 2.0, 3.0, 4.0], [1.5, 2.0, 3.0, 5.0])
    result = points(found)
    assert result == {
        "accuracy": 0.75,
        "balanced_accuracy": pytest.approx((0.5 + 1 + 1) / 3),
        "macro_f1": pytest.approx((2 / 3 + 2 / 3 + 1) / 3),
        # Observed disagreement 1 of 4; expected 20 of 16 by the margins.
        "quadratic_kappa": pytest.approx(1 - (1 / 4) / (20 / 16)),
        "cross_entropy": pytest.approx(-(3 * math.log(0.8) + math.log(0.1)) / 4),
        # All say 0.8, three of four are right.
        "calibration_error": pytest.approx(0.05),
        "spearman": pytest.approx(1),
        "pairwise_accuracy": pytest.approx(1),
        "mae": pytest.approx(0.375),
    }
    assert confusion(found) == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]


def test_without_probabilities_or_the_labels_unit_there_are_fewer_metrics():
    tiers = np.array([1, 2, 2])
    found = points(predictions(tiers, tiers, tiers, -tiers, tiers=2, unit=False))
    assert found["pairwise_accuracy"] == pytest.approx(0)
    assert not {"cross_entropy", "calibration_error", "mae"} & set(found)
    with pytest.raises(BadInput, match="from probabilities"):
        calibration(predictions(tiers, tiers, tiers, tiers, tiers=2))


def test_perfect_predictions():
    truth = [1, 2, 3, 1, 2, 3]
    result = points(judged(truth, certain(truth)))
    assert result["accuracy"] == result["balanced_accuracy"] == result["macro_f1"] == 1
    assert result["quadratic_kappa"] == result["pairwise_accuracy"] == 1
    assert result["cross_entropy"] == pytest.approx(0, abs=1e-12)
    assert result["calibration_error"] == 0


def test_one_tier_everywhere_has_no_kappa_and_no_ranks():
    result = points(judged([2, 2], certain([2, 2])))
    assert result["quadratic_kappa"] is None
    assert result["spearman"] is result["pairwise_accuracy"] is None
    assert result["accuracy"] == result["balanced_accuracy"] == 1


def test_one_tier_predicted_as_another_has_a_kappa_of_nought():
    result = points(judged([2, 2], certain([1, 1], sure=0.9)))
    assert result["quadratic_kappa"] == 0
    assert result["balanced_accuracy"] == 0


def test_tiers_that_are_predicted_but_never_true_do_not_warn():
    found = judged([1, 1, 2], certain([1, 3, 2], sure=0.9))
    assert points(found)["balanced_accuracy"] == pytest.approx(0.75)
    assert confusion(found) == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]


def test_a_constant_score_has_no_rank_correlation_but_an_error():
    result = points(judged([1, 2], certain([1, 2]), [1.0, 5.0], [3.0, 3.0]))
    assert result["spearman"] is None
    assert (result["pairwise_accuracy"], result["mae"]) == (0.5, 2)


def test_single_precision_probabilities_are_close_enough_to_one():
    rng = np.random.default_rng(0)
    raw = rng.random((50, 10)).astype(np.float32)
    shares = (raw / raw.sum(axis=1, keepdims=True)).astype(np.float16)
    assert math.isfinite(points(judged(rng.integers(1, 11, 50), shares))["cross_entropy"])


def test_a_tier_held_impossible_costs_much_but_not_everything():
    assert 10 < points(judged([1], certain([2])))["cross_entropy"] < 100


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=25),
)
def test_pairs_are_counted_as_the_plain_rule_says(photos):
    labels, scores = (np.array(column, dtype=np.float64) for column in zip(*photos, strict=True))
    points_of = [
        0.5 if scores[i] == scores[j] else float((scores[i] > scores[j]) == (labels[i] > labels[j]))
        for i in range(len(photos))
        for j in range(i)
        if labels[i] != labels[j]
    ]
    expected = None if not points_of else pytest.approx(np.mean(points_of))
    assert pairwise_accuracy(scores, labels) == expected


def test_calibration_is_scikit_learns_curve():
    rng = np.random.default_rng(3)
    shares = rng.dirichlet([1, 1, 1], 400)
    found = judged(rng.integers(1, 4, 400), shares)
    bins = calibration(found)
    right, sure = calibration_curve(found.right, shares.max(axis=1), n_bins=15)
    assert [one["accuracy"] for one in bins] == pytest.approx(right)
    assert [one["confidence"] for one in bins] == pytest.approx(sure)
    assert sum(one["photos"] for one in bins) == 400
    error = sum(one["photos"] * abs(one["accuracy"] - one["confidence"]) for one in bins) / 400
    assert points(found)["calibration_error"] == pytest.approx(error)


def test_scores_are_told_by_label_from_low_to_high():
    labels = np.arange(120.0)[::-1]
    parts = by_label(judged(np.ones(120, dtype=int), certain([1] * 120), labels, labels + 1))
    assert [part["photos"] for part in parts] == [10] * 12
    assert [part["label"] for part in parts] == [4.5 + 10 * n for n in range(12)]
    assert parts[0]["median"] == 5.5
    assert all(part["low"] < part["median"] < part["high"] for part in parts)
    assert len(by_label(judged([1], certain([1])))) == 1


@pytest.mark.parametrize(
    ("truth", "shares", "message"),
    [
        ([], np.empty((0, 3)), "0 tiers"),
        ([1], certain([1, 2]), "1 tiers"),
        ([1], np.array([[0.5, 0.1, 0.1]]), "sum to 1"),
        ([1], np.array([[1.5, -0.5, 0.0]]), "at least 0"),
        ([1], np.array([[np.nan, 0.5, 0.5]]), "sum to 1"),
        ([0], certain([1]), "tiers 0 to 0"),
        ([4], certain([1]), "where there are 3"),
    ],
)
def test_input_out_of_range_is_refused(truth, shares, message):
    with pytest.raises(BadInput, match=message):
        judged(np.array(truth, dtype=np.int64), shares)


def test_input_that_does_not_match_or_is_not_finite_is_refused():
    one = np.array([1])
    with pytest.raises(BadInput, match="2 labels"):
        predictions(one, one, np.array([1.0, 2.0]), one, tiers=3)
    with pytest.raises(BadInput, match="finite"):
        predictions(one, one, one, np.array([np.nan]), tiers=3)
    with pytest.raises(BadInput, match="shape"):
        predictions(one, one, one, one, tiers=3, probabilities=np.array([[0.5, 0.5]]))


def test_the_binomial_tail_is_exact():
    assert binomial_p(3, 3, 1 / 3) == pytest.approx(1 / 27)
    assert binomial_p(0, 10, 0.2) == 1
    assert binomial_p(2, 3, 0.5) == pytest.approx(0.5)
    assert binomial_p(5000, 10_000, 1 / 3) < 1e-200


@pytest.mark.parametrize("case", [(1, 0, 0.5), (-1, 3, 0.5), (4, 3, 0.5), (1, 3, 1.5)])
def test_a_count_that_cannot_be_is_refused(case):
    with pytest.raises(BadInput, match="cannot be"):
        binomial_p(*case)


def test_two_on_the_same_photos_are_told_apart_by_where_they_differ():
    right = np.array([True, True, True, True, False, True])
    other = np.array([False, False, False, True, False, True])
    assert paired_p(right, other) == pytest.approx(1 / 8)
    assert paired_p(other, right) == 1
    assert paired_p(right, right) == 1
