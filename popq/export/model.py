"""A run's network as a folder that can be used without the catalogue; see `learn.exported`."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any, Final

from popq.bootstrap import Rooms, torch_stage
from popq.images.whole import whole_folder
from popq.stages import revision
from popq.stages.dataset import describe

#: What whoever gets the model must know of the photos that it was made from.
LICENCES: Final = """\
Trained on photos of Flickr users. Their licences are in the data set's manifest (`popq export
manifest`); none of the photos is part of this folder.
Flickr's API is for non-commercial use unless the key says otherwise, and its terms forbid data
mining except where expressly permitted.
The Social Media Prediction data set is for research only.
A start from ImageNet's weights adds ImageNet's terms: non-commercial research."""


def save(rooms: Rooms, run_id: int, target: Path, *, onnx: bool) -> dict[str, Any]:
    """Write a run's best network with its card, and as ONNX if asked; return what was written.

    Raises `BadInput` for a run without weights, or other weights than it recorded, and
    `Misconfigured` where ONNX is asked for and not installed.
    """
    stage = torch_stage("predict")
    from popq.learn import exported  # noqa: PLC0415 - loads torch

    if onnx:
        exported.check_onnx()
    found = stage.open_run(rooms.catalogue, rooms.settings.data_dir / "runs", run_id)
    model, card, run, dataset = found
    with whole_folder(target) as scratch:
        about = _about(run, dataset, describe(rooms.catalogue, dataset.name)["count"])
        exported.write(scratch, model, card, about)
        furthest = None
        if onnx:
            furthest = exported.write_onnx(scratch, model, card)
        files = {path.name: path.stat().st_size for path in sorted(scratch.iterdir())}
    return {"export": str(target), "run": run_id, "files": files, "onnx_differs_by": furthest}


def _about(run: Any, dataset: Any, photos: int) -> dict[str, Any]:
    return {
        "run": run.id,
        "exported_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "code": revision.of_code(),
        "tiers": dataset.tiers,
        "cuts": dataset.cuts,
        "tie_rule": dataset.tie_rule,
        "dataset": {
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            "photos": photos,
            "split": dataset.split_rule,
            "seed": dataset.seed,
        },
        "metrics": run.metrics,
        "versions": run.versions,
        "licences": LICENCES,
    }
