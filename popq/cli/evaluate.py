"""`popq evaluate`: how well scores agree with the labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from popq.bootstrap import open_rooms
from popq.cli import show
from popq.cli.progress import progress


@click.command()
@click.argument("run", type=show.NUMBER)
@click.option(
    "--scores",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A submission: JSON of the SMP challenge, or CSV of post_id and popularity_score.",
)
@show.json_option
def evaluate_command(run: int, file: Path | None, as_json: bool) -> None:
    """Judge scores by the labels of RUN's data set: Spearman's rho (SRC) and MAE.

    The scores are RUN's own, or those of a submission. The first line is over the photos that RUN
    has not trained on.
    """
    from popq.stages import evaluate  # noqa: PLC0415 - loads scipy and scikit-learn

    with open_rooms() as rooms, progress("Judging"):
        found = evaluate.evaluate(rooms.catalogue, run, file)
    if as_json:
        show.data(found)
        return
    rows: list[dict[str, Any]] = [{"photos": "unseen", **found}]
    rows += [{"photos": split, **judged} for split, judged in found["by_split"].items()]
    for row in rows:
        row["src"] = row["spearman"]
    show.table(rows, ("photos", "n", "src", "mae"), "")
    if found["missing"]:
        show.note(f"{found['missing']:,} unseen photos of {found['dataset']} have no score.")
    if found["unknown"]:
        show.note(f"{found['unknown']:,} scores are of no photo of {found['dataset']}.")
