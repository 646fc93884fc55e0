"""Plan: make the run that was asked for, or find the one that was asked to do the same."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from popq.catalogue import datasets, runs
from popq.catalogue.db import Catalogue, Tx
from popq.catalogue.states import RunState
from popq.errors import BadInput
from popq.learn import trackers
from popq.learn.config import configure
from popq.learn.model import build, check_weights, full_path, pick_device


def create_run(
    catalogue: Catalogue, dataset: str, preset: str, *, tracker: str | None = None, **options: Any
) -> int:
    """Make a queued run, or take up an unfinished one that was asked to do exactly the same.

    `options` are fields of the trainer's configuration; `tracker` is told of its epochs. Raises
    `BadInput` for what it cannot do, a new run's file of weights that cannot be read among it,
    `Misconfigured` for a tracker that is not installed.
    """
    if tracker is not None:
        trackers.check(tracker)
    with catalogue.begin() as tx:
        row, config = _asked(tx, dataset, preset, options)
        same = _same(tx, row.id, config, options)
        if same is not None and same.state != RunState.DONE:
            # Its weights are not looked for: a run that has begun goes on from its checkpoint.
            runs.requeue(tx, same.id, tracker)
            return int(same.id)
        check_weights(config["weights"])
        return runs.create(tx, row.id, config, config["seed"], tracker)


def check(
    catalogue: Catalogue, dataset: str, tiers: int, preset: str, *, device: str, **options: Any
) -> None:
    """Raise what would end a run of these options, here on `device`, before its first step.

    The data set may not be there yet. Fetches ImageNet's weights if such a run is to begin.
    """
    config = configure(preset, 1, outputs=tiers, **options)
    pick_device(device)
    with catalogue.read() as tx:
        begun = None
        if datasets.find(tx, dataset) is not None:
            row, asked = _asked(tx, dataset, preset, options)
            begun = _same(tx, row.id, asked, options)
    if begun is None:
        build(config.arch, tiers, config.weights)


def find_done(catalogue: Catalogue, dataset: str, preset: str, **options: Any) -> int | None:
    """Return a run that has done exactly this already; None when there is none."""
    with catalogue.read() as tx:
        row, config = _asked(tx, dataset, preset, options)
        same = _same(tx, row.id, config, options)
    return int(same.id) if same is not None and same.state == RunState.DONE else None


def _asked(
    tx: Tx, dataset: str, preset: str, options: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    row = datasets.get(tx, dataset)
    training = sum(n for split, _, n in datasets.counts(tx, row.id) if split == "train")
    config = configure(preset, training, outputs=row.tiers, **options).to_json()
    if config["objective"] == "regress":
        _check_cuts(row)
    # Whoever trains it stands in another folder than whoever asked.
    return row, config | {"weights": full_path(config["weights"])}


def _check_cuts(dataset: Any) -> None:
    # Cuts by rank may be equal where labels tie. A regression reads its tiers off the cuts, and no
    # score lies between two that are equal.
    for lower, (cut, upper) in enumerate(pairwise(dataset.cuts), start=1):
        if cut == upper:
            message = f"Data set {dataset.name!r} was cut by rank, through labels of {cut:g}: its"
            message += f" tier {lower + 1} has no range of labels, so a regression can put no photo"
            raise BadInput(
                f"{message} there. Make a data set with cuts between labels (`popq dataset create`"
                " without --preset seed), or train with --objective classify or rank."
            )


def _same(tx: Tx, dataset: int, config: dict[str, Any], options: dict[str, Any]) -> Any | None:
    """Return the run that was asked to do the same; older ones keep the weights' path as typed."""
    as_typed = config | {"weights": options.get("weights", config["weights"])}
    found = runs.find_same(tx, dataset, config)
    return runs.find_same(tx, dataset, as_typed) if found is None else found
