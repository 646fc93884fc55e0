"""How far a metric could be off: photos drawn again by owner, and the metric computed anew.

Photos of one owner resemble each other, so drawing single photos would promise too much: an owner
is drawn with all of its photos, as many owners as there are, with replacement. Nothing is copied:
a photo counts as often as its owner was drawn. What is a function of sums is computed from sums by
owner; rank metrics are computed exactly from photos with weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from popq.errors import BadInput
from popq.stats.metrics import SURE_BINS, Floats, Predictions, sureness

Ints = npt.NDArray[np.int64]

RESAMPLES: Final = 1_000
#: The share of resamples whose metrics lie within an interval.
LEVEL: Final = 0.95
#: Numbers (resamples times owners) drawn in one go: 16 MB.
_DRAWN: Final = 2_000_000


def interval(values: Floats) -> list[float] | None:
    """Return [low, high], between which 95 % of a metric's resamples lie.

    None where most resamples leave the metric undefined (NaN).
    """
    defined = values[np.isfinite(values)]
    if 2 * len(defined) < len(values) or len(defined) == 0:
        return None
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(defined, (tail, 100 - tail)).tolist()
    return [low, high]


def replicates(
    found: Predictions,
    owners: npt.NDArray[Any],
    *,
    flags: dict[str, npt.NDArray[np.bool_]] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Floats]:
    """Return for each metric of `metrics.points` its values in the resamples, (resamples,).

    owners (n,) says whose each photo is. The same owners and seed draw the same resamples, so
    that values of two models on the same photos may be subtracted. `flags` (n,) are shares to
    compute besides, each under its name. Undefined is NaN. Raises `BadInput` when lengths differ.
    """
    if len(owners) != len(found):
        raise BadInput(f"{len(found)} photos and {len(owners)} owners do not match")
    _, owner = np.unique(owners, return_inverse=True)
    sums = _Sums(found, owner.reshape(-1), flags or {})
    ranks = _Ranks(found.scores, found.labels)
    parts: dict[str, list[Floats]] = {}
    for counts in _drawn(int(owner.max()) + 1, resamples, seed):
        values = sums.metrics(counts) | ranks.metrics(counts, owner.reshape(-1))
        for name, part in values.items():
            parts.setdefault(name, []).append(part)
    return {name: np.concatenate(values) for name, values in parts.items()}


def _drawn(owners: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Yield how often each owner was drawn, (some resamples, owners), until there are enough."""
    rng = np.random.default_rng(seed)
    step = max(1, _DRAWN // owners)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = rng.integers(0, owners, (rows, owners))
        drawn += owners * np.arange(rows)[:, None]
        counts = np.bincount(drawn.reshape(-1), minlength=rows * owners)
        yield counts.reshape(rows, owners).astype(np.float64)


class _Sums:
    """Metrics that are functions of sums over photos: each owner's sums are added up once."""

    def __init__(
        self, found: Predictions, owner: Ints, flags: dict[str, npt.NDArray[np.bool_]]
    ) -> None:
        self._owner, self._owners = owner, int(owner.max()) + 1
        self._tiers = found.tiers
        self._parts: dict[str, Floats] = {}
        cell = (found.truth - 1) * found.tiers + found.predicted - 1
        self._parts["confusion"] = self._table(cell, np.ones(len(found)), found.tiers**2)
        if found.probabilities is not None:
            tiny = np.finfo(np.float64).eps  # as scikit-learn's log_loss clips
            shares = found.probabilities[np.arange(len(found)), found.truth - 1]
            self._parts["cross_entropy"] = self._column(-np.log(np.clip(shares, tiny, 1 - tiny)))
            place, sure, right = sureness(found)
            self._parts["calibration"] = self._table(place, right - sure, SURE_BINS)
        if found.unit:
            self._parts["mae"] = self._column(np.abs(found.labels - found.scores))
        for name, flag in flags.items():
            self._parts[name] = self._column(flag.astype(np.float64))

    def _table(self, column: Ints, values: Floats, columns: int) -> Floats:
        """Return the sums of values (n,) by owner and by column, (owners, columns)."""
        place = self._owner * columns + column
        sums = np.bincount(place, weights=values, minlength=self._owners * columns)
        return sums.reshape(self._owners, columns).astype(np.float64)

    def _column(self, values: Floats) -> Floats:
        return self._table(np.zeros(len(values), dtype=np.int64), values, 1)

    def metrics(self, counts: Floats) -> dict[str, Floats]:
        """Return the metrics of resamples in which owners count so often (resamples, owners)."""
        totals = {name: counts @ part for name, part in self._parts.items()}
        cells = totals.pop("confusion").reshape(-1, self._tiers, self._tiers)
        photos = cells.sum(axis=(1, 2))
        values = _of_confusion(cells)
        if "calibration" in totals:
            values["calibration_error"] = np.abs(totals.pop("calibration")).sum(axis=1) / photos
        return values | {name: total[:, 0] / photos for name, total in totals.items()}


def _of_confusion(cells: Floats) -> dict[str, Floats]:
    """Return the metrics of confusion matrices (resamples, tiers, tiers), as scikit-learn's."""
    photos = cells.sum(axis=(1, 2))
    true, put = cells.sum(axis=2), cells.sum(axis=1)
    hits = np.diagonal(cells, axis1=1, axis2=2)
    tiers = np.arange(cells.shape[1], dtype=np.float64)
    cost = (tiers[:, None] - tiers) ** 2
    observed = (cells * cost).sum(axis=(1, 2))
    expected = np.einsum("bi,ij,bj->b", true, cost, put) / photos
    with np.errstate(invalid="ignore", divide="ignore"):
        recalls = np.where(true > 0, hits / true, np.nan)
        f1 = np.where(true + put > 0, 2 * hits / (true + put), np.nan)
        return {
            "accuracy": hits.sum(axis=1) / photos,
            "balanced_accuracy": np.nanmean(recalls, axis=1),
            "macro_f1": np.nanmean(f1, axis=1),
            "quadratic_kappa": np.where(expected > 0, 1 - observed / expected, np.nan),
        }


@dataclass(frozen=True, slots=True)
class _Level:
    """Photos whose labels' ranks first differ in one bit: those with 0 and those with 1.

    `below` are the former in the order of (higher bits, score), `above` the latter. Of `below`
    those with the same higher bits as above[i] begin at `start[i]`; those with lower scores end
    at `lower[i]` and those with equal scores at `equal[i]` (None: no equal scores).
    """

    below: Ints
    above: Ints
    start: Ints
    lower: Ints
    equal: Ints | None


class _Ranks:
    """Rank metrics of photos with weights. All sorting is done once, for every resample."""

    def __init__(self, scores: Floats, labels: Floats) -> None:
        _, by_score = np.unique(scores, return_inverse=True)
        _, by_label = np.unique(labels, return_inverse=True)
        self._score, self._label = by_score.reshape(-1), by_label.reshape(-1)
        bits = int(self._label.max()).bit_length()
        self._levels = [_level(self._score, self._label, bit) for bit in range(bits)]

    def metrics(self, counts: Floats, owner: Ints) -> dict[str, Floats]:
        """Return the metrics of resamples in which owners count so often (resamples, owners)."""
        weights = (row[owner] for row in counts)
        both = np.array([(self._spearman(w), self._pairs(w)) for w in weights])
        return {"spearman": both[:, 0], "pairwise_accuracy": both[:, 1]}

    def _spearman(self, weights: Floats) -> float:
        """Return the correlation of mean ranks, photos counting so often, (n,)."""
        total = weights.sum()
        middle = (total + 1) / 2
        ranks, spread = [], 1.0
        for group in (self._score, self._label):
            sizes = np.bincount(group, weights=weights)
            rank = np.cumsum(sizes) - (sizes - 1) / 2 - middle
            spread *= float(sizes @ rank**2)
            ranks.append(rank[group])
        if spread <= 0:
            return float("nan")
        return float((weights * ranks[0]) @ ranks[1] / np.sqrt(spread))

    def _pairs(self, weights: Floats) -> float:
        """Return the share of pairs of different labels in order, photos counting so often."""
        sizes = np.bincount(self._label, weights=weights)
        pairs = (weights.sum() ** 2 - sizes @ sizes) / 2
        right = 0.0
        for level in self._levels:
            lighter = np.zeros(len(level.below) + 1)
            np.cumsum(weights[level.below], out=lighter[1:])
            passed = lighter[level.lower]
            if level.equal is not None:
                passed = (passed + lighter[level.equal]) / 2
            right += float(weights[level.above] @ (passed - lighter[level.start]))
        return right / pairs if pairs > 0 else float("nan")


def _level(score: Ints, label: Ints, bit: int) -> _Level:
    """Sort photos (n,) for one bit of the ranks of their labels.

    Two ranks first differ, seen from the highest bit, in exactly one bit, and the one that has it
    is the greater; so the levels of all bits have each pair of different labels once.
    """
    higher, has = label >> (bit + 1), (label >> bit) & 1 == 1
    key = higher * (int(score.max()) + 1) + score
    below, above = (np.flatnonzero(side) for side in (~has, has))
    below = below[np.argsort(key[below], kind="stable")]
    above = above[np.argsort(key[above], kind="stable")]
    lower = np.searchsorted(key[below], key[above], side="left")
    equal = np.searchsorted(key[below], key[above], side="right")
    start = np.searchsorted(higher[below], higher[above], side="left")
    return _Level(below, above, start, lower, None if np.array_equal(lower, equal) else equal)
