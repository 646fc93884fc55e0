"""Runs without weights, or with others than they recorded, are named before anything is done."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing

import pytest
from catalogue.scene import Scene
from cli.conftest import Here

from popq.learn import checkpoint

COMMANDS = {
    "score": ["score", "--all", "--run"],
    "predict": ["predict"],
    "export": ["export", "model", "out", "--run"],
}


def asked(command, run):
    """Return a command's words for a run; a picture comes after it where one is needed."""
    return [*COMMANDS[command], run, *(["a.jpg"] if command == "predict" else [])]


@pytest.fixture
def mine(scored, tmp_path, monkeypatch):
    """Runs commands on a copy of the scored house whose weights may be spoilt."""
    data = scored.rooms.settings.data_dir
    copy = tmp_path / "popq-data"
    shutil.copytree(
        data, copy, copy_function=os.link, ignore=lambda _, names: [n for n in names if ".db" in n]
    )
    with (
        closing(sqlite3.connect(data / "popq.db")) as there,
        closing(sqlite3.connect(copy / "popq.db")) as here,
    ):
        there.backup(here)
    return Here(tmp_path, scored.settings() | {"POPQ_DATA_DIR": str(copy)}, monkeypatch)


def weights(shell):
    """Return the file of run 1's weights, which is a link to another house's: never write to it."""
    (found,) = shell.folder.glob("popq-data/runs/*/best.safetensors")
    return found


def one_line(err):
    """Return the error, which is one line; what goes before it is progress."""
    assert err.count("popq: ") == 1, err
    assert err.splitlines()[-1].startswith("popq: "), err
    return err


@pytest.mark.parametrize("command", COMMANDS)
def test_weights_that_are_gone_are_named(mine, command):
    weights(mine).unlink()
    err = one_line(mine(*asked(command, 1), status=2)[1])
    assert "best.safetensors" in err
    assert not (mine.folder / "out").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_weights_that_are_others_are_refused(mine, command):
    theirs = weights(mine)
    rewrite(theirs, lambda facts: facts | {"epoch": 7})
    err = one_line(mine(*asked(command, 1), status=2)[1])
    assert "are not those that run 1 recorded" in err
    assert "restore them, or train anew" in err
    assert not (mine.folder / "out").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_run_that_is_not_done_has_no_weights(mine, command):
    with closing(sqlite3.connect(mine.folder / "popq-data" / "popq.db")) as catalogue, catalogue:
        catalogue.execute("UPDATE runs SET state = 'stopped'")
    err = one_line(mine(*asked(command, 1), status=2)[1])
    assert "Run 1 is stopped: it has no weights" in err
    assert "`popq runs 1`" in err


@pytest.mark.parametrize("command", ["score", "enqueue-score"])
def test_where_no_photo_is_stored_there_is_none_to_score(home, popq, command):
    run = Scene(home.rooms.catalogue).run(done=True)
    err = one_line(popq(command, "--run", run, status=2)[1])
    assert "No photo is stored" in err
    assert "`popq download`" in err


def test_a_file_to_train_from_that_is_not_there_makes_no_run(reader):
    before = len(json.loads(reader("runs", "--json")[0]))
    words = ("train", "--dataset", "main", "--weights", "nosuch.pth", "--enqueue")
    err = one_line(reader(*words, status=2)[1])
    assert f"{reader.folder / 'nosuch.pth'} cannot be read as weights: No such file" in err
    assert "imagenet, or none" in err
    assert len(json.loads(reader("runs", "--json")[0])) == before


def rewrite(path, change):
    """Write the best checkpoint anew with other facts; return its hash."""
    tensors, facts = checkpoint.read(path.parent, "best")
    checkpoint.write(path.parent, "best", tensors, change(facts))
    return checkpoint.weights_sha256(path.parent)


def test_a_graph_that_differs_from_the_network_is_not_exported(mine):
    """Labels of 1e39 are beyond single precision, as the graph's is."""

    def enlarge(facts):
        labels = [1e39 * (label + 1 / 3) for label in facts["scale"]["tier_labels"]]
        return facts | {"scale": facts["scale"] | {"tier_labels": labels}}

    sha256 = rewrite(weights(mine), enlarge)
    with closing(sqlite3.connect(mine.folder / "popq-data" / "popq.db")) as catalogue, catalogue:
        catalogue.execute("UPDATE runs SET weights_sha256 = ?", (sha256,))
    _, err = mine("export", "model", "out", "--onnx", status=1)
    assert "The ONNX graph differs from the network" in one_line(err)
    assert "--onnx" in err
    assert [path.name for path in mine.folder.iterdir()] == ["popq-data"]
    mine("export", "model", "out")


def test_an_exported_model_with_other_weights_is_refused(reader):
    reader("export", "model", "a")
    stored = reader.folder / "a" / "model.safetensors"
    spoilt = bytearray(stored.read_bytes())
    spoilt[-1] ^= 1  # still whole: only its hash tells
    stored.write_bytes(spoilt)
    err = one_line(reader("predict", "a", "a.jpg", status=2)[1])
    assert "are not those that card.json was written for" in err
    assert "export the model again" in err
    stored.unlink()
    assert "cannot be read" in one_line(reader("predict", "a", "a.jpg", status=2)[1])
