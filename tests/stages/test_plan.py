"""A run asked for: which file its weights are, and whether it is one that was asked for before."""

from __future__ import annotations

import json

import pytest
import torch
from houses import quiet, stored_house

from popq import api
from popq.errors import BadInput
from popq.learn.model import build
from popq.stages import plan

SMALL = {"arch": "resnet18", "image_size": 32, "epochs": 1}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    with stored_house(tmp_path_factory.mktemp("house"), 30, owners=10) as home:
        yield home


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Stand in a folder that holds start.pth, beside another one."""
    folder = tmp_path / "here"
    folder.mkdir()
    (tmp_path / "elsewhere").mkdir()
    torch.save(build("resnet18", 3, "none").state_dict(), folder / "start.pth")
    monkeypatch.chdir(folder)
    return folder


def asked(stored, **options):
    return api.new_run(stored.rooms, "main", "default", SMALL | options)


def config(stored, run):
    return api.show_run(stored.rooms, run)["config"]


def test_a_worker_in_another_folder_finds_the_weights(stored, here, monkeypatch):
    run = asked(stored, weights="start.pth")
    assert config(stored, run)["weights"] == str(here / "start.pth")
    monkeypatch.chdir(here.parent / "elsewhere")
    assert asked(stored, weights="../here/start.pth") == run
    assert api.train(stored.rooms, run, on_progress=quiet)["state"] == "done"
    done = plan.find_done(
        stored.rooms.catalogue, "main", "default", **SMALL, weights="../here/start.pth"
    )
    assert done == run


@pytest.mark.parametrize("weights", ["none", "imagenet"])
def test_weights_with_a_name_stay_as_they_are(stored, weights):
    assert config(stored, asked(stored, weights=weights, seed=3))["weights"] == weights


@pytest.mark.parametrize("weights", ["nosuch.pth", ".", "", "start.pth/part", 300 * "x"])
def test_weights_that_cannot_be_opened_make_no_run(stored, here, weights):
    before = stored.sql("SELECT count(*) FROM runs")
    with pytest.raises(BadInput, match=r"cannot be read as weights: .*--weights the path"):
        asked(stored, weights=weights)
    assert stored.sql("SELECT count(*) FROM runs") == before


def test_a_run_goes_on_though_the_file_it_began_from_is_gone(stored, here):
    run = asked(stored, weights="start.pth", seed=5)
    (here / "start.pth").unlink()
    assert asked(stored, weights="start.pth", seed=5) == run


def test_a_run_of_before_paths_were_made_whole_is_taken_up_as_it_is(stored, here):
    run = asked(stored, weights="start.pth", seed=7)
    older = config(stored, run) | {"weights": "start.pth"}
    write(stored, run, "config", json.dumps(older))
    write(stored, run, "state", "stopped")
    assert asked(stored, weights="start.pth", seed=7) == run
    # Its checkpoint names the weights, too, and is of no run that names others.
    assert config(stored, run) == older
    assert api.show_run(stored.rooms, run)["state"] == "queued"


def write(stored, run, column, value):
    with stored.rooms.catalogue.begin() as tx:
        tx.exec_driver_sql(f"UPDATE runs SET {column} = ? WHERE id = ?", (value, run))
