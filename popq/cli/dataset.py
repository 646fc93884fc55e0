"""`popq dataset create`, `list` and `show`: frozen sets of photos with tiers and splits."""

from __future__ import annotations

from typing import Any

import click

from popq.bootstrap import open_rooms
from popq.catalogue import datasets, queries
from popq.cli import show
from popq.stages import dataset
from popq.stages.dataset import Spec


@click.group()
def dataset_command() -> None:
    """Cut stored photos into popularity tiers and splits; list and show the results."""


def split_options(command: Any) -> Any:
    """Add the options that say how a data set is cut."""
    for option in (
        click.option("--tiers", default=3, show_default=True, type=click.IntRange(min=2)),
        click.option(
            "--split",
            type=click.Choice(["owner", "photo", "time"]),
            default="owner",
            show_default=True,
            help="What decides a photo's side; owner keeps all photos of a person on one side.",
        ),
        click.option("--val", default=0.2, show_default=True, help="Share for validation."),
        click.option("--test", default=0.0, show_default=True, help="Share for a final test."),
        click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0)),
    ):
        command = option(command)
    return command


@dataset_command.command("create")
@click.argument("name")
@split_options
@show.json_option
def create(as_json: bool, **options: Any) -> None:
    """Freeze all stored, labelled photos under NAME.

    Tiers are cut at scores fitted on the training split (equal scores share a tier), and the
    channel mean and deviation are those of the training split. Later imports change neither.
    """
    with open_rooms() as rooms:
        made = dataset.create(rooms.catalogue, Spec(**options))
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
    columns = ("name", "count", "tiers", "cuts", "split_rule", "created_at")
    show.table(rows, columns, "No data set yet; `popq dataset create NAME` makes one.")


@dataset_command.command("show")
@click.argument("name")
@show.json_option
def show_(name: str, as_json: bool) -> None:
    """Show a data set: its cuts, splits, channel statistics and warnings."""
    with open_rooms() as rooms:
        found = dataset.describe(rooms.catalogue, name)
    _print(found, as_json)


def _print(found: dict[str, Any], as_json: bool) -> None:
    for warning in found["warnings"]:
        show.note(f"warning: {warning}")
    if as_json:
        show.data(found)
        return
    cuts = ", ".join(f"{cut:g}" for cut in found["cuts"])
    sizes = ", ".join(f"{name} {count:,}" for name, count in found["splits"].items())
    click.echo(f"{found['dataset']}: {found['count']:,} photos; {sizes}")
    click.echo(f"  {found['tiers']} tiers, cut at {cuts}: {found['photos_by_tier']}")
    for name in ("mean", "std"):
        click.echo(f"  {name:<4} " + " ".join(f"{value:.4f}" for value in found[name]))
