"""Dataset: cut stored photos into tiers, split them, and freeze the result under a name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from popq.catalogue import datasets
from popq.catalogue.db import Catalogue
from popq.errors import BadInput
from popq.stats import splits, tiers
from popq.stats.moments import Moments, mean_std

#: How equal scores fare: stored with each data set.
TIE_RULE: Final = "label >= cut is the upper tier; equal labels share a tier"


@dataclass(frozen=True, slots=True)
class Spec:
    """What a data set is asked to be; `val` and `test` are shares of the whole."""

    name: str
    tiers: int = 3
    split: splits.Rule = "owner"
    val: float = 0.2
    test: float = 0.0
    seed: int = 0


def create(catalogue: Catalogue, spec: Spec) -> dict[str, Any]:
    """Freeze every stored, labelled photo into a data set and describe it; see `describe`.

    Cuts are fitted on the training split, mean and standard deviation come from its exact moments
    by SQL. One transaction: there is a whole data set or none. Raises `BadInput` for a name that
    is taken, for too few photos or distinct labels, and for a split that comes out empty.
    """
    with catalogue.begin() as tx:
        if datasets.find(tx, spec.name) is not None:
            message = f"There is a data set {spec.name!r} already, and data sets are frozen"
            raise BadInput(f"{message}; choose another name.")
        rows = datasets.candidates(tx)
        values, members = _freeze(spec, rows)
        dataset = datasets.create(tx, values, members)
        pixels, *sums = datasets.training_sums(tx, dataset)
        red, green, blue, *squares = sums
        mean, std = mean_std(
            Moments(pixels, (red, green, blue), (squares[0], squares[1], squares[2]))
        )
        datasets.set_channels(tx, dataset, mean, std)
    return describe(catalogue, spec.name)


def _freeze(spec: Spec, rows: Sequence[Any]) -> tuple[dict[str, Any], list[tuple[Any, ...]]]:
    if len(rows) < spec.tiers:
        message = f"{len(rows)} photos are stored and labelled; {spec.tiers} tiers need more"
        raise BadInput(f"{message}. `popq status` shows where the others are.")
    # Photos from elsewhere have no Flickr id: their catalogue ids, negative, cannot collide.
    ids = np.array([row.flickr_id or -row.id for row in rows], dtype=np.int64)
    labels = np.array([row.label for row in rows], dtype=np.float64)
    salt = f"popq:{spec.seed}"
    split = splits.assign(
        spec.split,
        ids=ids,
        owners=[row.owner for row in rows],
        times=_times(rows, ids),
        val=spec.val,
        test=spec.test,
        salt=salt,
    )
    training = split == "train"
    cuts = tiers.fit_cuts(labels[training], spec.tiers)
    tier = tiers.assign(labels, cuts)
    members = [
        (row.id, row.label, int(t), str(s), row.file_key)
        for row, t, s in zip(rows, tier, split, strict=True)
    ]
    values = {
        "name": spec.name,
        "count": len(rows),
        "tiers": spec.tiers,
        "cuts": list(cuts),
        "tier_labels": [
            float(labels[training & (tier == t)].mean()) for t in range(1, spec.tiers + 1)
        ],
        "tie_rule": TIE_RULE,
        "split_rule": spec.split,
        "val": spec.val,
        "test": spec.test,
        "seed": spec.seed,
        "salt": salt,
        "fingerprint": _fingerprint(ids, members, rows),
    }
    return values, members


def _times(rows: Sequence[Any], ids: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Return upload times when all are known, else ids, which Flickr gives out in that order."""
    posted = [row.posted_at for row in rows]
    if any(time is None for time in posted):
        return ids
    return np.array([time.timestamp() for time in posted])


def _fingerprint(
    ids: npt.NDArray[np.int64], members: Sequence[tuple[Any, ...]], rows: Sequence[Any]
) -> str:
    """Return a sha256 of who is in the set, with which bytes, label, tier and split, in order."""
    digest = hashlib.sha256()
    for photo, (_, label, tier, split, _), row in zip(ids.tolist(), members, rows, strict=True):
        digest.update(f"{photo},{row.sha256},{label!r},{tier},{split}\n".encode())
    return digest.hexdigest()


def describe(catalogue: Catalogue, name: str) -> dict[str, Any]:
    """Return what a data set is, JSON-able: counts, cuts, mean, std, splits, warnings.

    Raises `BadInput` for an unknown name.
    """
    with catalogue.read() as tx:
        row = datasets.get(tx, name)
        counts = datasets.counts(tx, row.id)
        unknown = datasets.strangers(tx, row.id)
    sizes = {"train": 0, "val": 0, "test": 0}
    by_tier = dict.fromkeys(range(1, row.tiers + 1), 0)
    for split, tier, photos, _ in counts:
        sizes[split] += photos
        by_tier[tier] += photos
    warnings = []
    if row.split_rule == "owner" and unknown:
        warnings.append(
            f"the owners of {unknown} of {row.count} photos are unknown: photos of one owner may"
            " stand on both sides of the split, and a model may look better than it is"
        )
    if row.split_rule == "photo":
        warnings.append(
            "split by photo: neighbours of one owner stand on both sides, so a model looks better"
            " than it is on new owners"
        )
    return {
        "dataset": row.name,
        "count": row.count,
        "tiers": row.tiers,
        "cuts": row.cuts,
        "mean": row.mean,
        "std": row.std,
        "splits": sizes,
        "photos_by_tier": by_tier,
        "split_rule": row.split_rule,
        "tie_rule": row.tie_rule,
        "seed": row.seed,
        "fingerprint": row.fingerprint,
        "warnings": warnings,
    }
