"""What a network is trained for: how many outputs it has, its loss, what its outputs mean."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor
from torch.nn import functional

from popq.errors import BadInput


class Objective(Protocol):
    """One way to learn from tiers or scores; `logits` are (B, outputs) float32."""

    def outputs(self, tiers: int) -> int:
        """Return how many outputs the network needs for `tiers` tiers."""

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the sum of the loss over the batch's photos, a scalar."""

    def correct(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return how many photos are put into their tier, a scalar."""

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return each photo's probability of each tier, (B, tiers), rows summing to 1."""


class Classify:
    """Tiers as classes: cross-entropy on `tiers` outputs; targets are (B,) int64 from 0."""

    def outputs(self, tiers: int) -> int:
        """Return one output a tier."""
        return tiers

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the summed cross-entropy in nats."""
        return functional.cross_entropy(logits, targets, reduction="sum")

    def correct(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return how many photos have their greatest output at their tier."""
        return (logits.argmax(dim=1) == targets).sum()

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the softmax of the outputs."""
        return functional.softmax(logits, dim=1)


def objective(name: str) -> Objective:
    """Return the objective called `name`; raises `BadInput` for an unknown one."""
    if name != "classify":
        raise BadInput(f"No objective is called {name!r}; there is: classify.")
    return Classify()
