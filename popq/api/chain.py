"""All of it in one go: from a list to scored photos."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from popq.api.catalogue import import_list, init
from popq.api.learning import check_learning, make_dataset, new_run, train
from popq.api.progress import OnProgress
from popq.api.work import work
from popq.bootstrap import Rooms, torch_stage
from popq.catalogue import (
    queries,
    scores,
)
from popq.stages import ingest
from popq.stages.dataset import Spec


def run_all(
    rooms: Rooms,
    source: ingest.Source,
    spec: Spec,
    preset: str,
    options: dict[str, Any],
    *,
    via: str | None = None,
    on_progress: OnProgress,
) -> dict[str, Any]:
    """Go from a list to scored photos in one go; started again, it goes on where it was.

    Each step is the one its own command takes. Returns what each came to. What is asked of the
    later ones is checked before the first.
    """
    summary: dict[str, Any] = {"catalogue": init(rooms)["catalogue"]}
    check_learning(rooms, spec, preset, options)
    report = import_list(rooms, source, on_progress=on_progress)
    summary["import"] = asdict(report)
    left = 0
    for stage in ("resolve", "download"):
        way = via if stage == "resolve" else None
        done = work(rooms, stage, via=way, on_progress=on_progress)
        left += done.left if done else 0
    on_progress("data set", 0, 0)
    described = make_dataset(rooms, spec)
    summary["dataset"] = described
    same = torch_stage("plan").find_done(rooms.catalogue, spec.name, preset, **options)
    run = new_run(rooms, spec.name, preset, options) if same is None else int(same)
    summary["run"] = train(rooms, run, on_progress=on_progress)
    done = work(rooms, "score", run_id=run, on_progress=on_progress)
    left += done.left if done else 0
    with rooms.catalogue.read() as tx:
        summary["photos"] = queries.photos_by_state(tx)
        summary["reasons"] = queries.reasons(tx)
        summary["scored"] = scores.count(tx, run)
    summary["left"] = left
    return summary
