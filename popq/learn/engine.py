"""The processes that train one network together: one here and now, or many by Accelerate.

`accelerate launch` or `torchrun` starts the same command in several processes, on one machine or
on many; Accelerate finds out which this one is, gives it its device, and shares gradients (DDP).
Alone nothing of it is loaded (two seconds), nor does anything stand between loop and torch, so
that one process on a CPU computes the same bits as ever. Autocast and clipping are one call of
torch each, in both cases.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from popq.errors import Misconfigured

Value = TypeVar("Value")
#: How long processes wait for each other. The leader builds the pack, computes features, cuts and
#: judges while the others wait; NCCL's own limit of ten minutes would end the run. A process that
#: dies need not be noticed by waiting: the launcher ends the others.
PATIENCE = timedelta(days=1)


class Engine:
    """One process on one device; also what the loop asks of several."""

    #: Which process this is, and of how many.
    rank, processes = 0, 1

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @property
    def leads(self) -> bool:
        """Whether this process writes the checkpoints and talks to the catalogue."""
        return self.rank == 0

    def share(self, model: nn.Module) -> nn.Module:
        """Return what to call in place of `model`, so that gradients are those of all processes."""
        return model

    def total(self, tensor: Tensor) -> Tensor:
        """Return the sum of all processes' tensors."""
        return tensor

    def same(self, value: Value) -> Value:
        """Return the leader's value in every process."""
        return value

    def any(self, flag: bool) -> bool:
        """Return whether it is so in any process; every process must ask at the same step."""
        return flag


class Together(Engine):
    """One of several processes; every method is to be called by all of them in the same order."""

    def __init__(self, device: torch.device) -> None:
        from accelerate import Accelerator  # noqa: PLC0415 - loaded only where it is used
        from accelerate.utils import InitProcessGroupKwargs  # noqa: PLC0415 - as above

        self._accelerator = Accelerator(
            cpu=device.type == "cpu",
            kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
        )
        self.rank = self._accelerator.process_index
        self.processes = self._accelerator.num_processes
        super().__init__(self._accelerator.device)

    def share(self, model: nn.Module) -> nn.Module:
        """Wrap the model in DistributedDataParallel."""
        wrapped: nn.Module = self._accelerator.prepare_model(model)
        return wrapped

    def total(self, tensor: Tensor) -> Tensor:
        """Sum over processes."""
        summed: Tensor = self._accelerator.reduce(tensor, reduction="sum")
        return summed

    def same(self, value: Value) -> Value:
        """Broadcast from the leader."""
        from accelerate.utils import broadcast_object_list  # noqa: PLC0415 - as above

        values: list[Any] = broadcast_object_list([value])
        told: Value = values[0]
        return told

    def any(self, flag: bool) -> bool:
        """Sum the flags."""
        return bool(self.total(torch.tensor(int(flag), device=self.device)) > 0)


def launched() -> bool:
    """Return whether a launcher started this process as one of several."""
    return torch.distributed.is_available() and torch.distributed.is_torchelastic_launched()


def engine(device: torch.device) -> Engine:
    """Return the engine of this process: several if a launcher of torch's started it, else alone.

    Raises `Misconfigured` when Accelerate is needed and not installed.
    """
    if not launched():
        return Engine(device)
    try:
        return Together(device)
    except ModuleNotFoundError as error:
        raise Misconfigured(
            f"Several processes need {error.name}, which is not installed; "
            "pip install 'popq[train]', or start one process."
        ) from error
