"""A run stopped or killed in the middle of an epoch goes on from there and loses no bit."""

from dataclasses import replace

import pytest
import torch
from learn.headers import of_before
from learn.test_loop import run, timeless
from safetensors.torch import load_file, save_file

from popq.errors import BadInput, Misconfigured
from popq.learn import checkpoint
from popq.learn.checkpoint import path_of
from popq.learn.data import Batch, aim_of
from popq.learn.loop import begin, fit, train_one_epoch
from popq.learn.ticker import Halt

CPU = torch.device("cpu")


class Killed(Exception):
    """As a kill would: nothing is written once it strikes."""


@pytest.fixture(scope="module")
def recipe(config):
    """Return a configuration that uses all that a step can."""
    return replace(config, epochs=2, ema=0.9, label_smoothing=0.1, clip_norm=1.0, backbone_rate=0.5)


@pytest.fixture(scope="module")
def undisturbed(recipe, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    return run(recipe, data, folder), folder


def at(epoch, done, error):
    """Raise `error` once so many photos of the epoch are done."""

    def on_progress(progress):
        if (progress.epoch, progress.done) == (epoch, done):
            raise error

    return on_progress


def same_files(ours, theirs):
    for name in ("last", "best"):
        one, other = load_file(path_of(ours, name)), load_file(path_of(theirs, name))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_halted_run_is_saved_where_it_is_and_ends_with_the_same_bits(
    recipe, data, undisturbed, tmp_path
):
    result, folder = undisturbed
    for epoch, done in ((1, 14), (1, 40), (2, 7)):
        with pytest.raises(Halt):
            run(recipe, data, tmp_path, on_progress=at(epoch, done, Halt("now")))
        assert path_of(tmp_path, "last").exists()
    seen = []
    resumed = run(recipe, data, tmp_path, on_progress=lambda p: seen.append((p.epoch, p.done)))
    assert seen[0] == (2, 14)
    assert timeless(resumed.reports) == timeless(result.reports)
    same_files(tmp_path, folder)


def test_a_killed_run_goes_on_from_its_last_timed_checkpoint(recipe, data, undisturbed, tmp_path):
    result, folder = undisturbed
    with pytest.raises(Killed):
        fit(
            recipe,
            data,
            tmp_path,
            device="cpu",
            on_epoch=lambda _: None,
            on_progress=at(1, 22, Killed()),
            save_every_s=0.0,
        )
    seen = []
    resumed = run(recipe, data, tmp_path, on_progress=lambda p: seen.append(p.done))
    assert seen[0] == 22  # the batch that the kill took is taken anew
    assert timeless(resumed.reports) == timeless(result.reports)
    same_files(tmp_path, folder)


def test_what_is_judged_and_kept_is_the_running_mean(recipe, undisturbed):
    _, folder = undisturbed
    last, best = load_file(path_of(folder, "last")), load_file(path_of(folder, "best"))
    if checkpoint.read(folder, "best")[1]["epoch"] == recipe.epochs:
        assert torch.equal(best["fc.weight"], last["mean.fc.weight"])
    assert not torch.equal(last["fc.weight"], last["mean.fc.weight"])


def test_memory_that_runs_out_halves_the_batch_and_says_so(config, data, tmp_path):
    training = begin(replace(config, batch_size=16), data, CPU, weights="none")
    sizes = []

    def room_for_four(_, images):
        sizes.append(len(images[0]))
        if len(images[0]) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")

    training.model.register_forward_pre_hook(room_for_four)
    metrics = train_one_epoch(training, 1, lambda *_: None)
    assert training.parts == 4
    assert sizes == [14, 7, 3, 4, 3, 4, 3, 4, 4, 4]  # 29 photos in two batches
    assert 0 < metrics.loss < 10


def test_gradients_of_parts_add_up_to_those_of_the_batch(config, data):
    # In float64 and without batch norms' statistics, which see a part at a time.
    seen = {}
    for parts in (1, 3):
        training = begin(config, data, CPU, weights="none")
        training.net = torch.nn.Sequential(torch.nn.Flatten(), training.model.fc)
        training.parts = parts
        features = torch.randn(9, 512, generator=torch.Generator().manual_seed(0))
        batch = Batch(features, torch.arange(9) % 3, shared=9)
        from popq.learn.loop import train_step  # noqa: PLC0415 - beside its one use

        sums = train_step(training, aim_of(config, data), batch, 0.1)
        seen[parts] = (sums, training.model.fc.weight.detach().clone())
    assert torch.allclose(seen[1][0], seen[3][0], rtol=1e-2)
    assert torch.allclose(seen[1][1], seen[3][1], atol=1e-3)


def test_memory_that_does_not_do_for_two_photos_ends_the_run(config, data):
    training = begin(config, data, CPU, weights="none")

    def no_room(*_):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    training.model.register_forward_pre_hook(no_room)
    with pytest.raises(Misconfigured, match=r"for 3 photos.*--batch-size"):
        train_one_epoch(training, 1, lambda *_: None)


def test_other_errors_of_a_step_are_not_taken_for_memory(config, data):
    training = begin(config, data, CPU, weights="none")

    def broken(*_):
        raise RuntimeError("shapes differ")

    training.model.register_forward_pre_hook(broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        train_one_epoch(training, 1, lambda *_: None)
    assert training.parts == 1


def test_a_checkpoint_without_the_mean_is_not_whole(recipe, data, undisturbed, tmp_path):
    path = path_of(undisturbed[1], "last")
    header = of_before(path)  # the sha256 would tell already
    tensors = {name: t for name, t in load_file(path).items() if not name.startswith("mean.")}
    save_file(tensors, path_of(tmp_path, "last"), header)
    with pytest.raises(BadInput, match=r"not whole.*mean\."):
        run(recipe, data, tmp_path)


def test_a_run_that_gets_no_better_ends_early(config, data, tmp_path):
    # At a rate near nothing every epoch is as good as the first.
    still = replace(config, epochs=6, lr=1e-12, weight_decay=0.0, patience=2)
    result = run(still, data, tmp_path)
    assert len(result.reports) == result.best_epoch + 2 < 6
    assert run(still, data, tmp_path).reports == result.reports
