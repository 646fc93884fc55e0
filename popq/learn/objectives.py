"""What a network is trained for: its outputs, its loss, and what its outputs mean.

* `classify`: an output a tier, cross-entropy. The score is the probability-weighted mean of the
  tiers' mean training labels, in the label's unit; the tier is the most probable one.
* `regress`: one output, Huber's loss on the label. The score is in the label's unit, the tier where
  it lies between the data set's cuts. There are no probabilities: it makes none.
* `rank`: one output, RankNet's loss on pairs, as in Intrinsic Image Popularity (Ding, Ma, Wang
  2019): which of two photos is the more popular. The score has no unit and no zero, only an order;
  its cuts are those quantiles of the training photos' scores that give the tiers the shares that
  they have of the training labels (`popq.learn.cuts`). No probabilities either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from popq.errors import BadInput

Name = Literal["classify", "rank", "regress"]
#: Where Huber's loss turns from square to straight, in deviations of the training labels: a label
#: farther off than that pulls no harder, so that a few photos that went viral do not rule.
HUBER_DELTA: Final = 1.0


@dataclass(frozen=True)
class Scale:
    """What outputs are read by.

    `cuts` (K - 1, ascending) divide scores into tiers, a score at a cut belonging to the upper
    one; `tier_labels` (K) are the tiers' mean training labels; `mean` and `std` the training
    labels'. All in the label's unit, but for the cuts of `rank`, which are in the score's own, and
    none until the run has ended.
    """

    cuts: tuple[float, ...]
    tier_labels: tuple[float, ...]
    mean: float
    std: float

    def to_json(self) -> dict[str, Any]:
        """Return the scale as JSON gives it back; `from_json` makes it anew."""
        lists = {"cuts": list(self.cuts), "tier_labels": list(self.tier_labels)}
        return lists | {"mean": self.mean, "std": self.std}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Scale:
        """Return the scale that `to_json` gave; raises `KeyError` for anything else."""
        cuts, labels = (tuple(values[name]) for name in ("cuts", "tier_labels"))
        return cls(cuts, labels, values["mean"], values["std"])


@dataclass(frozen=True)
class Reading:
    """What a network says of B photos.

    `scores` (B,) float64; `tiers` (B,) int64 from 1; `probabilities` (B, K) float32 with rows that
    sum to 1, or None where the objective makes none.
    """

    scores: NDArray[np.float64]
    tiers: NDArray[np.int64]
    probabilities: NDArray[np.float32] | None

    def photos(self) -> Iterator[tuple[float, int, list[float] | None]]:
        """Yield each photo's score, tier, and probabilities to six digits, as rows keep them."""
        shares = self.probabilities
        for at, (score, tier) in enumerate(zip(self.scores, self.tiers, strict=True)):
            likely = None if shares is None else [round(float(share), 6) for share in shares[at]]
            yield float(score), int(tier), likely


class Objective(Protocol):
    """One way to learn; `outputs` are (B, n) float32, `targets` (B,) as `learns_from` says.

    An example is what the loss is summed over: `group` photos that follow each other in the batch.
    """

    group: ClassVar[int]
    learns_from: ClassVar[Literal["tiers", "labels"]]

    def outputs(self, tiers: int) -> int:
        """Return how many outputs the network needs for `tiers` tiers."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the sum of the loss over the batch's examples, a scalar."""

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return how many examples are right, a scalar."""

    def merit(self, loss: float, accuracy: float) -> tuple[float, float]:
        """Return how good a validation with this mean loss and share of right examples is.

        The greater of two, compared as tuples, is the better: so the best epoch is chosen.
        """

    def read(self, outputs: Tensor) -> Reading:
        """Return what the outputs say of each photo."""


@dataclass(frozen=True)
class Classify:
    """Tiers as classes: cross-entropy on an output a tier; targets are int64 tiers from 0."""

    scale: Scale
    group: ClassVar[int] = 1
    learns_from: ClassVar[Literal["tiers", "labels"]] = "tiers"

    def outputs(self, tiers: int) -> int:
        """Return one output a tier."""
        return tiers

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the summed cross-entropy in nats."""
        return functional.cross_entropy(outputs, targets, reduction="sum")

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return how many photos have their greatest output at their tier."""
        return (outputs.argmax(dim=1) == targets).sum()

    def merit(self, loss: float, accuracy: float) -> tuple[float, float]:
        """Prefer the higher accuracy, then the lower loss."""
        return accuracy, -loss

    def read(self, outputs: Tensor) -> Reading:
        """Return the softmax, its most probable tier, and the tiers' labels weighted by it."""
        shares = functional.softmax(outputs, dim=1).cpu().numpy()
        scores = shares.astype(np.float64) @ np.array(self.scale.tier_labels)
        return Reading(scores, shares.argmax(axis=1).astype(np.int64) + 1, shares)


