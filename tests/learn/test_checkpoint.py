"""Checkpoints: damage is found, those of before are read, and the umask says who may read them."""

import os

import pytest
import torch
from learn.headers import of_before
from learn.test_loop import Stop, run, stop_in
from safetensors.torch import load_file, save_file

from popq.errors import BadInput
from popq.learn import checkpoint
from popq.learn.checkpoint import path_of

TENSORS = {
    "weight": torch.arange(6.0).reshape(2, 3),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "count": torch.tensor(7),
    "none": torch.zeros(0),
}


@pytest.fixture
def broken_off(config, data, tmp_path):
    """Return the folder of a run that was broken off in its second epoch."""
    with pytest.raises(Stop):
        run(config, data, tmp_path, on_progress=stop_in(2))
    return tmp_path


def test_what_is_written_is_read(tmp_path):
    checkpoint.write(tmp_path, "best", TENSORS, {"epoch": 3})
    tensors, facts = checkpoint.read(tmp_path, "best")
    assert facts["epoch"] == 3
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)


def test_one_that_is_missing_is_not_to_be_deleted(tmp_path):
    with pytest.raises(BadInput, match=r"best\.safetensors cannot be read: it is missing\. Put"):
        checkpoint.read(tmp_path, "best")


def test_the_same_gives_the_same_file(tmp_path):
    facts = {"epoch": 3, "scale": [0.1, float("inf"), 1e-17], "name": "é", "cuts": {"2": None}}
    for name in "abcdefgh":
        checkpoint.write(tmp_path, name, TENSORS, facts)
        assert checkpoint.read(tmp_path, name)[1] == {"format": 1} | facts
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_a_run_does_not_go_on_from_a_damaged_checkpoint(config, data, broken_off):
    path = path_of(broken_off, "last")
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(os.urandom(400_000))
    with pytest.raises(BadInput, match=r"last\.safetensors is damaged.*Delete it to train anew"):
        run(config, data, broken_off)


def test_one_bit_of_the_facts_is_damage_too(tmp_path):
    checkpoint.write(tmp_path, "best", TENSORS, {"epoch": 3})
    path = path_of(tmp_path, "best")
    path.write_bytes(path.read_bytes().replace(b'epoch\\": 3', b'epoch\\": 2'))
    with pytest.raises(BadInput, match="is damaged"):
        checkpoint.read(tmp_path, "best")


def test_a_run_goes_on_from_a_checkpoint_of_before_that_has_no_sha256(config, data, broken_off):
    path = path_of(broken_off, "last")
    save_file(load_file(path), path, of_before(path))
    assert len(run(config, data, broken_off).reports) == config.epochs


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o002])
def test_the_umask_says_who_may_read_a_checkpoint(tmp_path, umask):
    old = os.umask(umask)
    try:
        checkpoint.write(tmp_path, "best", TENSORS, {})
    finally:
        os.umask(old)
    assert path_of(tmp_path, "best").stat().st_mode & 0o777 == 0o666 & ~umask
