"""A run's metrics as people read them: names, and what must be said beside them.

Imports nothing heavy: commands that only print a number load it. Metrics of older versions have
fewer keys; what is there is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

#: Objectives whose score is in the label's unit, so that its distance to the label means something.
IN_LABELS_UNIT: Final = frozenset({"classify", "regress"})


def in_labels_unit(config: Mapping[str, Any]) -> bool:
    """Return whether scores of a run of this configuration are in the label's unit.

    Runs of before there were objectives classify.
    """
    return config.get("objective", "classify") in IN_LABELS_UNIT


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its key, its name for people, what it means, and how its numbers are shown.

    `form` is "share" (of 1), "three" (digits after the point) or "two".
    """

    key: str
    name: str
    what: str
    form: str
    less_is_better: bool = False


METRICS: Final = (
    Metric("accuracy", "Accuracy", "share put into the right tier", "share"),
    Metric("balanced_accuracy", "Balanced accuracy", "the same, each tier counting alike", "share"),
    Metric("macro_f1", "Macro F1", "precision and recall in one, mean of the tiers", "three"),
    Metric(
        "quadratic_kappa",
        "Weighted kappa",
        "0 is chance, 1 is perfect; far misses cost more than near ones",
        "three",
    ),
    Metric(
        "spearman",
        "Spearman's rho",
        "does the score order photos as the label does? 1 is perfectly",
        "three",
    ),
    Metric(
        "pairwise_accuracy",
        "Pairwise accuracy",
        "of two photos the better one has the higher score; half is chance",
        "share",
    ),
    Metric(
        "mae",
        "Mean absolute error",
        "of the score, in the label's unit",
        "two",
        less_is_better=True,
    ),
    Metric(
        "cross_entropy",
        "Cross-entropy",
        "in nats; small when right and sure",
        "three",
        less_is_better=True,
    ),
    Metric(
        "calibration_error",
        "Calibration error",
        "how far its probabilities are from how often it is right",
        "three",
        less_is_better=True,
    ),
)

#: What each predictor without pixels does: its name for people, and a sentence.
PREDICTORS: Final = {
    "majority": ("Commonest tier", "always says the tier that most training photos have"),
    "nearest_id": ("Nearest id", "the tier of the training photo with the nearest Flickr id"),
    "nearest_id_3": ("3 nearest ids", "the tier of most of the 3 nearest training photos"),
    "nearest_id_25": ("25 nearest ids", "the tier of most of the 25 nearest training photos"),
    "owner_mean": ("Owner's mean", "the tier of the mean label of the owner's training photos"),
    "mean_colour": ("Mean colour", "knows only the mean and spread of the three colour channels"),
}

#: Of fewer owners the intervals themselves are uncertain.
FEW_OWNERS: Final = 30


def predictor_name(key: str) -> str:
    """Return a predictor's name for people."""
    return PREDICTORS.get(key, (key, ""))[0]


def best_blind(judged: dict[str, Any]) -> str | None:
    """Return which predictor without pixels is right most often, None where none is known."""
    blind = judged.get("without_pixels", {})
    return max(blind, key=lambda name: blind[name]) if blind else None


def interval(judged: dict[str, Any], key: str) -> list[float] | None:
    """Return a metric's interval by its key, where there is one."""
    found: list[float] | None = judged.get("intervals", {}).get(key)
    return found


def warnings(judged: dict[str, Any]) -> list[str]:
    """Return what a reader of a run's metrics must know, in sentences, the gravest first."""
    found: list[str] = []
    best = best_blind(judged)
    if best is not None and "accuracy" in judged:
        found += filter(None, [_against_blind(judged, best)])
    shared = judged.get("shared_owners", {"photos": 0})
    if shared["photos"]:
        found.append(
            f"The split leaks: {shared['photos']:,} of {judged['n']:,} judged photos belong to"
            f" {shared['owners']:,} owners whose other photos the network was trained on, so it"
            " looks better than it is on new owners; a data set with --split owner does not leak."
        )
    unknown = judged.get("without_owner", {"judged": 0, "training": 0})
    if any(unknown.values()):
        found.append(
            f"The owners of {unknown['judged']:,} of {judged['n']:,} judged photos and of"
            f" {unknown['training']:,} training photos are unknown: photos of one owner may stand"
            " on both sides of the split, so the network may look better than it is on new owners,"
            " and the intervals may be too narrow."
        )
    if judged.get("owners", FEW_OWNERS) < FEW_OWNERS:
        photos = f"{judged['n']:,} photos of {judged['owners']:,} owners"
        found.append(f"Judged on {photos}: so few tell little, and the intervals are rough.")
    return found


def _against_blind(judged: dict[str, Any], best: str) -> str | None:
    accuracy, blind = judged["accuracy"], judged["without_pixels"][best]
    name, bounds = predictor_name(best), interval(judged, "lead")
    if accuracy <= blind:
        as_good = "is no better than" if accuracy == blind else "is worse than"
        return (
            f"The network {as_good} “{name}”, a predictor that sees no pixel ({accuracy:.3f}"
            f" against {blind:.3f}): it has learnt nothing from pixels that shows here."
        )
    if bounds is not None and bounds[0] <= 0:
        return (
            f"The network's lead over “{name}”, a predictor that sees no pixel, may be luck: drawn"
            f" again by owner it lies between {bounds[0]:+.3f} and {bounds[1]:+.3f}."
        )
    return None
