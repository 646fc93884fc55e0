"""A frozen network: its features are computed once, and its head alone learns."""

import fcntl
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from learn.test_loop import run, timeless
from safetensors.torch import load_file, save_file

from popq.learn.checkpoint import path_of
from popq.learn.loop import fit
from popq.learn.model import build, to_score
from popq.learn.predict import load, predict
from popq.learn.ticker import Halt


@pytest.fixture(scope="module")
def frozen(config, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "trained.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(1)
        save_file(build("resnet18", 1000, "none").state_dict(), path)
    return replace(config, weights=str(path), freeze=True, ema=0.0, lr=0.05, epochs=3)


def test_only_the_head_learns_and_the_checkpoint_is_a_whole_network(frozen, data, tmp_path):
    result = run(frozen, data, tmp_path)
    before, after = load_file(frozen.weights), load_file(path_of(tmp_path, "best"))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]) != name.startswith("fc."), name
    model, card = load(tmp_path)
    device = torch.device("cpu")
    (said,) = predict(to_score(model, device), [data.pixels[data.val]], card, device)
    accuracy = (said.tiers - 1 == data.targets[data.val]).mean()
    assert accuracy == pytest.approx(result.reports[result.best_epoch - 1].val_accuracy, abs=0.1)


def test_features_are_computed_once_for_runs_of_the_same_weights(frozen, data, tmp_path):
    cache, seen = tmp_path / "cache", []

    def fitted(config, name):
        seen.clear()
        return fit(
            config,
            data,
            tmp_path / name,
            device="cpu",
            on_epoch=lambda _: None,
            on_progress=lambda p: seen.append(p.epoch),
            cache=cache,
        )

    fitted(frozen, "first")
    assert 0 in seen
    (file,) = cache.iterdir()
    fitted(replace(frozen, lr=0.01), "second")
    assert 0 not in seen
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])  # torn
    fitted(frozen, "third")
    assert 0 in seen
    assert file.read_bytes() == whole
    fitted(replace(frozen, image_size=64), "other size")
    assert len(list(cache.iterdir())) == 2


def test_what_a_killed_process_left_half_written_is_removed(frozen, data, tmp_path):
    left, written = (tmp_path / f"features-{name}.npy.{name}.tmp" for name in ("left", "written"))
    left.write_bytes(b"half")
    seen = []

    def look(progress):
        if progress.epoch == 0:
            seen.append(set(tmp_path.glob("*.tmp")))

    with written.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as another process that writes it does
        fit(
            replace(frozen, epochs=1),
            data,
            tmp_path / "run",
            device="cpu",
            on_epoch=lambda _: None,
            on_progress=look,
            cache=tmp_path,
        )
    assert [len(files) for files in seen] == [2] * len(seen)  # its own and the other's
    assert list(tmp_path.glob("*.tmp")) == [written]
    assert len(list(tmp_path.glob("features-*.npy"))) == 1


def test_the_time_left_of_training_does_not_count_the_features(frozen, data, tmp_path):
    pause, seen = 1.0, []

    def on_progress(progress):
        if progress.epoch == 0:
            time.sleep(pause)
        seen.append(progress)

    report = run(frozen, data, tmp_path, on_progress=on_progress).reports[0]
    assert len([p for p in seen if p.epoch == 0]) > 1  # the pauses were longer than one
    last = [p for p in seen if p.epoch == 1][-1]
    # By the rate that was told, its photos took about as long as the epoch, not the features too.
    assert last.done / last.images_per_second < report.seconds + pause


def test_a_frozen_run_goes_on_with_the_same_bits(frozen, data, tmp_path):
    whole = run(frozen, data, tmp_path / "whole")

    def halt(progress):
        if (progress.epoch, progress.done) == (2, 14):
            raise Halt("now")

    with pytest.raises(Halt):
        run(frozen, data, tmp_path / "halted", on_progress=halt)
    resumed = run(frozen, data, tmp_path / "halted")
    assert timeless(resumed.reports) == timeless(whole.reports)
    ours, theirs = (load_file(path_of(tmp_path / n, "last")) for n in ("halted", "whole"))
    assert all(np.array_equal(ours[key], theirs[key]) for key in theirs)
