"""Data sets and runs: made, trained, stopped, shown, compared, loaded."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from popq.bootstrap import Rooms, open_rooms, torch_stage
from popq.catalogue import (
    datasets,
    queries,
    runs,
)
from popq.catalogue.states import RunState
from popq.errors import BadInput, PopqError
from popq.stages import dataset
from popq.stages.dataset import Spec

if TYPE_CHECKING:
    from popq.learn.scorer import Scorer
from popq.api.progress import FOLLOW_S, OnProgress


def newest_dataset(rooms: Rooms, name: str | None) -> str:
    """Return the name of the data set asked for, or of the newest; `BadInput` without one."""
    with rooms.catalogue.read() as tx:
        if name is not None:
            return str(datasets.get(tx, name).name)
        found = datasets.list_all(tx)
    if not found:
        raise BadInput("There is no data set yet; `popq dataset create NAME` makes one.")
    return str(found[-1].name)


def make_dataset(rooms: Rooms, spec: Spec) -> dict[str, Any]:
    """Freeze a data set, or return the one of that name if it was asked to be the same."""
    there = _frozen(rooms, spec)
    if there is None:
        return dataset.create(rooms.catalogue, spec)
    with rooms.catalogue.read() as tx:
        new, relabelled = datasets.drift(tx, there.id)
    if there.fit == "rank" and new < there.tiers:
        new = 0  # so few are what ranks of equal size leave over, and would again
    described = dataset.describe(rooms.catalogue, spec.name)
    if new or relabelled:
        described["warnings"].append(
            f"it is frozen as it was made: {new} stored photos are not in it, and {relabelled} of"
            " its photos have another label now; give another --name for a set of all of them"
        )
    return described


def _frozen(rooms: Rooms, spec: Spec) -> Any | None:
    """Return the data set of that name, None without one; `BadInput` if it was asked otherwise."""
    with rooms.catalogue.read() as tx:
        there = datasets.find(tx, spec.name)
    if there is None:
        return None
    asked = (spec.tiers, spec.fit, spec.split, spec.val, spec.test, spec.seed)
    made = (there.tiers, there.fit, there.split_rule, there.val, there.test, there.seed)
    if asked != made or (spec.cuts and list(spec.cuts) != there.cuts):
        message = f"The data set {spec.name!r} is frozen with other tiers or another split"
        raise BadInput(f"{message}; give another name.")
    return there


def check_learning(rooms: Rooms, spec: Spec, preset: str, options: dict[str, Any]) -> None:
    """Raise what making this data set and training on it here would raise, whatever is stored.

    Before days of downloads, that is. ImageNet's weights are fetched if they are wanted.
    """
    dataset.check(spec)
    _frozen(rooms, spec)
    plan, device = torch_stage("plan"), rooms.settings.device
    plan.check(rooms.catalogue, spec.name, spec.tiers, preset, device=device, **options)


def scored_run(rooms: Rooms, run_id: int | None) -> int:
    """Return the run to score with; as `newest_run`, and `BadInput` without a photo to score."""
    run_id = newest_run(rooms, run_id)
    with rooms.catalogue.read() as tx:
        if not queries.any_stored(tx):
            raise BadInput("No photo is stored, so there is none to score; `popq download` first.")
    return run_id


def newest_run(rooms: Rooms, run_id: int | None) -> int:
    """Return the run asked for, or the newest that is done; `BadInput` for one without weights."""
    with rooms.catalogue.read() as tx:
        if run_id is None:
            run_id = queries.newest_run(tx)
            if run_id is None:
                raise BadInput("No run is done yet; `popq train` makes one.")
        else:
            row = runs.get(tx, run_id)
            if row.state != "done":
                message = f"Run {run_id} is {row.state}: it has no weights to score with"
                raise BadInput(f"{message}. `popq runs {run_id}` says where it stands.")
    return run_id


def leads(rooms: Rooms) -> bool:
    """Return whether this process speaks for all that a launcher started; alone it does."""
    several = torch_stage("train").team(rooms.settings.device)
    return several is None or bool(several.leads)


def load_model(source: int | str | Path) -> Scorer:
    """Return a trained network ready to score pictures: of a run, or of an exported folder.

        scorer = api.load_model(3)                       # run 3 of this catalogue, or "exported/"
        for said in scorer.score(["a.jpg", Image.open("b.png")]):
            print(said.score, said.tier, said.probabilities)

    A picture is a path or a PIL image of any size from 64x64 pixels up and any mode; they are
    batched inside. `score` is in the labels' unit, `tier` counts from 1, `probabilities` has one
    float for each tier. Settings say where the catalogue is and on which device (`POPQ_DEVICE`).
    Raises `BadInput` for a run without weights, other weights than it recorded, or no such folder.
    """
    with open_rooms() as rooms:
        return rooms.scorer(source if isinstance(source, int) else Path(source))


def new_run(
    rooms: Rooms,
    dataset_name: str,
    preset: str,
    options: dict[str, Any],
    tracker: str | None = None,
) -> int:
    """Make a queued run, or take up an unfinished one of the same data set and configuration.

    `tracker` is told of its epochs beside the catalogue. Raises `BadInput` for what it cannot do,
    such as a file of weights that is not there.
    """
    plan = torch_stage("plan")

    def create() -> int:
        return int(
            plan.create_run(rooms.catalogue, dataset_name, preset, tracker=tracker, **options)
        )

    return int(torch_stage("train").agreed(rooms.settings.device, create))


def train(
    rooms: Rooms, run: int, *, on_progress: OnProgress, stop: threading.Event | None = None
) -> dict[str, Any]:
    """Train a run here and now and return it; waits while another worker's lease holds it.

    Setting `stop` ends it after its next batch: it is stopped then, and goes on from there when it
    is asked for again. Raises what ended the run otherwise; its row says so too.
    """
    stage, where = torch_stage("train"), rooms.trainer_place()
    stop = stop or threading.Event()
    while True:
        try:
            stage.train(rooms.catalogue, run, where, stop=stop, on_progress=on_progress)
        except stage.Stopped:
            # Handed back for any worker; but a person who stops it does not want it trained.
            with contextlib.suppress(BadInput):
                stop_run(rooms, run)
            raise
        found = show_run(rooms, run)
        if found["state"] == "done":
            return found
        if found["state"] in {"failed", "stopped"}:
            raise PopqError(f"Run {run} {found['state']}: {found['message']}")
        on_progress(f"waiting for the lease of {found['worker']}", 0, 0)
        if stop.wait(1.0):
            raise stage.Stopped(f"run {run} was only waited for; {found['worker']} goes on with it")


def stop_run(rooms: Rooms, run: int) -> RunState:
    """Stop a run that waits, or ask the worker of one that is trained; return its state.

    Raises `BadInput` for a run that is unknown or over.
    """
    with rooms.catalogue.begin() as tx:
        return runs.ask_to_stop(tx, run)


def follow_run(
    rooms: Rooms, run: int, *, on_look: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Show `on_look` the run every half second until it is over, training nothing; return it."""
    never = threading.Event()
    while True:
        found = show_run(rooms, run)
        on_look(found)
        if found["state"] not in {RunState.QUEUED, RunState.RUNNING}:
            return found
        never.wait(FOLLOW_S)


def show_run(rooms: Rooms, run: int) -> dict[str, Any]:
    """Return a run with its configuration, metrics and epochs; `BadInput` when unknown."""
    with rooms.catalogue.read() as tx:
        row = runs.get(tx, run)
        return queries.rows_of([row])[0] | {"epochs": runs.epochs(tx, run)}


def compare_runs(rooms: Rooms, first: int, second: int) -> dict[str, Any]:
    """Return two runs side by side on the same validation photos; see `stages.compare`."""
    from popq.stages.compare import compare  # noqa: PLC0415 - loads scikit-learn

    return compare(rooms.catalogue, first, second)
