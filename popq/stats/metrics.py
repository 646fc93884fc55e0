"""How good predictions are: scikit-learn and SciPy do the arithmetic, this says what of it.

What is undefined (a rank correlation with a constant) is None, never NaN: the result goes into
JSON columns and pages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn import metrics

from popq.errors import BadInput

Floats = npt.NDArray[np.float64]
Tiers = npt.NDArray[np.int64]

#: Bins of equal width between 0 and 1 into which a prediction falls by how sure it is.
SURE_BINS: Final = 15
#: Parts of equal size, by label, of which `by_label` tells the scores.
_LABEL_PARTS: Final = 12
#: Photos of which one such part is made, at least.
_PART: Final = 5
#: How far a row of probabilities may be from one; bf16 keeps three digits.
_ROW_TOLERANCE = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """What a model says of n photos, and what is true of them; `predictions` makes it, checked.

    truth and predicted (n,) are tiers 1..tiers, labels and scores (n,), probabilities (n, tiers)
    with rows that sum to one, or None where the model gives none. `unit` says that scores are in
    the label's unit, so that their distance means something.
    """

    truth: Tiers
    predicted: Tiers
    labels: Floats
    scores: Floats
    tiers: int
    probabilities: Floats | None
    unit: bool

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Which photos are put into their tier, (n,)."""
        right: npt.NDArray[np.bool_] = self.truth == self.predicted
        return right


def predictions(
    truth: npt.NDArray[Any],
    predicted: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    scores: npt.NDArray[Any],
    *,
    tiers: int,
    probabilities: npt.NDArray[Any] | None = None,
    unit: bool = True,
) -> Predictions:
    """Return the arrays in double precision, each row of probabilities summing to the last bit.

    Raises `BadInput` for no photos, lengths that differ, tiers outside 1..tiers, values that are
    not finite, and rows that are no probabilities.
    """
    n = len(truth)
    if n == 0 or not n == len(predicted) == len(labels) == len(scores):
        found = f"{n} tiers, {len(predicted)} predicted, {len(labels)} labels, {len(scores)} scores"
        raise BadInput(f"{found}: there must be as many of each, and one at least")
    for which in (truth, predicted):
        if which.min() < 1 or which.max() > tiers:
            raise BadInput(f"tiers {which.min()} to {which.max()} where there are {tiers}")
    _check_finite(labels, scores)
    return Predictions(
        truth=truth.astype(np.int64),
        predicted=predicted.astype(np.int64),
        labels=labels.astype(np.float64),
        scores=scores.astype(np.float64),
        tiers=tiers,
        probabilities=None if probabilities is None else _shares(probabilities, (n, tiers)),
        unit=unit,
    )


def _check_finite(labels: npt.NDArray[Any], scores: npt.NDArray[Any]) -> None:
    if not (np.all(np.isfinite(labels)) and np.all(np.isfinite(scores))):
        raise BadInput("labels and scores must be finite numbers")


def _shares(probabilities: npt.NDArray[Any], shape: tuple[int, int]) -> Floats:
    if probabilities.shape != shape:
        raise BadInput(f"probabilities of shape {probabilities.shape} where {shape} are wanted")
    shares = probabilities.astype(np.float64)
    sums = shares.sum(axis=1, keepdims=True)
    if not (np.all(shares >= 0) and np.all(np.abs(sums - 1) <= _ROW_TOLERANCE)):
        raise BadInput("probabilities must be at least 0 and sum to 1 in each row")
    normalised: Floats = shares / sums
    return normalised


def points(found: Predictions) -> dict[str, float | None]:
    """Return every metric that can be had of these predictions, by name.

    accuracy, balanced_accuracy (mean recall of the tiers that occur), macro_f1 (of the tiers that
    occur or are predicted), quadratic_kappa (None when all is one tier), spearman (None when
    scores or labels are constant), pairwise_accuracy (of two photos with different labels, how
    often the better one has the higher score; equal scores count half; None when labels are
    constant). With probabilities also cross_entropy (nats) and calibration_error (0 to 1: how far
    the likeliest tier's probability is from how often it is right, mean over `SURE_BINS` bins by
    photos). With `unit` also mae, in the label's unit.
    """
    truth, predicted = found.truth, found.predicted
    tiers = np.arange(1, found.tiers + 1)
    one_tier = len(np.union1d(truth, predicted)) == 1
    figures: dict[str, Any] = {
        "accuracy": metrics.accuracy_score(truth, predicted),
        "balanced_accuracy": metrics.recall_score(
            truth, predicted, labels=np.unique(truth), average="macro", zero_division=0
        ),
        "macro_f1": metrics.f1_score(truth, predicted, average="macro", zero_division=0),
        "quadratic_kappa": None
        if one_tier
        else metrics.cohen_kappa_score(truth, predicted, labels=tiers, weights="quadratic"),
    }
    if found.probabilities is not None:
        figures["cross_entropy"] = metrics.log_loss(truth, found.probabilities, labels=tiers)
        figures["calibration_error"] = np.abs(_gaps(found)).sum() / len(found)
    figures["spearman"] = spearman(found.scores, found.labels)
    figures["pairwise_accuracy"] = pairwise_accuracy(found.scores, found.labels)
    if found.unit:
        figures["mae"] = metrics.mean_absolute_error(found.labels, found.scores)
    return {name: None if value is None else float(value) for name, value in figures.items()}


