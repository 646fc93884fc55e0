"""The report's plots, as SVG in data: URIs. The same numbers give the same bytes.

All have one size, so that they stand side by side on a screen and below each other on a phone.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, StrMethodFormatter

from popq.catalogue.losses import Year

INK, MUTED, RULE = "#1f2933", "#5c6b7a", "#d9e2ec"
ACCENT, SOFT = "#1f6f8b", "#93bfce"
#: Inches, of 72 points each: on the narrowest telephone a point is still a pixel.
SIZE: Final = (4.8, 3.0)
#: Bars of the histogram.
BINS: Final = 48
#: With more cuts than this their values would cover each other; the table has them.
NAMED_CUTS: Final = 4
#: With more years than this only every other, every third and so on has its name.
MOST_YEARS: Final = 9
#: Losses further apart than this need a logarithmic axis: an early epoch can be off by hundreds.
STEEP: Final = 20

_PERCENT: Final = FuncFormatter(lambda share, _: f"{100 * share:.3g} %")
_STYLE: Final[dict[Any, Any]] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on each machine
    "font.size": 10,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "text.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "svg.hashsalt": "popq",
}


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture as a data: URI, and in words what it shows."""

    source: str
    alt: str


def histogram(rows: Sequence[Any], cuts: Sequence[float]) -> Plot:
    """Plot how many photos have which label; `rows` are (label, photos), `cuts` are drawn in."""
    labels, photos = np.array(rows, dtype=np.float64).T
    edges = np.linspace(labels.min(), labels.max(), BINS + 1)
    if np.diff(edges).min() <= 0:  # labels so near to each other that floats have no room between
        edges = np.array([labels.min() - 0.5, labels.max() + 0.5])
    heights, edges = np.histogram(labels, bins=edges, weights=photos)

    def draw(axes: Axes) -> None:
        axes.bar(edges[:-1], heights, width=np.diff(edges), align="edge", color=SOFT, linewidth=0)
        axes.set_ylim(0, heights.max() * 1.14)  # room for the cuts' values
        for cut in cuts:
            axes.axvline(cut, color=ACCENT, linewidth=1.4, linestyle=(0, (4, 2)))
            if len(cuts) <= NAMED_CUTS:
                top = axes.get_ylim()[1]
                axes.text(cut, top, f" {cut:.4g}", color=ACCENT, va="top", ha="left")
        axes.set_xlabel("label")
        axes.set_ylabel("photos")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))

    peak = int(heights.argmax())
    where = ", ".join(f"{cut:.4g}" for cut in cuts)
    alt = (
        f"Histogram of {int(photos.sum()):,} labels from {labels.min():.4g} to {labels.max():.4g}."
        f" Most, {heights[peak]:,.0f}, lie between {edges[peak]:.4g} and {edges[peak + 1]:.4g}."
        f" Tiers are cut at {where}."
    )
    return Plot(_svg(draw), alt)


