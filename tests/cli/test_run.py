"""What `popq run` is asked for at its end is checked at its beginning, before days of downloads."""

from __future__ import annotations

import json

import pytest
import torch
from cli.conftest import Here

from popq.learn.model import build

LIST = "https://www.flickr.com/photos/59@N75/775\n"


@pytest.fixture(scope="module")
def resnet18(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(build("resnet18", 3, "none").state_dict(), path)
    return path


@pytest.fixture
def here(home, tmp_path, monkeypatch):
    """Runs commands in this process, which has torch already, on an empty catalogue."""
    (tmp_path / "list.txt").write_text(LIST)
    return Here(tmp_path, home.settings(), monkeypatch)


def photos(shell):
    return json.loads(shell("status", "--json")[0])["photos"]


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["--weights", "nosuch.pth"], 2, "nosuch.pth"),
        (["--weights", "resnet18.pth", "--arch", "resnet50"], 2, "resnet18.pth"),
        (["--weights", "none", "--image-size", "999"], 2, "image_size is 999"),
        (["--weights", "none", "--pairs", "any"], 2, "--pairs is for --objective rank"),
        (["--weights", "none", "--val", "1.5"], 2, "val 1.5"),
        (["--weights", "none", "--cuts", "7,5"], 2, "the cuts 7, 5"),
        (["--weights", "none", "--name", " "], 2, "needs a name"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_could_not_be_done_at_the_end_is_told_first(here, resnet18, words, status, told):
    (here.folder / "resnet18.pth").symlink_to(resnet18)
    assert told in here("run", "--links", "list.txt", *words, status=status)[1]
    assert not any(photos(here).values())


def test_a_gpu_that_is_not_there_is_told_first(here, monkeypatch):
    monkeypatch.setenv("POPQ_DEVICE", "cuda:77")
    words = ("run", "--links", "list.txt", "--weights", "none")
    assert "There is no device cuda:77" in here(*words, status=3)[1]
    assert not any(photos(here).values())


def test_a_data_set_that_is_frozen_otherwise_is_told_first(reader):
    (reader.folder / "list.txt").write_text(LIST)
    before = photos(reader)
    words = ("run", "--links", "list.txt", "--weights", "none", "--tiers", "2")
    assert "is frozen with other tiers" in reader(*words, status=2)[1]
    assert photos(reader) == before
