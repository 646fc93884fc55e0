"""`popq export`: models, scores, manifests and folders of images, for other programs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import click

from popq.api import newest_dataset, newest_run
from popq.bootstrap import open_rooms
from popq.cli import show
from popq.cli.progress import progress
from popq.export import card, copy, model, photos, scores, tables

_run_option: Final = click.option(
    "--run", type=show.NUMBER, help="The run; default: the newest done."
)
_dataset_option: Final = click.option("--dataset", help="The data set; default: the newest.")
_file_option: Final = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    required=True,
    help="The file; - writes to stdout.",
)
_folder_argument: Final = click.argument("folder", type=click.Path(path_type=Path, file_okay=False))


@click.group()
def export_command() -> None:
    """Write models, scores, manifests, images or the catalogue for other programs.

    What is written is there whole or not at all.
    """


@export_command.command("model")
@_folder_argument
@_run_option
@click.option("--onnx", is_flag=True, help="An ONNX graph, too, checked against the network.")
@show.json_option
def export_model_command(folder: Path, run: int | None, onnx: bool, as_json: bool) -> None:
    """Write a run's network to FOLDER: safetensors, a JSON card, with --onnx a graph.

    The card has preprocessing, tiers, cuts, metrics and licence notes. `popq predict FOLDER` and
    `popq.api.load_model` take it where there is no catalogue.
    """
    with open_rooms() as rooms, progress("Exporting"):
        made = model.save(rooms, newest_run(rooms, run), folder, onnx=onnx)
    if as_json:
        show.data(made)
        return
    click.echo(f"Run {made['run']} is in {folder}: {', '.join(made['files'])}.")
    if onnx:
        click.echo(f"ONNX gives the same scores to {made['onnx_differs_by']:.1g} of their size.")


@export_command.command("scores")
@_file_option
@_run_option
@click.option(
    "kind",
    "--format",
    type=click.Choice(scores.KINDS),
    help="smp: the challenge's submission JSON. Default: by the file's ending.",
)
@click.option("--split", type=click.Choice(["train", "val", "test"]), help="Only this split.")
@show.json_option
def export_scores_command(
    output: Path, run: int | None, kind: str | None, split: str | None, as_json: bool
) -> None:
    """Write a run's scores, with each photo's link, owner, label, tier and split.

    Cells of a CSV are as the catalogue has them: a spreadsheet should import them as text.
    """
    kind = _kind(output, kind, scores.KINDS, as_json)
    with open_rooms() as rooms, progress("Exporting"):
        run = newest_run(rooms, run)
        if str(output) == "-":
            scores.write(rooms.catalogue, run, sys.stdout, kind, split=split)
            return
        written = scores.save(rooms.catalogue, run, output, kind, split=split)
    _say(as_json, {"export": str(output), "run": run, "scores": written}, "scores")


@export_command.command("manifest")
@_file_option
@_dataset_option
@click.option(
    "kind", "--format", type=click.Choice(photos.MANIFEST_KINDS), help="Default: by the ending."
)
@show.json_option
def export_manifest_command(
    output: Path, dataset: str | None, kind: str | None, as_json: bool
) -> None:
    """Write what a data set is made of: ids, links, owners, licences, labels, tiers, splits.

    Never an image: whoever gets it fetches them from Flickr. `imagefolder` has the images.
    """
    kind = _kind(output, kind, photos.MANIFEST_KINDS, as_json)
    with open_rooms() as rooms, progress("Exporting"):
        dataset = newest_dataset(rooms, dataset)
        if str(output) == "-":
            photos.write_manifest(rooms.catalogue, dataset, sys.stdout, kind)
            return
        written = photos.save_manifest(rooms.catalogue, dataset, output, kind)
    _say(as_json, {"export": str(output), "dataset": dataset, "photos": written}, "photos")


@export_command.command("imagefolder")
@_folder_argument
@_dataset_option
@click.option("--copy", "as_copy", is_flag=True, help="Copies, not links into the store.")
@show.json_option
def export_imagefolder_command(
    folder: Path, dataset: str | None, as_copy: bool, as_json: bool
) -> None:
    """Write a data set's images to FOLDER/SPLIT/TIER/, with a metadata.csv for each split.

    As torchvision's ImageFolder and Hugging Face's imagefolder read them. Never hand the images on.
    """
    with open_rooms() as rooms, progress("Exporting"):
        dataset = newest_dataset(rooms, dataset)
        made = photos.save_folders(rooms.catalogue, rooms.store, dataset, folder, copy=as_copy)
    _say(as_json, {"export": str(folder), "dataset": dataset, **made}, "photos")
    if made["missing"]:
        lost = ", ".join(map(str, made["missing"][:5]))
        show.note(f"{len(made['missing']):,} have no file in the store, so are left out: {lost}")
        raise SystemExit(1)


@export_command.command("card")
@_file_option
@_dataset_option
@show.json_option
def export_card_command(output: Path, dataset: str | None, as_json: bool) -> None:
    """Write a data set's card: source, dates, licences, losses by reason, splits, versions.

    Markdown with the head that Hugging Face's hub reads (README.md there). It names no photo.
    """
    to_stdout = str(output) == "-"
    if to_stdout and as_json:
        raise click.UsageError("Either the card goes to stdout (-o -) or a summary (--json).")
    with open_rooms() as rooms, progress("Exporting"):
        dataset = newest_dataset(rooms, dataset)
        if to_stdout:
            click.echo(card.make(rooms.catalogue, dataset), nl=False)
            return
        written = card.save(rooms.catalogue, dataset, output)
    if as_json:
        show.data({"export": str(output), "dataset": dataset, "bytes": written})
    else:
        click.echo(f"The card of {dataset} is in {output}.")


@export_command.command("catalogue")
@_file_option
@show.json_option
def export_catalogue_command(output: Path, as_json: bool) -> None:
    """Write a copy of the catalogue as one SQLite file, whatever database it is in.

    For `popq browse`, or to send to somebody. It holds all that is known of each photo.
    """
    if str(output) == "-":
        raise click.UsageError("A database cannot go to stdout; name a file.")
    with open_rooms() as rooms, progress("Exporting"):
        made = copy.save(rooms.catalogue, output)
    _say(as_json, {"export": str(output), "rows": made}, "rows")


def _kind(output: Path, kind: str | None, kinds: tuple[str, ...], as_json: bool) -> str:
    if str(output) != "-":
        return kind or tables.kind_of(output, kinds)
    if as_json:
        raise click.UsageError("Either the data goes to stdout (-o -) or a summary (--json).")
    if kind == "parquet":
        raise click.UsageError("Parquet cannot go to stdout; name a file.")
    return kind or "csv"


def _say(as_json: bool, made: dict[str, Any], what: str) -> None:
    if as_json:
        show.data(made)
    else:
        click.echo(f"{made[what]:,} {what} are in {made['export']}.")
