"""A model judged: its metrics with intervals, beside predictors without pixels; two compared.

What `judge` returns is what a run's row keeps. Runs of older versions have fewer keys: whoever
reads them takes what is there.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from popq.errors import BadInput
from popq.stats import bootstrap, metrics
from popq.stats.bootstrap import RESAMPLES
from popq.stats.figures import METRICS, best_blind
from popq.stats.metrics import Predictions, Tiers

_LESS_IS_BETTER: Final = {metric.key for metric in METRICS if metric.less_is_better}
#: What the names of predictors without pixels begin with, among the intervals.
_BLIND: Final = "without_pixels."


def judge(
    found: Predictions,
    owners: npt.NDArray[Any],
    blind: dict[str, Tiers],
    *,
    shared: npt.NDArray[np.bool_] | None = None,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Judge predictions beside predictors without pixels; returns a JSON-able dict.

    owners (n,) says whose each photo is, blind[name] (n,) are the tiers that a predictor without
    pixels gives, shared (n,) whose owner also has training photos. Keys, besides the metrics of
    `metrics.points`:

    n, owners, confusion; chance and p_chance (exact binomial test); without_pixels (accuracies),
    best_without_pixels (a name), lead (accuracy less the best one's) and p_without_pixels (exact
    binomial test on the photos of which one of both is right); intervals (by name of a metric,
    "lead" or "without_pixels.NAME": [low, high], from `resamples` resamples by owner; with one
    owner there are none); calibration (with probabilities) and by_label, for figures;
    shared_owners ({owners, photos} that also train, where `shared` is given).
    """
    correct = int(np.count_nonzero(found.right))
    chance = 1 / found.tiers
    judged: dict[str, Any] = {
        "n": len(found),
        "owners": len(np.unique(owners)),
        **metrics.points(found),
        "confusion": metrics.confusion(found),
        "chance": chance,
        "p_chance": metrics.binomial_p(correct, len(found), chance),
    }
    hits = {name: tiers == found.truth for name, tiers in blind.items()}
    judged |= _beside(found, hits)
    judged["intervals"] = _intervals(found, owners, hits, judged, resamples)
    judged["resamples"] = resamples
    if found.probabilities is not None:
        judged["calibration"] = metrics.calibration(found)
    judged["by_label"] = metrics.by_label(found)
    if shared is not None:
        photos = int(np.count_nonzero(shared))
        judged["shared_owners"] = {"owners": len(np.unique(owners[shared])), "photos": photos}
    return judged


def _beside(found: Predictions, hits: dict[str, npt.NDArray[np.bool_]]) -> dict[str, Any]:
    accuracies = {name: float(np.mean(right)) for name, right in hits.items()}
    if not accuracies:
        return {"without_pixels": {}}
    best = str(best_blind({"without_pixels": accuracies}))
    return {
        "without_pixels": accuracies,
        "best_without_pixels": best,
        "lead": float(np.mean(found.right)) - accuracies[best],
        "p_without_pixels": metrics.paired_p(found.right, hits[best]),
    }


def _intervals(
    found: Predictions,
    owners: npt.NDArray[Any],
    hits: dict[str, npt.NDArray[np.bool_]],
    judged: dict[str, Any],
    resamples: int,
) -> dict[str, list[float]]:
    if judged["owners"] == 1:
        return {}
    flags = {f"{_BLIND}{name}": right for name, right in hits.items()}
    values = bootstrap.replicates(found, owners, flags=flags, resamples=resamples)
    if hits:
        values["lead"] = values["accuracy"] - values[_BLIND + judged["best_without_pixels"]]
    told = {name: bootstrap.interval(drawn) for name, drawn in values.items()}
    return {
        name: bounds
        for name, bounds in told.items()
        # A metric that is undefined here is not told from the resamples where it is not.
        if bounds is not None and judged.get(name, 0.0) is not None
    }


def compare(
    first: Predictions,
    second: Predictions,
    owners: npt.NDArray[Any],
    *,
    resamples: int = RESAMPLES,
) -> dict[str, dict[str, Any]]:
    """Compare two models' predictions of the same photos, metric by metric.

    Returns for each metric that both have {first, second, difference (second less first, None
    where undefined), interval (of the difference, paired: both are judged on the same resamples
    by owner; None with one owner), better ("first", "second", or None where the interval has 0)}.
    Raises `BadInput` when the photos differ in number or label.
    """
    if len(first) != len(second) or not np.array_equal(first.labels, second.labels):
        raise BadInput("only predictions of the same photos can be compared")
    points = (metrics.points(first), metrics.points(second))
    drawn: tuple[dict[str, Any], ...] = ({}, {})
    if len(np.unique(owners)) > 1:
        drawn = tuple(
            bootstrap.replicates(one, owners, resamples=resamples) for one in (first, second)
        )
    told = {}
    for name in points[0]:
        if name not in points[1]:
            continue
        a, b = points[0][name], points[1][name]
        known = a is not None and b is not None
        bounds = bootstrap.interval(drawn[1][name] - drawn[0][name]) if drawn[0] and known else None
        told[name] = {
            "first": a,
            "second": b,
            "difference": b - a if a is not None and b is not None else None,
            "interval": bounds,
            "better": _better(name, bounds),
        }
    return told


def _better(name: str, bounds: list[float] | None) -> str | None:
    if bounds is None or bounds[0] <= 0 <= bounds[1]:
        return None
    return "second" if (bounds[0] > 0) != (name in _LESS_IS_BETTER) else "first"
