"""The report: one HTML page about a run and its data set that asks nobody for anything.

Every number from the catalogue carries its name in `data-q` and its exact value in `data-v`.
"""

from __future__ import annotations

import datetime as dt
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

import popq
from popq.catalogue import datasets, losses, queries, runs, summaries
from popq.catalogue.db import Catalogue, Tx
from popq.catalogue.losses import Losses
from popq.catalogue.states import RunState
from popq.catalogue.summaries import Order
from popq.errors import BadInput
from popq.images.store import Store
from popq.images.whole import whole_file
from popq.report import judged, photos, plots, text
from popq.stages import dataset as dataset_stage
from popq.stats import figures
from popq.stats.figures import in_labels_unit

STATES: Final = {
    "listed": "imported; its image address is not known yet",
    "resolved": "its image address is known; the image is not here yet",
    "stored": "its image is here, checked and measured",
    "gone": "Flickr does not show it any more",
    "rejected": "it is there, and no photo that can be learnt from",
}
#: What each reason to leave says of a photo.
REASONS: Final = {
    "not_found": "Flickr knows no such photo",
    "private": "its owner shows it to nobody",
    "gone": "it has a page, and its image is not there",
    "placeholder": "a stand-in came instead of its image",
    "video": "a video",
    "corrupt": "its file holds no whole picture",
    "too_small": "too few pixels",
    "too_large": "more pixels or bytes than popq decodes",
    "kills_worker": "workers died of it",
}
GROUPS: Final = {
    Order.HIGHEST: "Highest scores",
    Order.LOWEST: "Lowest scores",
    Order.FURTHEST: "Of the rest, furthest off",
    Order.MISPLACED: "Of the rest, farthest from their tier",
}
#: Where the cuts come from.
FITS: Final = {
    "train": "the training split",
    "all": "all labels",
    "given": "whoever made the set",
    "rank": "ranks, ties notwithstanding",
}
#: What may stand on several sides of the split, and so leaks; see `dataset.describe`.
CROSSING: Final = {
    "owners": "owners on several sides",
    "duplicates": "pictures on several sides",
    "neighbours": "photos with a close neighbour in training",
}
#: Units of the losses that are not in nats; see `learn.objectives`.
LOSS_UNITS: Final = {"regress": "Huber, label deviations"}
SPLITS: Final = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True, slots=True)
class Page:
    """A whole page in UTF-8, and the run and data set that it tells of, if there are any."""

    html: bytes
    run: int | None
    dataset: str | None


@dataclass(slots=True)
class _Found:
    """What the catalogue says, read in one transaction."""

    counts: dict[str, int]
    exits: Sequence[Any]
    losses: Losses
    #: Rows of the run and of the data set, which are the run's or the newest.
    run: Any = None
    dataset: Any = None
    labels: Sequence[Any] = ()
    tiers: Sequence[Any] = ()
    epochs: list[dict[str, Any]] = field(default_factory=list)
    unseen: dict[str, int] = field(default_factory=dict)
    groups: dict[Order, Sequence[Any]] = field(default_factory=dict)


def write(
    catalogue: Catalogue,
    store: Store,
    run_id: int | None,
    target: Path,
    against: int | None = None,
) -> dict[str, Any]:
    """Write the page of a run to a file, whole or not at all; see `make` for which run.

    Returns {report: its path, bytes, run, dataset}. Raises what `make` and `whole_file` raise.
    """
    page = make(catalogue, store, run_id, against)
    with whole_file(target) as scratch:
        scratch.write_bytes(page.html)
    facts = {"bytes": len(page.html), "run": page.run, "dataset": page.dataset}
    return {"report": str(target), **facts}


def make(
    catalogue: Catalogue, store: Store, run_id: int | None, against: int | None = None
) -> Page:
    """Return the page of a run, by default of the newest one that is done.

    `against` is another run to set beside it. Where no run is done the page has what there is, and
    the commands that make the rest. Raises `BadInput` for a run that is unknown or not done or
    cannot be compared, and what opening the catalogue raises.
    """
    found = _read(catalogue, run_id)
    if against is not None and found.run is None:
        raise BadInput(f"No run is done yet that run {against} could be compared with.")
    template = _environment().get_template("page.html.j2")
    html = template.render(
        made=dt.datetime.now(dt.UTC),
        version=popq.__version__,
        catalogue=str(catalogue),
        states=STATES,
        splits=SPLITS,
        crossing=CROSSING,
        counts=found.counts,
        exits=found.exits,
        reasons=REASONS,
        lost=_lost(found.losses),
        data=_data(catalogue, found),
        run=_run(found),
        compared=None if against is None else _compared(catalogue, against, found.run.id),
        photos=_photos(found, store),
        unseen=found.unseen,
        most=photos.MOST,
    )
    # A path on a disk may hold bytes that are no text.
    page = html.encode("utf-8", "replace")
    name = None if found.dataset is None else str(found.dataset.name)
    return Page(page, None if found.run is None else int(found.run.id), name)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["n"] = text.number
    environment.filters["shell"] = shlex.quote
    return environment


