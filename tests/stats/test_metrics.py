"""Metrics: what is undefined is None, and everything fits into JSON."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from popq.errors import BadInput
from popq.stats.metrics import binomial_p, classification


def certain(tiers, k=3, sure=1.0):
    shares = np.full((len(tiers), k), (1 - sure) / (k - 1))
    shares[np.arange(len(tiers)), np.array(tiers) - 1] = sure
    return shares


def test_a_small_case_worked_by_hand():
    truth = np.array([1, 1, 2, 3])
    result = classification(
        truth,
        certain([1, 2, 2, 3], sure=0.8),
        np.array([1.0, 2.0, 3.0, 4.0]),
        np.array([1.5, 2.0, 3.0, 5.0]),
    )
    assert json.loads(json.dumps(result)) == result
    assert result["n"] == 4
    assert result["accuracy"] == 0.75
    assert result["balanced_accuracy"] == pytest.approx((0.5 + 1 + 1) / 3)
    assert result["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert result["confusion"] == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert result["cross_entropy"] == pytest.approx(-(3 * math.log(0.8) + math.log(0.1)) / 4)
    # Observed disagreement 1 of 4; expected 20 of 16 by the margins.
    assert result["quadratic_kappa"] == pytest.approx(1 - (1 / 4) / (20 / 16))
    assert result["spearman"] == pytest.approx(1)
    assert result["mae"] == pytest.approx(0.375)


def test_perfect_predictions():
    truth = np.array([1, 2, 3, 1, 2, 3])
    result = classification(truth, certain(truth), None, None)
    assert result["accuracy"] == result["balanced_accuracy"] == result["macro_f1"] == 1
    assert result["quadratic_kappa"] == 1
    assert result["cross_entropy"] == pytest.approx(0, abs=1e-12)
    assert result["spearman"] is None
    assert result["mae"] is None


def test_one_tier_everywhere_has_no_kappa():
    result = classification(np.array([2, 2]), certain([2, 2]), None, None)
    assert result["quadratic_kappa"] is None
    assert result["accuracy"] == result["balanced_accuracy"] == 1
    json.dumps(result, allow_nan=False)


def test_one_tier_predicted_as_another_has_a_kappa_of_nought():
    result = classification(np.array([2, 2]), certain([1, 1], sure=0.9), None, None)
    assert result["quadratic_kappa"] == 0
    assert result["balanced_accuracy"] == 0


def test_tiers_that_are_predicted_but_never_true_do_not_warn():
    result = classification(np.array([1, 1, 2]), certain([1, 3, 2], sure=0.9), None, None)
    assert result["balanced_accuracy"] == pytest.approx(0.75)
    assert result["confusion"] == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize("which", [0, 1])
def test_a_constant_has_no_rank_correlation_but_an_error(which):
    values = [np.array([1.0, 5.0]), np.array([1.0, 5.0])]
    values[which] = np.array([3.0, 3.0])
    result = classification(np.array([1, 2]), certain([1, 2]), *values)
    assert result["spearman"] is None
    assert result["mae"] == 2


def test_one_photo_can_be_judged():
    result = classification(np.array([3]), certain([3]), np.array([1.0]), np.array([2.0]))
    assert (result["accuracy"], result["spearman"], result["mae"]) == (1, None, 1)


def test_single_precision_probabilities_are_close_enough_to_one():
    rng = np.random.default_rng(0)
    raw = rng.random((50, 10)).astype(np.float32)
    shares = (raw / raw.sum(axis=1, keepdims=True)).astype(np.float16)
    result = classification(rng.integers(1, 11, 50), shares, None, None)
    assert math.isfinite(result["cross_entropy"])


def test_a_tier_held_impossible_costs_much_but_not_everything():
    result = classification(np.array([1]), certain([2]), None, None)
    assert 10 < result["cross_entropy"] < 100


@pytest.mark.parametrize(
    ("truth", "shares", "message"),
    [
        ([], np.empty((0, 3)), "0 tiers"),
        ([1], certain([1, 2]), "1 tiers"),
        ([1], np.array([1.0]), "shape"),
        ([1], np.array([[0.5, 0.1, 0.1]]), "sum to 1"),
        ([1], np.array([[1.5, -0.5, 0.0]]), "at least 0"),
        ([1], np.array([[np.nan, 0.5, 0.5]]), "sum to 1"),
        ([0], certain([1]), "tiers 0 to 0"),
        ([4], certain([1]), "probabilities for 3"),
    ],
)
def test_input_out_of_range_is_refused(truth, shares, message):
    with pytest.raises(BadInput, match=message):
        classification(np.array(truth, dtype=np.int64), shares, None, None)


def test_scores_that_do_not_match_or_are_not_finite_are_refused():
    with pytest.raises(BadInput, match="2 labels"):
        classification(np.array([1]), certain([1]), np.array([1.0, 2.0]), np.array([1.0]))
    with pytest.raises(BadInput, match="finite"):
        classification(np.array([1]), certain([1]), np.array([1.0]), np.array([np.nan]))


def test_the_binomial_tail_is_exact():
    assert binomial_p(3, 3, 1 / 3) == pytest.approx(1 / 27)
    assert binomial_p(0, 10, 0.2) == 1
    assert binomial_p(2, 3, 0.5) == pytest.approx(0.5)
    assert binomial_p(5000, 10_000, 1 / 3) < 1e-200


@pytest.mark.parametrize("case", [(1, 0, 0.5), (-1, 3, 0.5), (4, 3, 0.5), (1, 3, 1.5)])
def test_a_count_that_cannot_be_is_refused(case):
    with pytest.raises(BadInput, match="cannot be"):
        binomial_p(*case)