def losses(years: Sequence[Year]) -> Plot:
    """Plot the share of settled photos that was lost, by year; the unknown year stands apart."""
    known = [one for one in years if one.year is not None]
    places = [float(one.year or 0) for one in known]
    first, last = int(min(places)), int(max(places))
    ticks: dict[float, str] = {
        year: str(year) for year in range(last, first - 1, -(1 + (last - first) // MOST_YEARS))
    }
    if len(known) < len(years):
        places.append(last + 1.5)
        ticks[last + 1.5] = "unknown"
    gone = [one.gone / one.settled for one in years]
    rejected = [one.left / one.settled - share for one, share in zip(years, gone, strict=True)]

    def draw(axes: Axes) -> None:
        axes.bar(places, gone, width=0.7, color=ACCENT, label="gone")
        axes.bar(places, rejected, bottom=gone, width=0.7, color=SOFT, label="rejected")
        axes.set_xticks(list(ticks), list(ticks.values()))
        axes.set_xlabel("year of upload")
        axes.set_ylabel("share lost")
        axes.yaxis.set_major_formatter(_PERCENT)
        axes.margins(y=0.25)  # room for the legend
        axes.legend(loc="upper right", ncols=2)

    shares = ((one.left / one.settled, one.year or "an unknown year") for one in years)
    told = ", ".join(f"{share:.1%} of {year}" for share, year in shares)
    return Plot(_svg(draw), f"Share of the photos of each year of upload that was lost: {told}.")


def curve(
    epochs: Sequence[dict[str, Any]], what: str, best: int | None, unit: str = "nats"
) -> Plot:
    """Plot `what` ("loss" or "accuracy") of training and validation, with the best epoch marked.

    `unit` is that of a loss.
    """
    numbers = [epoch["epoch"] for epoch in epochs]
    train, val = ([epoch[f"{side}_{what}"] for epoch in epochs] for side in ("train", "val"))
    marks = "o" if len(epochs) == 1 else ""

    def draw(axes: Axes) -> None:
        axes.plot(numbers, train, color=MUTED, label="training", marker=marks)
        axes.plot(numbers, val, color=ACCENT, label="validation", marker=marks)
        if best is not None and best in numbers:
            axes.axvline(best, color=RULE, linewidth=1, zorder=0)
            axes.plot([best], [val[numbers.index(best)]], "o", color=ACCENT, label="best epoch")
        axes.set_xlabel("epoch")
        axes.set_ylabel(f"{what}, {unit}" if what == "loss" else what)
        if what == "loss" and max(*train, *val) > STEEP * min(*train, *val) > 0:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if what == "accuracy":
            axes.yaxis.set_major_formatter(_PERCENT)
        axes.legend()

    alt = (
        f"{what.capitalize()} by epoch: training goes from {train[0]:.3f} to {train[-1]:.3f},"
        f" validation from {val[0]:.3f} to {val[-1]:.3f}"
    )
    at = f"; {val[numbers.index(best)]:.3f} at the best epoch, {best}." if best in numbers else "."
    return Plot(_svg(draw), alt + at)


def calibration(bins: Sequence[dict[str, float]]) -> Plot:
    """Plot how often predictions are right by how sure they are; see `metrics.calibration`."""
    sure, right = ([one[key] for one in bins] for key in ("confidence", "accuracy"))
    most = max(one["photos"] for one in bins)
    areas = [12 + 150 * one["photos"] / most for one in bins]

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 2)), label="as sure")
        axes.plot(sure, right, color=ACCENT, label="the network")
        axes.scatter(sure, right, s=areas, color=ACCENT, zorder=3, clip_on=False)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_xlabel("probability of the likeliest tier")
        axes.set_ylabel("share right")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(_PERCENT)
        axes.legend(loc="upper left")

    alt = (
        f"Calibration: predictions that are {sure[0]:.0%} sure are right {right[0]:.0%} of the"
        f" time, those that are {sure[-1]:.0%} sure {right[-1]:.0%}."
    )
    return Plot(_svg(draw), alt)


def against_truth(parts: Sequence[dict[str, float]], *, unit: bool) -> Plot:
    """Plot scores by label; see `metrics.by_label`. `unit`: scores are in the label's unit."""
    names = ("label", "low", "median", "high")
    label, low, median, high = ([one[name] for one in parts] for name in names)

    def draw(axes: Axes) -> None:
        if unit:
            ends = [min(label), max(label)]
            axes.plot(ends, ends, color=MUTED, linewidth=1, linestyle=(0, (4, 2)), label="perfect")
        axes.fill_between(label, low, high, color=SOFT, alpha=0.6, label="four of five photos")
        axes.plot(label, median, color=ACCENT, marker="o", markersize=4, label="the median photo")
        axes.set_xlabel("label")
        axes.set_ylabel("score")
        axes.legend(loc="upper left")

    alt = (
        f"Scores by label: the median score is {median[0]:.4g} where the label is about"
        f" {label[0]:.4g}, and {median[-1]:.4g} where it is about {label[-1]:.4g}."
    )
    return Plot(_svg(draw), alt)


def _svg(draw: Any) -> str:
    """Return what `draw` puts on empty axes, as a data: URI."""
    out = io.BytesIO()
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=SIZE, layout="constrained")
        draw(figure.subplots())
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(out.getvalue()).decode("ascii")
