"""Objectives: what is lost, what is right, what is likely."""

import math

import pytest
import torch

from popq.errors import BadInput
from popq.learn.objectives import objective


def test_classify():
    aim = objective("classify")
    logits = torch.tensor([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0]])
    targets = torch.tensor([0, 1])
    assert aim.outputs(3) == 3
    assert float(aim.loss(logits[:1], targets[:1])) == pytest.approx(math.log(3))
    assert float(aim.loss(logits, targets)) > 9
    assert int(aim.correct(logits, targets)) == 1
    assert torch.allclose(aim.probabilities(logits).sum(dim=1), torch.ones(2))


def test_unknown_objectives_are_refused():
    with pytest.raises(BadInput, match="classify"):
        objective("guess")
