"""`popq demo`: the whole chain on generated photos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from popq.cli import show


@click.command()
@click.option(
    "--photos",
    type=click.IntRange(1, 100_000),
    default=640,
    show_default=True,
    help="How many are generated.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Another seed, other photos.",
)
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Where all goes.")
@show.json_option
def demo_command(photos: int, seed: int, keep: Path | None, as_json: bool) -> None:
    """Run the whole chain on generated photos: no key, no server, no network needed.

    Starts a Flickr-compatible server with photos whose popularity is a known function of what is
    in the picture, plus noise; some are removed, private, a video or broken, and the server
    throttles and fails now and then. Then imports, resolves, downloads, cuts a data set, trains a
    small network, scores and writes the report, each with the command that you would use.
    """
    from popq.demo import demo  # noqa: PLC0415 - rendering loads scipy

    summary = demo(photos, seed, keep, show.note)
    if as_json:
        show.data(summary)
    else:
        _print(summary)
    if summary["broken"]:
        for claim in summary["broken"]:
            show.note(f"did not hold: {claim}")
        raise SystemExit(1)


def _print(summary: dict[str, Any]) -> None:
    click.echo("\nPhotos by state and reason")
    for state, count in summary["photos"].items():
        click.echo(f"  {state:<12}{count:>6}")
    for reason, count in summary["reasons"].items():
        click.echo(f"    as {reason:<12}{count:>3}")
    tiers = ", ".join(f"{tier}: {count}" for tier, count in summary["tiers"].items())
    cuts = " and ".join(f"{cut:g}" for cut in summary["cuts"])
    click.echo(f"Tiers, cut at scores {cuts}: {tiers}")
    click.echo("Accuracy on photos of owners that the network never saw")
    shown = {"network": summary["accuracy"], **summary["without_pixels"]}
    shown["best possible"] = summary["best_possible"]
    for name, accuracy in shown.items():
        click.echo(f"  {name:<14}{accuracy:.3f}  {'#' * round(accuracy * 50)}")
    click.echo(f"{summary['scored']} photos scored. The catalogue: {summary['catalogue']}")
    click.echo(f"The report, for a browser: {summary['report']}")
    click.echo("Try, with sqlite3 or any SQL client:")
    for query in summary["sql"]:
        click.echo(f"  {query};")
