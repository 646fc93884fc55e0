"""Trackers: what an epoch came to, told to TensorBoard, W&B, MLflow or trackio by Accelerate.

None is needed, and none is part of a run: the catalogue has every number anyway.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

from popq.errors import BadInput, Misconfigured

log = structlog.get_logger()

TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")
PROJECT = "popq"

#: Tells the tracker of values by name after an epoch.
Tell = Callable[[dict[str, float], int], None]


def check(name: str) -> None:
    """Raise `BadInput` for an unknown tracker, `Misconfigured` for one that is not installed."""
    if name not in TRACKERS:
        raise BadInput(f"No tracker is called {name!r}; there are: {', '.join(TRACKERS)}.")
    for package in ("accelerate", name):
        if importlib.util.find_spec(package) is None:
            raise Misconfigured(
                f"The tracker {name} needs {package}, which is not installed: "
                f"pip install 'popq[train,{name}]', or leave out --tracker."
            )


@contextmanager
def tracking(name: str | None, folder: Path, run: str, config: dict[str, Any]) -> Iterator[Tell]:
    """Yield what tells tracker `name` of run `run`; it does nothing for None.

    TensorBoard's files lie in `folder`/popq; where the others write, their own variables say.
    """
    if name is None:
        yield lambda _values, _epoch: None
        return
    check(name)
    from accelerate import Accelerator  # noqa: PLC0415 - loaded only where it is used

    # On the CPU: it computes nothing, and several processes have made their own before.
    accelerator = Accelerator(log_with=name, project_dir=folder)
    named = {} if name == "tensorboard" else {"run_name" if name == "mlflow" else "name": run}
    try:
        accelerator.init_trackers(PROJECT, config=config, init_kwargs={name: named})
    except Exception as error:
        # Each service has errors of its own: no key, no network, no room.
        raise Misconfigured(
            f"The tracker {name} cannot be opened: {error}. Set it up as its own pages say, or "
            "leave out --tracker: the catalogue has every number."
        ) from error

    def tell(values: dict[str, float], epoch: int) -> None:
        with _never_mind(name):
            accelerator.log(values, step=epoch)

    try:
        yield tell
    finally:
        with _never_mind(name):
            accelerator.end_training()


@contextmanager
def _never_mind(name: str) -> Iterator[None]:
    """Go on without the tracker's hearing of it: days of training do not end with its service."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - each service has errors of its own
        log.warning("tracker failed", tracker=name, why=str(error) or type(error).__name__)
