"""`popq train` and `popq runs`: training runs, made, worked and looked at."""

from __future__ import annotations

from typing import Any

import click

from popq import api
from popq.bootstrap import open_rooms
from popq.catalogue import queries, runs
from popq.cli import judged, show


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


_id_argument = click.argument("run", type=click.IntRange(1, show.BIGGEST), metavar="ID")


@click.group(
    cls=show.OrNumber, invoke_without_command=True, subcommand_metavar="[ID | COMMAND ID] [OPTIONS]"
)
@show.json_option
@click.pass_context
def runs_command(ctx: click.Context, as_json: bool) -> None:
    """List training runs, newest first, with their key metrics; show one, or compare two."""
    if ctx.invoked_subcommand is not None:
        if as_json:
            ctx.default_map = {name: {"as_json": True} for name in runs_command.commands}
        return
    with open_rooms() as rooms, rooms.catalogue.read() as tx:
        rows = queries.rows_of(runs.list_all(tx))
    if as_json:
        show.data(rows)
    else:
        judged.table(rows)


@runs_command.command("show")
@_id_argument
@show.json_option
def _show(run: int, as_json: bool) -> None:
    """Show run ID with its epochs and metrics."""
    with open_rooms() as rooms:
        found = api.show_run(rooms, run)
    if as_json:
        show.data(found)
    else:
        _print(found)


runs_command.add_command(judged.compare_command)


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
        judged.judged(run["metrics"])
