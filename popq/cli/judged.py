"""How good runs are, for a terminal: a line a run, all of one run's numbers, two side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import click

from popq import api
from popq.bootstrap import open_rooms
from popq.cli import show
from popq.cli.progress import progress
from popq.stats import figures
from popq.stats.figures import METRICS, Metric

#: Widest text of a cell where a line must keep to 80 columns.
_NAME: Final = 18
#: Characters left for the message of a run that has no metrics.
_MESSAGE: Final = 37
#: Characters left for each of two settings.
_SETTING: Final = 24


def table(rows: Sequence[dict[str, Any]]) -> None:
    """Print a line a run in 80 columns: what it scored, or its message where it has no metrics."""
    if not rows:
        click.echo("No run yet; `popq train --dataset NAME` makes one.")
        return
    head = f"{'id':>4}  {'dataset':<{_NAME}} {'state':<8} {'best':>4}"
    click.echo(f"{head} {'right':>7} {'blind':>7} {'kappa':>7} {'rho':>7} {'pairs':>7}".rstrip())
    for row in rows:
        name = _cut(row["dataset"], _NAME)
        best = "-" if row["best_epoch"] is None else row["best_epoch"]
        line = f"{row['id']:>4}  {name:<{_NAME}} {row['state']:<8} {best:>4} "
        click.echo((line + _key_metrics(row)).rstrip())
    click.echo(
        "right: share put into the right tier; blind: by the best that sees no pixel;\n"
        "kappa: weighted; rho: Spearman's; pairs: share of pairs that it orders rightly."
    )


def _key_metrics(row: dict[str, Any]) -> str:
    metrics = row["metrics"]
    if not metrics:
        return _cut(" ".join((row["message"] or "").split()), _MESSAGE)
    blind = figures.best_blind(metrics)
    values = (
        metrics.get("accuracy"),
        None if blind is None else metrics["without_pixels"][blind],
        *(metrics.get(key) for key in ("quadratic_kappa", "spearman", "pairwise_accuracy")),
    )
    return " ".join(f"{'-' if value is None else f'{value:.3f}':>7}" for value in values)


def judged(metrics: dict[str, Any]) -> None:
    """Print all of a run's metrics with intervals, predictors without pixels, and warnings."""
    owners = f" of {metrics['owners']:,} owners" if "owners" in metrics else ""
    click.echo(
        f"Accuracy on {metrics['n']:,} unseen photos{owners}: {metrics['accuracy']:.3f}"
        f" (chance {metrics['chance']:.3f}, p = {metrics['p_chance']:.2g})"
    )
    if metrics.get("intervals"):
        click.echo(f"  {'':<22}{'':>7}  95 % of resamples by owner")
    for metric in METRICS:
        if metric.key in metrics:
            _line(metric.name, metrics[metric.key], figures.interval(metrics, metric.key))
    click.echo("Predictors that see no pixel, by accuracy")
    blind = metrics["without_pixels"]
    for key in sorted(blind, key=lambda name: -blind[name]):
        bounds = figures.interval(metrics, f"without_pixels.{key}")
        wins = "  <- as good" if blind[key] >= metrics["accuracy"] else ""
        _line(figures.predictor_name(key), blind[key], bounds, wins)
    if "lead" in metrics:
        _line("The model's lead", metrics["lead"], figures.interval(metrics, "lead"))
        better = metrics["p_without_pixels"]
        click.echo(f"  One no better would lead as much with p = {better:.2g} (exact, paired).")
    for warning in figures.warnings(metrics):
        show.warn(f"{warning}")


def _line(name: str, value: float | None, bounds: list[float] | None, after: str = "") -> None:
    shown = "-" if value is None else f"{value:.3f}"
    interval = "" if bounds is None else f"  {bounds[0]:.3f} to {bounds[1]:.3f}"
    click.echo(f"  {name:<22}{shown:>7}{interval}{after}".rstrip())


@click.command("compare")
@click.argument("first", type=show.NUMBER, metavar="A")
@click.argument("second", type=show.NUMBER, metavar="B")
@show.json_option
def compare_command(first: int, second: int, as_json: bool) -> None:
    """Compare runs A and B on the validation photos that both were judged on.

    Each difference is B less A, with the interval in which 95 % of resamples by owner lie; both
    are judged on the same resamples. Where the interval has no 0 in it, the better one is named.
    """
    with open_rooms() as rooms, progress("Comparing"):
        found = api.compare_runs(rooms, first, second)
    if as_json:
        show.data(found)
        return
    for note in found["notes"]:
        show.note(note)
    click.echo(f"{found['photos']:,} validation photos of {found['owners']:,} owners")
    names = [f"run {found[side]['run']}" for side in ("first", "second")]
    click.echo(
        f"  {'':<20}{names[0]:>9}{names[1]:>9}{'B - A':>9}  {'95 % by owner':<18}  better".rstrip()
    )
    for metric in METRICS:
        if metric.key in found["metrics"]:
            click.echo(_compared(metric, found["metrics"][metric.key], names))
    if not found["config"]:
        click.echo("Both were asked to do the same.")
        return
    click.echo("Asked differently")
    for key, (a, b) in found["config"].items():
        cells = [_cut("-" if value is None else str(value), _SETTING) for value in (a, b)]
        click.echo(f"  {_cut(key, 20):<20}{cells[0]:>{_SETTING}}  {cells[1]:>{_SETTING}}")


def _compared(metric: Metric, one: dict[str, Any], names: list[str]) -> str:
    values = [one["first"], one["second"]]
    cells = ["-" if value is None else f"{value:.3f}" for value in values]
    difference = "-" if one["difference"] is None else f"{one['difference']:+.3f}"
    bounds = one["interval"]
    interval = "-" if bounds is None else f"{bounds[0]:+.3f} to {bounds[1]:+.3f}"
    better = {"first": names[0], "second": names[1], None: ""}[one["better"]]
    line = f"  {metric.name:<20}{cells[0]:>9}{cells[1]:>9}{difference:>9}  {interval:<18}  {better}"
    return line.rstrip()


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