def spearman(
    scores: npt.NDArray[np.floating[Any]], labels: npt.NDArray[np.floating[Any]]
) -> float | None:
    """Return Spearman's rank correlation of scores and labels (n,); None when one is constant."""
    if np.ptp(labels) == 0 or np.ptp(scores) == 0:
        return None
    return float(stats.spearmanr(scores, labels).statistic)


def pairwise_accuracy(scores: Floats, labels: Floats) -> float | None:
    """Return how often the score orders two photos as their labels do, 0 to 1; see `points`."""
    unequal = _unequal_pairs(labels)
    if unequal == 0:
        return None
    ordered = _unequal_pairs(scores)
    if ordered == 0:
        return 0.5
    # tau-b is (right - wrong) / sqrt(pairs unequal by label x pairs unequal by score).
    tau = float(stats.kendalltau(scores, labels).statistic)
    return (tau * float(np.sqrt(ordered / unequal)) + 1) / 2


def _unequal_pairs(values: Floats) -> float:
    """Return the number of pairs of different values."""
    counts = np.unique(values, return_counts=True)[1].astype(np.float64)
    return float((len(values) ** 2 - (counts**2).sum()) / 2)


def confusion(found: Predictions) -> list[list[int]]:
    """Return how many photos of a true tier (row) were put into a tier (column)."""
    tiers = np.arange(1, found.tiers + 1)
    counts: list[list[int]] = metrics.confusion_matrix(
        found.truth, found.predicted, labels=tiers
    ).tolist()
    return counts


def sureness(found: Predictions) -> tuple[Tiers, Floats, Floats]:
    """Return each photo's bin 0..`SURE_BINS`-1, probability of the likeliest tier, and 1 if right.

    Needs probabilities. The likeliest tier, of equals the lowest, is what is held to be right.
    """
    shares = found.probabilities
    if shares is None:
        raise BadInput("how sure a prediction is can only be told from probabilities")
    sure = shares.max(axis=1)
    edges = np.linspace(0, 1, SURE_BINS + 1)
    place = np.searchsorted(edges[1:-1], sure).astype(np.int64)
    return place, sure, (shares.argmax(axis=1) + 1 == found.truth).astype(np.float64)


def _gaps(found: Predictions) -> Floats:
    """Return for each bin the sum over its photos of 1 if right, less the probability."""
    place, sure, right = sureness(found)
    return np.bincount(place, weights=right - sure, minlength=SURE_BINS).astype(np.float64)


def calibration(found: Predictions) -> list[dict[str, float]]:
    """Return for each bin with photos how many, their mean probability, and the share right.

    The likeliest tier's; needs probabilities. Keys: photos, confidence, accuracy.
    """
    place, sure, right = sureness(found)
    photos = np.bincount(place, minlength=SURE_BINS)
    sums = [np.bincount(place, weights=of, minlength=SURE_BINS) for of in (sure, right)]
    return [
        {
            "photos": int(photos[bin_]),
            "confidence": float(sums[0][bin_] / photos[bin_]),
            "accuracy": float(sums[1][bin_] / photos[bin_]),
        }
        for bin_ in np.flatnonzero(photos).tolist()
    ]


def by_label(found: Predictions) -> list[dict[str, float]]:
    """Return the scores of photos in up to twelve parts of equal size by label, lowest first.

    Keys: photos, label (mean), and the scores' 10th, 50th and 90th percentiles: low, median, high.
    """
    order = np.argsort(found.labels, kind="stable")
    parts = np.array_split(order, max(1, min(_LABEL_PARTS, len(order) // _PART)))
    told = []
    for part in parts:
        low, median, high = np.percentile(found.scores[part], (10, 50, 90)).tolist()
        label = float(found.labels[part].mean())
        told.append(
            {"photos": len(part), "label": label, "low": low, "median": median, "high": high}
        )
    return told


def agreement(
    labels: npt.NDArray[np.floating[Any]], scores: npt.NDArray[np.floating[Any]]
) -> dict[str, Any]:
    """Judge n scores (n,) by their labels (n,): n, spearman (None for a constant) and mae.

    Raises `BadInput` for numbers that are not finite.
    """
    _check_finite(labels, scores)
    error = float(metrics.mean_absolute_error(labels, scores))
    return {"n": len(labels), "spearman": spearman(scores, labels), "mae": error}


def binomial_p(correct: int, n: int, chance: float) -> float:
    """Return P(X >= correct) for X ~ B(n, chance): how likely mere chance does as well.

    Exact. Raises `BadInput` unless 0 <= correct <= n, n >= 1 and 0 <= chance <= 1.
    """
    if not (n >= 1 and 0 <= correct <= n and 0 <= chance <= 1):
        raise BadInput(f"{correct} correct of {n} with chance {chance} cannot be")
    return float(stats.binomtest(correct, n, chance, alternative="greater").pvalue)


def paired_p(right: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    """Return how likely one no better than `other` is right as often on the same photos (n,).

    The exact binomial test on the photos of which just one of both is right (McNemar's): each is
    as likely to be either's. 1 where there is no such photo.
    """
    mine = int(np.count_nonzero(right & ~other))
    theirs = int(np.count_nonzero(other & ~right))
    return binomial_p(mine, mine + theirs, 0.5) if mine + theirs else 1.0
