"""A house with a trained run, made once for all tests of what comes out of one."""

from __future__ import annotations

from contextlib import contextmanager

from houses import house, quiet, small_world

from popq import api
from popq.stages.dataset import Spec

TINY = {"arch": "resnet18", "weights": "none", "image_size": 32, "epochs": 1}


@contextmanager
def scored_house(folder):
    """Open a house whose 30 photos are stored and scored by run 1, on the data set main."""
    with house(folder, small_world(30, owners=10)) as home:
        api.import_list(home.rooms, home.list_files(folder))
        for stage in ("resolve", "download"):
            api.work(home.rooms, stage, on_progress=quiet)
        api.make_dataset(home.rooms, Spec("main", val=0.3))
        run = api.new_run(home.rooms, "main", "default", TINY)
        api.train(home.rooms, run, on_progress=quiet)
        api.work(home.rooms, "score", on_progress=quiet)
        yield home
