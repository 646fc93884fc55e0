"""A house with a trained run, made once for all tests of what comes out of one."""

from __future__ import annotations

from contextlib import contextmanager

from houses import quiet, stored_house

from popq import api

TINY = {"arch": "resnet18", "weights": "none", "image_size": 32, "epochs": 1}


@contextmanager
def scored_house(folder):
    """Open a house whose 30 photos are stored and scored by run 1, on the data set main."""
    with stored_house(folder, 30, owners=10) as home:
        run = api.new_run(home.rooms, "main", "default", TINY)
        api.train(home.rooms, run, on_progress=quiet)
        api.work(home.rooms, "score", on_progress=quiet)
        yield home
