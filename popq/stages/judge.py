"""Judge: a run's predictions of the validation photos, beside predictors that saw no pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from popq.catalogue import judgements
from popq.catalogue.datasets import MemberRow
from popq.catalogue.db import Tx
from popq.stats import baselines, verdict
from popq.stats.baselines import Facts
from popq.stats.metrics import predictions


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """What a network says of n photos: scores (n,), tiers 1..K (n,), probabilities (n, K) or None.

    Probabilities are None where the objective gives none.
    """

    scores: npt.NDArray[np.floating[Any]]
    tiers: npt.NDArray[np.integer[Any]]
    probabilities: npt.NDArray[np.floating[Any]] | None


def judge(dataset: Any, members: Sequence[MemberRow], said: Said, *, unit: bool) -> dict[str, Any]:
    """Return a run's metrics, JSON-able: those of `verdict.judge`, and `without_owner`.

    The latter ({judged, training}) counts photos of unknown owners, which `shared_owners` cannot
    see: each is judged as if it were its owner's only one.
    `said` is of the members of the validation split in their order, `unit` whether scores are in
    the label's unit. Raises `BadInput` when the split is empty or what is said is no prediction.
    """
    facts = _facts(members)
    split = np.array([member.split for member in members])
    train = facts.of(np.flatnonzero(split == "train"))
    val = facts.of(np.flatnonzero(split == "val"))
    found = predictions(
        val.tiers,
        said.tiers,
        val.labels,
        said.scores,
        tiers=dataset.tiers,
        probabilities=said.probabilities,
        unit=unit,
    )
    blind = baselines.all_baselines(train, val, dataset.cuts)
    judged = verdict.judge(found, val.owners, blind, shared=np.isin(val.owners, train.owners))
    unknown = (_without_owner(members, split) for split in ("val", "train"))
    return judged | {"without_owner": dict(zip(("judged", "training"), unknown, strict=True))}


def _without_owner(members: Sequence[MemberRow], split: str) -> int:
    return sum(member.owner is None for member in members if member.split == split)


def record(tx: Tx, run: int, photos: Sequence[int], said: Said) -> None:
    """Keep what was said of each photo, so that runs can be compared photo by photo."""
    shares = said.probabilities
    judgements.record(
        tx,
        run,
        photos,
        said.scores.astype(np.float64).tolist(),
        said.tiers.tolist(),
        None if shares is None else [[_short(share) for share in row] for row in shares.tolist()],
    )


def _short(share: float) -> float:
    # Six digits wherever the point is: a share rounded to 0 would cost a network that is sure and
    # wrong more cross-entropy than the run was judged by.
    return float(f"{share:.6g}")


def owner_numbers(owners: Sequence[str | None]) -> npt.NDArray[np.int64]:
    """Return a number for each photo's owner (n,); an unknown owner (None) has one of its own."""
    known = {name: place for place, name in enumerate(dict.fromkeys(owners))}
    return np.array(
        [-1 - place if name is None else known[name] for place, name in enumerate(owners)],
        dtype=np.int64,
    )


def _facts(members: Sequence[MemberRow]) -> Facts:
    moments = np.array([member.moments for member in members], dtype=np.float64)
    means = moments[:, 1:4] / moments[:, :1]
    deviations = np.sqrt(np.maximum(moments[:, 4:7] / moments[:, :1] - means**2, 0))
    # Files of a folder have no Flickr id: neighbours of theirs are those imported beside them.
    ids = [member.flickr_id or -member.photo_id for member in members]
    return Facts(
        ids=np.array(ids, dtype=np.int64),
        owners=owner_numbers([member.owner for member in members]),
        labels=np.array([member.label for member in members], dtype=np.float64),
        tiers=np.array([member.tier for member in members], dtype=np.int64),
        features=np.hstack([means, deviations]),
    )
