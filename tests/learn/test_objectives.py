"""Objectives: what is lost, what is right, what the outputs mean."""

import math

import numpy as np
import pytest
import torch

from popq.errors import BadInput
from popq.learn.cuts import cuts_at
from popq.learn.objectives import OBJECTIVES, Scale, objective

SCALE = Scale(cuts=(4.0, 7.0), tier_labels=(3.0, 5.0, 9.0), mean=5.0, std=2.0)


def test_classify():
    aim = objective("classify", SCALE)
    logits = torch.tensor([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0]])
    targets = torch.tensor([0, 1])
    assert aim.outputs(3) == 3
    assert float(aim.loss(logits[:1], targets[:1])) == pytest.approx(math.log(3))
    assert float(aim.loss(logits, targets)) > 9
    assert int(aim.correct(logits, targets)) == 1
    read = aim.read(logits)
    assert np.allclose(read.probabilities.sum(axis=1), 1)
    assert read.tiers.tolist() == [1, 1]
    assert read.scores == pytest.approx([17 / 3, 3.0], abs=0.01)


def test_regress_reads_labels_and_puts_a_label_at_a_cut_above_it():
    aim = objective("regress", SCALE)
    outputs = torch.tensor([[0.0], [-0.5], [1.0], [-3.0]])
    read = aim.read(outputs)
    assert aim.outputs(3) == 1
    assert read.scores.tolist() == [5.0, 4.0, 7.0, -1.0]
    assert read.tiers.tolist() == [2, 2, 3, 1]
    assert read.probabilities is None
    labels = torch.tensor([5.0, 4.0, 6.9, -1.0], dtype=torch.float64)
    assert int(aim.correct(outputs, labels)) == 3


def test_regress_loses_squares_near_the_label_and_straight_lines_far_from_it():
    aim = objective("regress", SCALE)
    label = torch.tensor([5.0], dtype=torch.float64)
    assert float(aim.loss(torch.tensor([[0.5]]), label)) == pytest.approx(0.5**2 / 2)
    near, far = (float(aim.loss(torch.tensor([[off]]), label)) for off in (10.0, 11.0))
    assert far - near == pytest.approx(1.0)


def test_rank_compares_photos_two_by_two_the_less_popular_first():
    aim = objective("rank", SCALE)
    outputs = torch.tensor([[1.0], [3.0], [0.0], [0.0], [2.0], [1.0]])
    labels = torch.arange(6, dtype=torch.float64)
    assert (aim.outputs(3), aim.group) == (1, 2)
    assert int(aim.correct(outputs, labels)) == 1  # a draw is not right
    lost = sum(math.log(1 + math.exp(-lead)) for lead in (2, 0, -1))
    assert float(aim.loss(outputs, labels)) == pytest.approx(lost)
    # Only differences count.
    assert float(aim.loss(outputs + 7, labels)) == pytest.approx(lost, rel=1e-5)


def test_a_ranking_has_tiers_once_its_scores_are_cut():
    outputs = torch.tensor([[-1.0], [0.25], [3.0]])
    read = objective("rank", Scale((0.25, 2.0), (), 0.0, 1.0)).read(outputs)
    assert (read.scores.tolist(), read.tiers.tolist()) == ([-1.0, 0.25, 3.0], [1, 2, 3])
    assert read.probabilities is None
    with pytest.raises(BadInput, match="not cut into tiers yet"):
        objective("rank", Scale((), (), 0.0, 1.0)).read(outputs)


def test_cuts_leave_the_shares_below_them():
    scores = np.random.default_rng(0).permutation(100) / 10.0
    cuts = cuts_at(scores, np.array([0.2, 0.55]))
    assert cuts == (2.0, 5.5)
    assert cuts_at(np.zeros(5), np.array([0.3, 0.6])) == (0.0, 0.0)
    assert cuts_at(scores, np.array([0.0, 1.0])) == (0.0, 9.9)


def test_the_better_validation_has_the_greater_merit():
    for name in ("classify", "rank"):
        merit = objective(name, SCALE).merit
        assert merit(0.9, 0.8) > merit(0.1, 0.7)
        assert merit(0.8, 0.8) > merit(0.9, 0.8)
    merit = objective("regress", SCALE).merit
    assert merit(0.1, 0.7) > merit(0.2, 0.8)


def test_a_scale_comes_back_as_it_was():
    assert Scale.from_json(SCALE.to_json()) == SCALE


def test_unknown_objectives_are_refused():
    with pytest.raises(BadInput, match="classify, rank, regress"):
        objective("guess", SCALE)
    assert set(OBJECTIVES) == {"classify", "rank", "regress"}