def _read(catalogue: Catalogue, run_id: int | None) -> _Found:
    with catalogue.read() as tx:
        run = _done_run(tx, run_id)
        name = summaries.newest_dataset(tx) if run is None else run.dataset
        found = _Found(queries.photos_by_state(tx), summaries.exits(tx), losses.by_year(tx))
        if name is not None:
            found.dataset = datasets.get(tx, name)
            found.labels = summaries.labels(tx, found.dataset.id)
            found.tiers = summaries.tiers(tx, found.dataset.id)
        if run is not None:
            found.run = run
            found.epochs = runs.epochs(tx, run.id)
            found.unseen = summaries.unseen(tx, run.id, run.dataset_id)
            found.groups = photos.pick(tx, run.id, run.dataset_id, unit=in_labels_unit(run.config))
    return found


def _done_run(tx: Tx, run_id: int | None) -> Any | None:
    if run_id is None:
        run_id = queries.newest_run(tx)
        return None if run_id is None else runs.get(tx, run_id)
    run = runs.get(tx, run_id)
    if run.state != RunState.DONE:
        message = f"Run {run_id} is {run.state}: there are no results to report"
        raise BadInput(f"{message}. `popq runs {run_id}` says where it stands.")
    return run


def _lost(found: Losses) -> dict[str, Any] | None:
    """Return what the page says of losses by year; None where no year is known or none is lost."""
    unknown = sum(year.settled for year in found.years if year.year is None)
    if not found.reasons or all(year.year is None for year in found.years):
        return None
    return {
        "years": found.years,
        "reasons": found.reasons,
        "estimated": sum(year.estimated for year in found.years),
        "unknown": unknown,
        "asked": found.asked,
        "right": found.right / found.asked if found.asked else None,
        "plot": plots.losses(found.years),
    }


def _data(catalogue: Catalogue, found: _Found) -> dict[str, Any] | None:
    """Return what the page says of the data set."""
    row = found.dataset
    if row is None:
        return None
    described = dataset_stage.describe(catalogue, row.name)
    tiers = [_tier(number, found.tiers) for number in range(1, row.tiers + 1)]
    return {
        **described,
        "fit": FITS.get(row.fit, row.fit),
        "salt": row.salt,
        "created_at": row.created_at,
        "by_tier": tiers,
        "labels": len(found.labels),
        "histogram": plots.histogram(found.labels, row.cuts) if found.labels else None,
    }


def _tier(number: int, rows: Sequence[Any]) -> dict[str, Any]:
    own = [row for row in rows if row.tier == number]
    sizes = {row.split: row.photos for row in own}
    return {
        "tier": number,
        "lowest": min((row.lowest for row in own), default=None),
        "highest": max((row.highest for row in own), default=None),
        "photos": sum(sizes.values()),
        "splits": {split: sizes.get(split, 0) for split in SPLITS},
    }


def _run(found: _Found) -> dict[str, Any] | None:
    """Return what the page says of the run."""
    row = found.run
    if row is None:
        return None
    objective = row.config.get("objective", "classify")  # as of before there were objectives
    unit = LOSS_UNITS.get(objective, "nats")
    curves = []
    if found.epochs:
        curves = [
            plots.curve(found.epochs, what, row.best_epoch, unit) for what in ("loss", "accuracy")
        ]
    metrics = row.metrics
    bins, parts = metrics.get("calibration"), metrics.get("by_label")
    return {
        "row": row,
        "objective": objective,
        "unit": in_labels_unit(row.config),
        "metrics": metrics,
        "measured": judged.measured(metrics),
        "lead": figures.interval(metrics, "lead"),
        "warnings": figures.warnings(metrics),
        "epochs": found.epochs,
        "curves": curves,
        "against_truth": plots.against_truth(parts, unit="mae" in metrics) if parts else None,
        "calibration": plots.calibration(bins) if bins else None,
        "matrix": judged.matrix(metrics),
        "predictors": judged.predictors(metrics),
        "best": judged.best_without_pixels(metrics),
        "verdict": judged.verdict(metrics),
    }


def _compared(catalogue: Catalogue, first: int, second: int) -> dict[str, Any]:
    """Return what the page says of two runs side by side."""
    from popq.stages.compare import compare  # noqa: PLC0415 - loads scikit-learn

    found = compare(catalogue, first, second)
    lines = [(metric, found["metrics"].get(metric.key)) for metric in figures.METRICS]
    return {**found, "lines": [(metric, one) for metric, one in lines if one is not None]}


def _photos(found: _Found, store: Store) -> list[tuple[str, list[photos.Shown]]]:
    """Return the groups of photos that are not empty, each with its heading."""
    return [
        (GROUPS[order], [photos.show(row, store) for row in rows])
        for order, rows in found.groups.items()
        if rows
    ]