@dataclass(frozen=True)
class Regress:
    """The label itself: Huber's loss on one output; targets are float64 labels.

    The output is the label less the training labels' mean, in their deviations.
    """

    scale: Scale
    group: ClassVar[int] = 1
    learns_from: ClassVar[Literal["tiers", "labels"]] = "labels"

    def outputs(self, tiers: int) -> int:
        """Return one, however many tiers."""
        del tiers
        return 1

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return Huber's summed loss, in deviations of the training labels."""
        wanted = ((targets - self.scale.mean) / self.scale.std).float()
        return functional.huber_loss(outputs[:, 0], wanted, reduction="sum", delta=HUBER_DELTA)

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return how many photos have score and label between the same cuts."""
        return (self._tier(self._score(outputs)) == self._tier(targets)).sum()

    def merit(self, loss: float, accuracy: float) -> tuple[float, float]:
        """Prefer the lower error, then more photos in their tier."""
        return -loss, accuracy

    def read(self, outputs: Tensor) -> Reading:
        """Return the output as a label, and the tier that such a label has."""
        scores = self._score(outputs)
        return Reading(scores.cpu().numpy(), (self._tier(scores) + 1).cpu().numpy(), None)

    def _score(self, outputs: Tensor) -> Tensor:
        # In double precision, as labels and cuts are: a label may equal a cut.
        return outputs[:, 0].double() * self.scale.std + self.scale.mean

    def _tier(self, values: Tensor) -> Tensor:
        cuts = torch.tensor(self.scale.cuts, dtype=torch.float64, device=values.device)
        return torch.bucketize(values, cuts, right=True)


@dataclass(frozen=True)
class Rank:
    """Which of two is the more popular: the logistic loss of the difference of their outputs.

    Photos come in twos, the less popular first. The loss is -log sigmoid(higher - lower): RankNet
    (Burges and others 2005).
    """

    scale: Scale
    group: ClassVar[int] = 2
    learns_from: ClassVar[Literal["tiers", "labels"]] = "labels"

    def outputs(self, tiers: int) -> int:
        """Return one, however many tiers."""
        del tiers
        return 1

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the summed logistic loss of the pairs in nats."""
        del targets  # the order says it all
        return functional.softplus(-self._lead(outputs)).sum()

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return how many pairs are put in the right order; a draw is not right."""
        del targets
        return (self._lead(outputs) > 0).sum()

    def merit(self, loss: float, accuracy: float) -> tuple[float, float]:
        """Prefer more pairs in the right order, then the lower loss."""
        return accuracy, -loss

    def read(self, outputs: Tensor) -> Reading:
        """Return the output as it is, and its tier; `BadInput` before the run has ended."""
        if not self.scale.cuts:
            raise BadInput(
                "This ranking's scores are not cut into tiers yet: that is done when its run ends. "
                "Let the run go on to its end."
            )
        scores = outputs[:, 0].double().cpu().numpy()
        return Reading(scores, np.searchsorted(self.scale.cuts, scores, side="right") + 1, None)

    def _lead(self, outputs: Tensor) -> Tensor:
        lower, higher = outputs[:, 0].view(-1, 2).unbind(dim=1)
        return higher - lower


OBJECTIVES: Final[dict[str, Callable[[Scale], Objective]]] = {
    "classify": Classify,
    "rank": Rank,
    "regress": Regress,
}


def objective(name: str, scale: Scale) -> Objective:
    """Return the objective called `name`, reading by `scale`; `BadInput` for an unknown one."""
    if name not in OBJECTIVES:
        raise BadInput(f"No objective is called {name!r}; there are: {', '.join(OBJECTIVES)}.")
    return OBJECTIVES[name](scale)
