"""`popq train` and `popq runs`: training runs, made, worked and looked at."""

from __future__ import annotations

import threading
from typing import Any

import click

from popq import api, stopping
from popq.bootstrap import Rooms, open_rooms
from popq.catalogue import queries, runs
from popq.cli import judged, show
from popq.cli.live import Live
from popq.cli.progress import progress
from popq.cli.voice import LINE


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
        click.option("--batch-size", type=click.IntRange(min=2), help="Photos a step."),
        click.option("--lr", type=float, help="The highest rate of the schedule."),
        click.option("--schedule", type=click.Choice(["onecycle", "cosine", "constant"])),
        click.option("--label-smoothing", type=float, help="Share spread over all tiers."),
        click.option("--clip-norm", type=float, help="Longest gradient followed; 0: any."),
        click.option("--ema", type=float, help="What a mean of the weights keeps; 0: no mean."),
        click.option("--patience", type=int, help="End after so many epochs without a better."),
        click.option("--backbone-rate", type=float, help="Share of the rate below the head."),
        click.option(
            "--freeze/--no-freeze",
            default=None,
            help="Train the head alone, on features computed once: for machines without a GPU.",
        ),
        click.option(
            "--compile",
            type=click.Choice(["auto", "on", "off"]),
            help="torch.compile; auto: on a GPU, for long runs.",
        ),
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
@click.option("--seed", type=click.IntRange(0, show.BIGGEST), help="Of weights and augmentation.")
@click.option("--device", help="auto, cpu, cuda or cuda:N; as POPQ_DEVICE, for this run.")
@click.option(
    "--tracker",
    type=click.Choice(["tensorboard", "wandb", "mlflow", "trackio"]),
    help="Tell another tracker of each epoch too.",
)
@click.option("--follow", is_flag=True, help="Show a live table; with --enqueue, until it is over.")
@click.option("--enqueue", is_flag=True, help="Leave it to a worker of the gpu queue.")
@show.json_option
def train_command(
    dataset: str,
    device: str | None,
    tracker: str | None,
    follow: bool,
    enqueue: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a network on a data set to tell how popular a photo is from its pixels.

    Builds the pack (the decoded photos) once, then trains, with a checkpoint an epoch and every
    ten minutes (POPQ_CHECKPOINT_EVERY_S). Ctrl-C stops it after its next batch; started again with
    the same options, an unfinished run goes on from where it was.

    Several GPUs or machines: `accelerate launch -m popq train --dataset NAME`; they share each
    batch.
    """
    if enqueue and device is not None:
        raise click.UsageError("--device is for training here; a worker's is its POPQ_DEVICE.")
    preset, given = split_preset(options)
    with open_rooms() as rooms:
        if device is not None:
            rooms.settings = rooms.settings.model_copy(update={"device": device})
        with progress("Preparing to train"):  # which loads torch
            run = api.new_run(rooms, dataset, preset, given, tracker)
        if enqueue:
            from popq import tasks  # noqa: PLC0415 - Celery, only where bells are rung

            tasks.ring_run(rooms, run)
            found = _followed(rooms, run) if follow else api.show_run(rooms, run)
        else:
            found = _train(rooms, run, follow)
            if not api.leads(rooms):
                return
    if as_json:
        show.data(found)
    elif enqueue and not follow:
        click.echo(f"Run {run} is queued; a worker of the gpu queue trains it.")
    else:
        _print(found)
    if found["state"] in {"failed", "stopped"}:
        raise SystemExit(1)


def _train(rooms: Rooms, run: int, follow: bool) -> dict[str, Any]:
    """Train the run here; a first Ctrl-C stops it gently."""
    stop = threading.Event()

    def ask() -> None:
        show.note("Stopping after this batch; once more to end at once.")
        stop.set()

    with stopping.asked(ask):
        if not follow:
            with progress("Training") as ticker:
                return api.train(rooms, run, on_progress=ticker, stop=stop)
        view = Live()

        def look(phase: str, done: int, total: int) -> None:
            del phase, done, total
            if view.due():
                view(api.show_run(rooms, run))

        try:
            found = api.train(rooms, run, on_progress=look, stop=stop)
            view(found)
        finally:
            LINE.keep()
        return found


def _followed(rooms: Rooms, run: int) -> dict[str, Any]:
    """Show the run until it is over."""
    try:
        return api.follow_run(rooms, run, on_look=Live())
    except KeyboardInterrupt:
        show.note(f"No longer followed; the run goes on. `popq runs stop {run}` stops it.")
        raise
    finally:
        LINE.keep()


_id_argument = click.argument("run", type=show.NUMBER, metavar="ID")


@click.group(
    cls=show.OrNumber, invoke_without_command=True, subcommand_metavar="[ID | COMMAND ID] [OPTIONS]"
)
@show.json_option
@click.pass_context
def runs_command(ctx: click.Context, as_json: bool) -> None:
    """List training runs, newest first, with their key metrics; show, stop or compare them."""
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
@click.option("--follow", is_flag=True, help="Show a live table until the run is over.")
@show.json_option
def _show(run: int, follow: bool, as_json: bool) -> None:
    """Show run ID with its epochs and metrics."""
    with open_rooms() as rooms:
        found = _followed(rooms, run) if follow else api.show_run(rooms, run)
    if as_json:
        show.data(found)
    else:
        _print(found)


@runs_command.command("stop")
@_id_argument
@show.json_option
def _stop(run: int, as_json: bool) -> None:
    """Stop run ID: at once if it waits, else after its next batch, keeping its checkpoint."""
    with open_rooms() as rooms:
        state = api.stop_run(rooms, run)
    if as_json:
        show.data({"run": run, "state": state})
    elif state == "stopped":
        click.echo(f"Run {run} is stopped; train it again and it goes on.")
    else:
        click.echo(f"Run {run} stops after its next batch, within a second or so.")


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
