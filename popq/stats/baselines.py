"""Predictors to set beside every model: they see the training split, and never a picture.

A model that does not beat them has learnt nothing from pixels. `nearest_id` and `owner_mean` show
how much a split leaks: neighbours by id were uploaded by one person in one go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from popq.errors import BadInput
from popq.stats.tiers import assign

Tiers = npt.NDArray[np.int64]

#: Candidates looked at in one go by `nearest_id` (about 100 MB).
_CANDIDATES = 2_000_000
#: How many neighbours vote in each of `all_baselines`' nearest predictors.
NEIGHBOURS: Final = (1, 3, 25)


def majority(train_tiers: Tiers, n: int) -> Tiers:
    """Return the commonest tier of the training split (of equals the lowest), n times."""
    _check_not_empty(train_tiers)
    return np.full(n, np.bincount(train_tiers).argmax(), dtype=np.int64)


def nearest_id(
    train_ids: npt.NDArray[np.int64], train_tiers: Tiers, ids: npt.NDArray[np.int64], k: int = 1
) -> Tiers:
    """Return for each id (n,) the tier that most of the k nearest training ids (m,) have.

    Of two ids equally near the lower is nearer; of tiers with equal votes the one with the
    nearest voter wins. Ids need no order. Raises `BadInput` for an empty training split or k < 1.
    """
    _check_not_empty(train_tiers)
    if k < 1:
        raise BadInput(f"{k} neighbours; at least one must vote")
    order = np.argsort(train_ids, kind="stable")
    known, tiers = train_ids[order], train_tiers[order]
    k = min(k, len(known))
    step = max(1, _CANDIDATES // (2 * k))
    parts = [
        _vote(known, tiers, ids[start : start + step], k) for start in range(0, len(ids), step)
    ]
    return np.concatenate([np.empty(0, dtype=np.int64), *parts])


def mean_colour(
    train_features: npt.NDArray[np.floating[Any]],
    train_tiers: Tiers,
    features: npt.NDArray[np.floating[Any]],
) -> Tiers:
    """Return tiers from means and deviations of the channels alone, by logistic regression.

    train_features (m, 6), train_tiers (m,) and features (n, 6); standardised by the training
    split. Deterministic. Raises `BadInput` for an empty training split.
    """
    _check_not_empty(train_tiers)
    if len(np.unique(train_tiers)) == 1 or len(features) == 0:
        return majority(train_tiers, len(features))
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(train_features, train_tiers)
    predicted: Tiers = model.predict(features).astype(np.int64)
    return predicted


def owner_mean(
    train_owners: npt.NDArray[np.int64],
    train_labels: npt.NDArray[np.float64],
    train_tiers: Tiers,
    owners: npt.NDArray[np.int64],
    cuts: Sequence[float],
) -> Tiers | None:
    """Return for each photo (n,) the tier of the mean label of its owner's training photos (m,).

    Owners are numbers. Whose owner has no training photo gets the commonest tier; where that is
    every photo, as in a split by owner, there is no such predictor: None.
    """
    _check_not_empty(train_tiers)
    known, owner, photos = np.unique(train_owners, return_inverse=True, return_counts=True)
    means = np.bincount(owner.reshape(-1), weights=train_labels) / photos
    place = np.searchsorted(known, owners).clip(0, len(known) - 1)
    there = known[place] == owners
    if not np.any(there):
        return None
    guess: Tiers = np.where(there, assign(means, cuts)[place], majority(train_tiers, 1))
    return guess


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """What is known of n photos but their pixels.

    ids, owners and tiers (n,) int64, labels (n,) and features (n, 6): the channels' means and
    deviations. Owners are numbers, and a photo of an unknown owner has one of its own.
    """

    ids: npt.NDArray[np.int64]
    owners: npt.NDArray[np.int64]
    labels: npt.NDArray[np.float64]
    tiers: Tiers
    features: npt.NDArray[np.float64]

    def of(self, rows: npt.NDArray[np.int64]) -> Facts:
        """Return the facts of some of the photos, by their places (m,)."""
        return Facts(
            ids=self.ids[rows],
            owners=self.owners[rows],
            labels=self.labels[rows],
            tiers=self.tiers[rows],
            features=self.features[rows],
        )


def all_baselines(train: Facts, judged: Facts, cuts: Sequence[float]) -> dict[str, Tiers]:
    """Return what each predictor says of the judged photos: their tiers (n,), by its name.

    Names: majority, nearest_id, nearest_id_3, nearest_id_25, mean_colour, and owner_mean where
    the split allows it. Raises `BadInput` for no photos.
    """
    _check_not_empty(judged.tiers)
    found = {"majority": majority(train.tiers, len(judged.tiers))}
    for k in NEIGHBOURS:
        name = "nearest_id" if k == 1 else f"nearest_id_{k}"
        found[name] = nearest_id(train.ids, train.tiers, judged.ids, k)
    by_owner = owner_mean(train.owners, train.labels, train.tiers, judged.owners, cuts)
    if by_owner is not None:
        found["owner_mean"] = by_owner
    found["mean_colour"] = mean_colour(train.features, train.tiers, judged.features)
    return found


def _vote(known: npt.NDArray[np.int64], tiers: Tiers, ids: npt.NDArray[np.int64], k: int) -> Tiers:
    """Vote among the k nearest of `known` (ascending); they lie within k places of the id's."""
    places = np.searchsorted(known, ids)[:, None] + np.arange(-k, k)
    inside = (places >= 0) & (places < len(known))
    places = places.clip(0, len(known) - 1)
    distances = np.where(inside, np.abs(known[places] - ids[:, None]), np.iinfo(np.int64).max)
    # Stable, so that of equal distances the lower id, which stands further left, comes first.
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :k]
    votes = tiers[np.take_along_axis(places, nearest, axis=1)]
    counts = np.stack([(votes == tier).sum(axis=1) for tier in range(tiers.max() + 1)], axis=1)
    support = np.take_along_axis(counts, votes, axis=1)
    # The first voter, in order of nearness, whose tier has the most votes.
    winner = np.argmax(support == counts.max(axis=1, keepdims=True), axis=1)
    chosen: Tiers = votes[np.arange(len(ids)), winner]
    return chosen


def _check_not_empty(tiers: Tiers) -> None:
    if len(tiers) == 0:
        raise BadInput("no photos with a tier; is the split empty?")
