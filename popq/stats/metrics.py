"""How good predictions are: scikit-learn and SciPy do the arithmetic, this says what of it.

What is undefined (a rank correlation with a constant) is None, never NaN: the result goes into
JSON columns and pages.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn import metrics

from popq.errors import BadInput

#: How far a row of probabilities may be from one; bf16 keeps three digits.
_ROW_TOLERANCE = 0.02


def classification(
    truth: npt.NDArray[np.int64],
    probabilities: npt.NDArray[np.floating[Any]],
    labels: npt.NDArray[np.floating[Any]] | None,
    scores: npt.NDArray[np.floating[Any]] | None,
) -> dict[str, Any]:
    """Judge n predictions of K tiers, and of the label itself when labels and scores are given.

    truth (n,) holds tiers 1..K, probabilities (n, K) sum to one a row, labels and scores are
    (n,) in the unit of the label. The prediction is the likeliest tier, of equals the lowest.
    Returns a JSON-able dict: n, accuracy, balanced_accuracy (mean recall of the tiers that occur),
    macro_f1 (of the tiers that occur or are predicted), quadratic_kappa (None when truth and
    predictions are all one tier), cross_entropy (nats), confusion (K x K counts, a row per true
    tier), spearman (None when either is constant) and mae.
    Raises `BadInput` for empty input and values out of range.
    """
    shares = _checked(truth, probabilities)
    tiers = np.arange(1, shares.shape[1] + 1)
    predicted = shares.argmax(axis=1) + 1
    one_tier = len(np.union1d(truth, predicted)) == 1
    recalls = metrics.recall_score(
        truth, predicted, labels=np.unique(truth), average="macro", zero_division=0
    )
    kappa = (
        None
        if one_tier
        else metrics.cohen_kappa_score(truth, predicted, labels=tiers, weights="quadratic")
    )
    return {
        "n": len(truth),
        "accuracy": float(metrics.accuracy_score(truth, predicted)),
        "balanced_accuracy": float(recalls),
        "macro_f1": float(metrics.f1_score(truth, predicted, average="macro", zero_division=0)),
        "quadratic_kappa": None if kappa is None else float(kappa),
        "cross_entropy": float(metrics.log_loss(truth, shares, labels=tiers)),
        "confusion": metrics.confusion_matrix(truth, predicted, labels=tiers).tolist(),
        **_of_scores(labels, scores, len(truth)),
    }


def agreement(
    labels: npt.NDArray[np.floating[Any]], scores: npt.NDArray[np.floating[Any]]
) -> dict[str, Any]:
    """Judge n scores (n,) by their labels (n,): n, spearman (None for a constant) and mae.

    Raises `BadInput` for numbers that are not finite.
    """
    return {"n": len(labels), **_of_scores(labels, scores, len(labels))}


def binomial_p(correct: int, n: int, chance: float) -> float:
    """Return P(X >= correct) for X ~ B(n, chance): how likely mere chance does as well.

    Exact. Raises `BadInput` unless 0 <= correct <= n, n >= 1 and 0 <= chance <= 1.
    """
    if not (n >= 1 and 0 <= correct <= n and 0 <= chance <= 1):
        raise BadInput(f"{correct} correct of {n} with chance {chance} cannot be")
    return float(stats.binomtest(correct, n, chance, alternative="greater").pvalue)


def _checked(
    truth: npt.NDArray[np.int64], probabilities: npt.NDArray[np.floating[Any]]
) -> npt.NDArray[np.float64]:
    """Return the probabilities in double precision, each row summing to one to the last bit."""
    if len(truth) == 0 or probabilities.ndim != 2 or len(truth) != len(probabilities):  # noqa: PLR2004 - rows and tiers
        raise BadInput(f"{len(truth)} tiers and probabilities of shape {probabilities.shape}")
    shares = probabilities.astype(np.float64)
    sums = shares.sum(axis=1, keepdims=True)
    if not (np.all(shares >= 0) and np.all(np.abs(sums - 1) <= _ROW_TOLERANCE)):
        raise BadInput("probabilities must be at least 0 and sum to 1 in each row")
    if truth.min() < 1 or truth.max() > shares.shape[1]:
        message = f"tiers {truth.min()} to {truth.max()} with probabilities for {shares.shape[1]}"
        raise BadInput(message)
    normalised: npt.NDArray[np.float64] = shares / sums
    return normalised


def _of_scores(
    labels: npt.NDArray[np.floating[Any]] | None,
    scores: npt.NDArray[np.floating[Any]] | None,
    n: int,
) -> dict[str, float | None]:
    if labels is None or scores is None:
        return {"spearman": None, "mae": None}
    if not len(labels) == len(scores) == n:
        raise BadInput(f"{n} tiers, {len(labels)} labels and {len(scores)} scores do not match")
    if not (np.all(np.isfinite(labels)) and np.all(np.isfinite(scores))):
        raise BadInput("labels and scores must be finite numbers")
    constant = np.ptp(labels) == 0 or np.ptp(scores) == 0
    spearman = None if constant else float(stats.spearmanr(scores, labels).statistic)
    return {"spearman": spearman, "mae": float(metrics.mean_absolute_error(labels, scores))}
