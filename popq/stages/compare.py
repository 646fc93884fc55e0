"""Compare: two runs side by side on the same validation photos, and what was asked differently."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from popq.catalogue import datasets, judgements, runs
from popq.catalogue.db import Catalogue, Tx
from popq.catalogue.judgements import Judged
from popq.catalogue.states import RunState
from popq.errors import BadInput
from popq.stages.judge import owner_numbers
from popq.stats import verdict
from popq.stats.figures import in_labels_unit
from popq.stats.metrics import Predictions, predictions

#: Metrics that need no tiers, so that they may be compared where tiers are cut otherwise.
_WITHOUT_TIERS: Final = ("spearman", "pairwise_accuracy", "mae")


def compare(catalogue: Catalogue, first: int, second: int) -> dict[str, Any]:
    """Compare two runs on the validation photos that both have been judged on, JSON-able.

    Keys: first and second (run, dataset, photos: how many it was judged on), photos and owners
    (judged by both), metrics (see `verdict.compare`), config (what differs: [first's, second's]),
    notes (sentences). Photos count that stand in both validation splits with the same label; where
    the data sets cut tiers otherwise, only what needs no tiers is compared. Raises `BadInput` for
    runs that are unknown, not done, or have no photos in common.
    """
    with catalogue.read() as tx:
        rows = [_done(tx, run) for run in (first, second)]
        sets = [datasets.get(tx, dataset=row.dataset_id) for row in rows]
        said = [_said(tx, row) for row in rows]
    common = _common(*said)
    if not common:
        message = f"Runs {first} and {second} have no validation photo in common"
        raise BadInput(f"{message}: compare runs on the same data set.")
    alike = sets[0].cuts == sets[1].cuts
    both = [
        _predictions([row[side] for row in common], sets[side], rows[side].config)
        for side in (0, 1)
    ]
    owners = owner_numbers([row[0].owner for row in common])
    told = verdict.compare(both[0], both[1], owners)
    if not alike:
        told = {name: one for name, one in told.items() if name in _WITHOUT_TIERS}
    return {
        "first": _who(rows[0], said[0]),
        "second": _who(rows[1], said[1]),
        "photos": len(common),
        "owners": len(np.unique(owners)),
        "metrics": told,
        "config": _differences(rows[0].config, rows[1].config),
        "notes": _notes(rows, said, len(common), alike=alike),
    }


def _done(tx: Tx, run: int) -> Any:
    row = runs.get(tx, run)
    if row.state != RunState.DONE:
        message = f"Run {run} is {row.state}: there is nothing to compare yet"
        raise BadInput(f"{message}. `popq runs {run}` says where it stands.")
    return row


def _said(tx: Tx, row: Any) -> list[Judged]:
    said = judgements.of_run(tx, row.id, row.dataset_id)
    if not said:
        message = f"Run {row.id} was judged before popq kept what it said of each photo"
        raise BadInput(f"{message}; `popq score --run {row.id}` lets it say so again.")
    return said


def _common(first: Sequence[Judged], second: Sequence[Judged]) -> list[tuple[Judged, Judged]]:
    others = {one.photo: one for one in second}
    pairs = ((one, others.get(one.photo)) for one in first)
    return [(a, b) for a, b in pairs if b is not None and a.label == b.label]


def _predictions(said: Sequence[Judged], dataset: Any, config: dict[str, Any]) -> Predictions:
    shares = [one.probabilities for one in said if one.probabilities]
    return predictions(
        np.array([one.tier for one in said]),
        np.array([one.predicted for one in said]),
        np.array([one.label for one in said]),
        np.array([one.score for one in said]),
        tiers=dataset.tiers,
        probabilities=np.array(shares) if len(shares) == len(said) else None,
        unit=in_labels_unit(config),
    )


def _who(row: Any, said: Sequence[Judged]) -> dict[str, Any]:
    return {"run": row.id, "dataset": row.dataset, "photos": len(said)}


def _differences(first: dict[str, Any], second: dict[str, Any]) -> dict[str, list[Any]]:
    keys = dict.fromkeys([*first, *second])
    both = {key: [first.get(key), second.get(key)] for key in keys}
    return {key: values for key, values in both.items() if values[0] != values[1]}


def _notes(
    rows: Sequence[Any], said: Sequence[Sequence[Judged]], common: int, *, alike: bool
) -> list[str]:
    notes = []
    if rows[0].dataset_id != rows[1].dataset_id:
        notes.append(
            f"The runs have different data sets: only the {common:,} photos that validate in both"
            " with the same label are compared."
        )
    elif common < max(map(len, said)):
        counts = " and ".join(
            f"{len(one):,} by run {row.id}" for row, one in zip(rows, said, strict=True)
        )
        notes.append(f"Only {common:,} photos were judged by both ({counts}).")
    if not alike:
        notes.append("The data sets cut tiers otherwise: what needs tiers is not compared.")
    return notes
