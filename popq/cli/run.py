"""`popq run`: from a list to scored photos in one go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from popq import api
from popq.bootstrap import open_rooms
from popq.cli import show
from popq.cli.dataset import spec, split_options
from popq.cli.judged import judged
from popq.cli.lists import note_report, source_options
from popq.cli.progress import progress
from popq.cli.runs import split_preset, train_options
from popq.cli.work import via_option
from popq.stages.ingest import Source


@click.command()
@click.option(
    "--links",
    type=click.Path(exists=True, path_type=Path, allow_dash=True),
    required=True,
    help="One photo link a line, or a table; see `popq import`.",
)
@source_options
@click.option("--name", default="main", show_default=True, help="The data set's name.")
@split_options
@train_options
@via_option
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("popq-report.html"),
    show_default=True,
    help="The report's file.",
)
@show.json_option
def run_command(
    links: Path, name: str, report: Path, via: str | None, as_json: bool, **options: Any
) -> None:
    """Import, resolve, download, cut a data set, train, score and report, in one go.

    Each step is the one that its own command takes. Started again after a kill, it goes on where
    it was; started again when all is done, it changes nothing.
    """
    listed = ("labels", "url_col", "label_col", "images_dir", "metadata")
    source = Source(links, **{key: options.pop(key) for key in listed})
    wanted = spec(name, options)
    if not report.absolute().parent.is_dir():  # not to be found out after hours of training
        raise click.UsageError(f"--report {report}: there is no folder {report.absolute().parent}.")
    preset, given = split_preset(options)
    with open_rooms() as rooms, progress("Going on") as ticker:
        given["seed"] = wanted.seed
        summary = api.run_all(rooms, source, wanted, preset, given, via=via, on_progress=ticker)
        ticker("report", 0, 0)
        from popq.report import page  # noqa: PLC0415 - loads matplotlib

        run = summary["run"]["id"]
        summary["report"] = page.write(rooms.catalogue, rooms.store, run, report)["report"]
    if as_json:
        show.data(summary)
    else:
        _print(summary)
    if summary["left"]:
        raise SystemExit(1)


def _print(summary: dict[str, Any]) -> None:
    note_report(summary["import"])
    for warning in summary["dataset"]["warnings"]:
        show.warn(f"{warning}")
    states = ", ".join(f"{count:,} {state}" for state, count in summary["photos"].items() if count)
    click.echo(f"Photos: {states}.")
    tiers = ", ".join(f"{count:,}" for count in summary["dataset"]["photos_by_tier"].values())
    click.echo(f"Tiers of {summary['dataset']['dataset']}: {tiers} photos.")
    judged(summary["run"]["metrics"])
    click.echo(f"{summary['scored']:,} photos scored by run {summary['run']['id']}.")
    click.echo(f"Report: {summary['report']}.")
    click.echo(f"Catalogue: {summary['catalogue']}; its view scored_photos has all of them.")
    if summary["left"]:
        show.note(f"{summary['left']:,} left after all tries; `popq failures` says why.")
