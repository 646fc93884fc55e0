"""A run's metrics as the page shows them: the matrix, the predictors beside it, the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from popq.stats import figures
from popq.stats.figures import METRICS, PREDICTORS, Metric


@dataclass(frozen=True, slots=True)
class Predictor:
    """One line beside the model: its key, name, what it does, and the share it gets right."""

    key: str
    name: str
    what: str
    accuracy: float
    interval: list[float] | None = None
    own: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """How many photos of a true tier were put into a tier, and as a share of the true tier."""

    count: int
    share: float | None

    @property
    def style(self) -> str:
        """The cell's shade, for the page's style: the stronger, the larger the share."""
        return f"--share: {self.share or 0.0:.3f}"


def matrix(metrics: dict[str, Any]) -> list[list[Cell]]:
    """Return the confusion matrix, a row a true tier, with each row's shares."""
    rows = metrics.get("confusion", [])
    return [[Cell(count, count / sum(row) if sum(row) else None) for count in row] for row in rows]


def predictors(metrics: dict[str, Any]) -> list[Predictor]:
    """Return the model first, then those that saw no pixel, the best first, and chance."""
    if "accuracy" not in metrics:
        return []
    accuracy, bounds = metrics["accuracy"], figures.interval(metrics, "accuracy")
    own = Predictor("accuracy", "The network", "sees the pixels", accuracy, bounds, own=True)
    others = []
    for key, accuracy in metrics.get("without_pixels", {}).items():
        name, what = PREDICTORS.get(key, (key, ""))
        bounds = figures.interval(metrics, f"without_pixels.{key}")
        others.append(Predictor(f"without_pixels.{key}", name, what, accuracy, bounds))
    if "chance" in metrics:
        others.append(Predictor("chance", "Chance", "guesses blindly", metrics["chance"]))
    return [own, *sorted(others, key=lambda one: -one.accuracy)]


@dataclass(frozen=True, slots=True)
class Measured:
    """A metric of a run: what it is, its value (None where undefined), and its interval."""

    metric: Metric
    value: float | None
    interval: list[float] | None


def measured(metrics: dict[str, Any]) -> list[Measured]:
    """Return the metrics that the run has, in the order in which they are read."""
    return [
        Measured(metric, metrics[metric.key], figures.interval(metrics, metric.key))
        for metric in METRICS
        if metric.key in metrics
    ]


def best_without_pixels(metrics: dict[str, Any]) -> Predictor | None:
    """Return the predictor without pixels that is right most often."""
    lines = predictors(metrics)
    return next((one for one in lines if one.key.startswith("without_pixels.")), None)


def verdict(metrics: dict[str, Any]) -> str:
    """Return in one sentence whether the network has learnt anything from pixels."""
    best = best_without_pixels(metrics)
    if best is None:
        return ""
    accuracy, lead = metrics["accuracy"], figures.interval(metrics, "lead")
    if accuracy > best.accuracy:
        if lead is not None and lead[0] <= 0:
            return (
                "On photos it never trained on, the network is right more often than “"
                f"{best.name}”, a predictor that sees no pixel, but by no more than luck may give."
            )
        return "On photos it never trained on, the network beats every predictor without pixels."
    as_good = "is no better than" if accuracy == best.accuracy else "is worse than"
    return (
        f"On photos it never trained on, the network {as_good} “{best.name}”, a predictor that"
        " sees no pixel: it has learnt nothing from pixels that shows here."
    )
