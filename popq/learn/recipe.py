"""What makes a step more than the plain one: groups of parameters, smoothing, a running mean."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from popq.learn.config import Config
from popq.learn.model import HEAD


def optimizer(model: nn.Module, config: Config) -> Optimizer:
    """Return the optimizer of the parameters that learn, the head's first.

    Norms and biases do not decay: to pull them to zero changes what the network computes, and
    keeps nothing simple. Each group's `share` is the part of the schedule's rate that it gets.
    """
    groups: list[dict[str, Any]] = []
    for in_head, share in ((True, 1.0), (False, config.backbone_rate)):
        for decays in (True, False):
            chosen = [
                parameter
                for name, parameter in model.named_parameters()
                if name.startswith(HEAD) == in_head
                and (parameter.ndim > 1) == decays
                and parameter.requires_grad
            ]
            decay = config.weight_decay if decays else 0.0
            if chosen:
                groups.append({"params": chosen, "weight_decay": decay, "share": share})
    return SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov)


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Let the next step be taken at `rate`, each group at its share of it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["share"]


def softened(loss: Tensor, logits: Tensor, smoothing: float) -> Tensor:
    """Return a summed cross-entropy with `smoothing` of each photo spread over all tiers.

    Apart from the objective's own loss, so that what is reported compares with validation's.
    """
    if not smoothing:
        return loss
    spread = -functional.log_softmax(logits, dim=1).mean(dim=1).sum()
    return (1 - smoothing) * loss + smoothing * spread


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether the error says that an allocator, of a GPU or of the CPU, had no more."""
    words = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, torch.OutOfMemoryError) or any(w in str(error) for w in words)


class RunningMean:
    """A network whose weights and buffers are a running mean of another's (EMA).

    `keep` is what it keeps of itself at each step. The first steps keep less, so that it does not
    remember the random weights: after n steps (1 + n) / (10 + n), a function of the step alone.
    """

    def __init__(self, model: nn.Module, keep: float) -> None:
        self._keep = self._now = keep
        self._averaged = AveragedModel(model, multi_avg_fn=self._mix, use_buffers=True)
        self.model: nn.Module = self._averaged.module

    def _mix(self, mean: Any, now: Any, _: Any) -> None:
        get_ema_multi_avg_fn(self._now)(mean, now, 0)  # type: ignore[no-untyped-call]

    def follow(self, model: nn.Module, step: int) -> None:
        """Take in the network's weights after step `step` (from 0) of the run."""
        self._now = min(self._keep, (1 + step) / (10 + step))
        # From the first step on: torch would begin with a copy, also after a resume.
        self._averaged.n_averaged.fill_(1)
        self._averaged.update_parameters(model)
