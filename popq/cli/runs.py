"""`popq train` and `popq runs`: training runs, made, worked and looked at."""

from __future__ import annotations

from typing import Any

import click

from popq import api
from popq.bootstrap import open_rooms
from popq.catalogue import queries, runs
from popq.cli import show


def train_options(command: Any) -> Any:
    """Add the options that say how a run is trained; what is left out follows the preset."""
    for option in (
        click.option("--arch", type=click.Choice(["resnet50", "resnet18"])),
        click.option(
            "--objective",
            type=click.Choice(["classify", "rank", "regress"]),
            help="Learn tiers (as the preset does), the order of pairs, or the label itself.",
        ),
        click.option(
            "--pairs",
            type=click.Choice(["owner", "any"]),
            help="For rank: pairs of one owner's photos, posted within days (as if left out), or"
            " of anybody's.",
        ),
        click.option("--epochs", type=click.IntRange(min=1)),
        click.option("--weights", help="imagenet, none, or the path of a file of weights."),
        click.option("--image-size", type=int, help="Pixels on a side, at most 256."),
        click.option(
            "--preset",
            type=click.Choice(["default", "seed"]),
            default="default",
            show_default=True,
            help="seed: batch 16, rate 0.01, momentum 0.5, as in the report of 2021.",
        ),
    ):
        command = option(command)
    return command


def split_preset(options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the preset and the options that were given."""
    preset = options.pop("preset")
    return preset, {name: value for name, value in options.items() if value is not None}


@click.command()
@click.option("--dataset", required=True, help="The data set to train on.")
@train_options
@click.option("--seed", type=click.IntRange(min=0), help="Of weights and augmentation.")
@click.option("--enqueue", is_flag=True, help="Leave it to a worker of the gpu queue.")
@show.json_option
def train_command(dataset: str, enqueue: bool, as_json: bool, **options: Any) -> None:
    """Train a network on a data set to tell how popular a photo is from its pixels.

    Builds the pack (the decoded photos) once, then trains with a checkpoint an epoch. Started
    again with the same options, an unfinished run goes on from its last epoch.
    """
    preset, given = split_preset(options)
    ticker = show.Ticker()
    with open_rooms() as rooms:
        run = api.new_run(rooms, dataset, preset, given)
        if enqueue:
            from popq import tasks  # noqa: PLC0415 - Celery, only where bells are rung

            tasks.ring_run(rooms, run)
            found = api.show_run(rooms, run)
        else:
            try:
                found = api.train(rooms, run, on_progress=ticker)
            finally:
                ticker.close()
    if as_json:
        show.data(found)
    elif enqueue:
        click.echo(f"Run {run} is queued; a worker of the gpu queue trains it.")
    else:
        _print(found)


@click.command()
@click.argument("run", type=click.IntRange(1, show.BIGGEST), required=False)
@show.json_option
def runs_command(run: int | None, as_json: bool) -> None:
    """List training runs, newest first, or show RUN with its epochs and metrics."""
    with open_rooms() as rooms:
        if run is not None:
            found = api.show_run(rooms, run)
        else:
            with rooms.catalogue.read() as tx:
                rows = queries.rows_of(runs.list_all(tx))
    if run is None:
        if as_json:
            show.data(rows)
            return
        for row in rows:
            row["accuracy"] = row["metrics"].get("accuracy")
        columns = ("id", "dataset", "state", "best_epoch", "accuracy", "created_at", "message")
        show.table(rows, columns, "No run yet; `popq train --dataset NAME` makes one.")
    elif as_json:
        show.data(found)
    else:
        _print(found)


def _print(run: dict[str, Any]) -> None:
    config = run["config"]
    what = f"{config['arch']} at {config['image_size']} px on {run['dataset']}"
    if config["objective"] != "classify":
        what += f", to {config['objective']}"
    click.echo(f"Run {run['id']} ({what}): {run['state']}")
    if run["message"]:
        click.echo(f"  {run['message']}")
    columns = ("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy")
    if run["epochs"]:
        show.table(run["epochs"], (*columns, "images_per_second"), "")
        if config["objective"] == "rank":
            click.echo("An epoch's accuracy is of pairs put in order, what follows is of tiers.")
    if run["metrics"]:
        judged(run["metrics"])


def judged(metrics: dict[str, Any]) -> None:
    """Print a run's accuracy beside the predictors that saw no pixel."""
    click.echo(
        f"Accuracy on {metrics['n']:,} unseen photos: {metrics['accuracy']:.3f}"
        f" (chance {metrics['chance']:.3f}, p = {metrics['p_chance']:.2g})"
    )
    for name, accuracy in metrics["without_pixels"].items():
        wins = "  <- no pixel seen, and as good" if accuracy >= metrics["accuracy"] else ""
        click.echo(f"  {name:<14} {accuracy:.3f}{wins}")
