"""`popq dataset create`, `list` and `show`: frozen sets of photos with tiers and splits."""

from __future__ import annotations

from typing import Any

import click

from popq.bootstrap import open_rooms
from popq.catalogue import datasets, queries
from popq.cli import show
from popq.cli.progress import progress
from popq.stages import dataset
from popq.stages.dataset import Spec

#: Where the cuts come from, in words.
FITS = {
    "train": "fitted on the training split",
    "all": "fitted on all photos",
    "given": "as given",
    "rank": "by rank",
}


@click.group()
def dataset_command() -> None:
    """Cut stored photos into popularity tiers and splits; list and show the results."""


def split_options(command: Any) -> Any:
    """Add the options that say how a data set is cut; `spec` reads them."""
    for option in (
        click.option(
            "--tiers",
            type=click.IntRange(min=2),
            help="How many tiers of about equal size.  [default: 3]",
        ),
        click.option(
            "--fit",
            type=click.Choice(["train", "all"]),
            help="Fit the cuts on the training split's scores, or on all.  [default: train]",
        ),
        click.option("--cuts", help="Cut at these scores instead: --cuts 5.21,7.33"),
        click.option(
            "--split",
            type=click.Choice(["owner", "photo", "time"]),
            default="owner",
            show_default=True,
            help="What decides a photo's side; owner keeps all photos of a person on one side."
            " Copies of a picture always stay together.",
        ),
        click.option("--val", default=0.2, show_default=True, help="Share for validation."),
        click.option("--test", default=0.0, show_default=True, help="Share for a final test."),
        click.option("--seed", default=0, show_default=True, type=click.IntRange(0, show.BIGGEST)),
    ):
        command = option(command)
    return command


def spec(name: str, options: dict[str, Any]) -> Spec:
    """Take the options of `split_options` out of `options` and return what they ask for."""
    asked = {
        key: options.pop(key) for key in ("tiers", "fit", "cuts", "split", "val", "test", "seed")
    }
    tiers, fit, cuts = (asked.pop(key) for key in ("tiers", "fit", "cuts"))
    if cuts is None:
        return Spec(name, tiers=tiers or 3, fit=fit or "train", **asked)
    if tiers is not None or fit is not None:
        raise click.UsageError("--cuts says where the tiers begin: leave out --tiers and --fit.")
    try:
        given = tuple(float(cut) for cut in cuts.split(","))
    except ValueError:
        raise click.UsageError(f"--cuts {cuts!r}: give scores, as in --cuts 5.21,7.33") from None
    return Spec(name, tiers=len(given) + 1, fit="given", cuts=given, **asked)


@dataset_command.command("create")
@click.argument("name")
@split_options
@click.option(
    "--preset",
    type=click.Choice(["seed"]),
    help="As the seed of 2021 did it: thirds by rank of all photos, split photo by photo.",
)
@show.json_option
def create(name: str, preset: str | None, as_json: bool, **options: Any) -> None:
    """Freeze all stored, labelled photos under NAME.

    Tiers are cut at scores fitted on the training split (equal scores share a tier), and the
    channel mean and deviation are those of the training split. Later imports change neither.
    """
    if preset is not None:
        source = click.get_current_context().get_parameter_source
        for key in ("tiers", "fit", "cuts", "split"):
            if source(key) is not click.core.ParameterSource.DEFAULT:
                raise click.UsageError(f"--preset {preset} says what --{key} is: leave it out.")
        kept = {key: options[key] for key in ("val", "test", "seed")}
        wanted = Spec(name, fit="rank", split="photo", **kept)
    else:
        wanted = spec(name, options)
    with open_rooms() as rooms, progress("Making the data set"):
        made = dataset.create(rooms.catalogue, wanted)
    _print(made, as_json)


@dataset_command.command("list")
@show.json_option
def list_(as_json: bool) -> None:
    """List the data sets."""
    with open_rooms() as rooms, rooms.catalogue.read() as tx:
        rows = queries.rows_of(datasets.list_all(tx))
    if as_json:
        show.data(rows)
        return
    columns = ("name", "count", "tiers", "split_rule", "created_at", "cuts")
    show.table(rows, columns, "No data set yet; `popq dataset create NAME` makes one.")


@dataset_command.command("show")
@click.argument("name")
@show.json_option
def show_(name: str, as_json: bool) -> None:
    """Show a data set: its cuts, splits, channel statistics and warnings."""
    with open_rooms() as rooms, progress("Counting"):
        found = dataset.describe(rooms.catalogue, name)
    _print(found, as_json)


def _print(found: dict[str, Any], as_json: bool) -> None:
    for warning in found["warnings"]:
        show.warn(f"{warning}")
    if as_json:
        show.data(found)
        return
    cuts = ", ".join(f"{cut:g}" for cut in found["cuts"])
    sizes = ", ".join(f"{name} {count:,}" for name, count in found["splits"].items())
    click.echo(f"{found['dataset']}: {found['count']:,} photos; {sizes}")
    click.echo(f"  {found['tiers']} tiers, cut at {cuts} ({FITS[found['fit']]}):")
    tiers = ", ".join(f"{count:,}" for count in found["photos_by_tier"].values())
    ties = ", ".join(f"{count:,}" for count in found["ties"])
    click.echo(f"  {tiers} photos; labels equal to a cut: {ties}")
    crossing = ", ".join(f"{count} {name}" for name, count in found["crossing"].items())
    click.echo(f"  split by {found['split_rule']}; on several sides: {crossing}")
    for name in ("mean", "std"):
        click.echo(f"  {name:<4} " + " ".join(f"{value:.4f}" for value in found[name]))
