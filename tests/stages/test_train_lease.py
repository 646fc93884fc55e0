"""A trainer that lost its run without knowing writes no checkpoint over the new holder's."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from houses import stored_house
from processes import Processes, end

from popq import api
from popq.stages import train

WISH = {"arch": "resnet18", "weights": "none", "image_size": 32, "epochs": 2, "batch_size": 8}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    with stored_house(tmp_path_factory.mktemp("house"), photos=24, owners=8) as home:
        yield home


def kept(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


@pytest.mark.parametrize(
    ("seed", "objective", "ready"),
    [
        # Before `last` is written in the middle of an epoch.
        (1, "classify", lambda phase, done, total, best: phase == "epoch 2" and done < total / 2),
        # Before `best` is written, and `last` after it.
        (2, "classify", lambda phase, done, total, best: phase == "epoch 1" and done == total),
        # Before a ranking's cuts are written into `best`.
        (3, "rank", lambda phase, done, total, best: done == total and best),
    ],
)
def test_whoever_has_lost_the_run_writes_no_checkpoint(stored, seed, objective, ready):
    wish = WISH | {"seed": seed, "objective": objective}
    if objective == "rank":
        wish |= {"epochs": 1, "pairs": "any"}
    run = api.new_run(stored.rooms, "main", "default", wish)
    place = replace(stored.rooms.trainer_place(), save_every_s=0.0)
    before = {}

    def taken_over(phase, done, total):
        # The last that happens before a checkpoint: no heartbeat has told of it yet.
        folder = place.runs / f"run-{run}"
        best = (folder / "best.safetensors").exists()
        if not before and ready(phase, done, total, best):
            with stored.rooms.catalogue.begin() as tx:
                others = "worker = 'other', term = term + 1, leased_until = 99999999999"
                tx.exec_driver_sql(f"UPDATE runs SET {others} WHERE id = {run}")
            before.update(kept(folder), taken=True)

    stop = threading.Event()
    assert not train.train(stored.rooms.catalogue, run, place, stop=stop, on_progress=taken_over)
    assert before.pop("taken")
    assert kept(place.runs / f"run-{run}") == before
    assert list((place.runs / f"run-{run}").glob("*.tmp")) == []
    holds = stored.sql(f"SELECT state, worker FROM runs WHERE id = {run}")
    assert holds == [("running", "other")]


def test_of_several_processes_all_end_when_the_run_is_lost(stored, tmp_path):
    """The others are in the middle of a step, and would wait there for the first."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    options = [f"--{name.replace('_', '-')}={value}" for name, value in WISH.items()]
    train_on = ["-m", "popq", "train", "--dataset=main", *options, "--epochs=100000", "--seed=9"]
    with Processes(tmp_path, {}) as processes, (tmp_path / "train.log").open("w") as log:
        given = os.environ | stored.settings()
        launched = subprocess.Popen([*launch, *train_on], env=given, stdout=log, stderr=log)
        try:
            begun = "SELECT 1 FROM epochs JOIN runs ON runs.id = run_id WHERE seed = 9"
            processes.wait_until(lambda: stored.sql(begun))
            with stored.rooms.catalogue.begin() as tx:
                others = "worker = 'other', term = term + 1, leased_until = 99999999999"
                tx.exec_driver_sql(f"UPDATE runs SET {others} WHERE seed = 9")
            processes.wait_until(lambda: launched.poll() is not None)
        finally:
            end(launched)
    assert launched.returncode == 1
    assert stored.sql("SELECT state, worker FROM runs WHERE seed = 9") == [("running", "other")]
