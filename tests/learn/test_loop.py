"""Training: metrics, checkpoints, resume, and how it ends when something goes wrong."""

import contextlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from learn.headers import of_before
from safetensors.torch import load_file, save_file

from popq.errors import BadInput, Misconfigured
from popq.learn.checkpoint import path_of, weights_sha256
from popq.learn.data import Data, training_batches
from popq.learn.loop import Diverged, fit
from popq.learn.model import autocast_dtype, to_score
from popq.learn.predict import load, predict

CPU = torch.device("cpu")


class Stop(Exception):
    pass


def run(config, data, folder, on_epoch=lambda _: None, on_progress=lambda _: None):
    return fit(config, data, folder, device="cpu", on_epoch=on_epoch, on_progress=on_progress)


def stop_in(epoch):
    def on_progress(progress):
        if progress.epoch == epoch and progress.done > 10:
            raise Stop

    return on_progress


def timeless(reports):
    return [replace(report, seconds=0.0, images_per_second=0.0) for report in reports]


@pytest.fixture(scope="module")
def finished(config, data, tmp_path_factory):
    """Return a run left alone: its configuration, folder, result and what it reported."""
    folder = tmp_path_factory.mktemp("finished")
    reports, progress = [], []
    result = run(config, data, folder, reports.append, progress.append)
    return config, folder, result, reports, progress


def test_a_run_reports_each_epoch_and_all_progress(finished, data):
    _, _, result, reports, progress = finished
    assert result.reports == tuple(reports)
    assert [report.epoch for report in reports] == [1, 2, 3]
    assert all(report.seconds > 0 and report.images_per_second > 0 for report in reports)
    assert progress[-1].done == progress[-1].total == len(data.train) + len(data.val)
    first = [p.done for p in progress if p.epoch == 1]
    assert first == sorted(set(first))
    assert result.versions["torch"] == torch.__version__


def test_a_run_learns_what_the_pictures_show(config, data, tmp_path):
    reports = run(replace(config, epochs=8), data, tmp_path).reports
    assert [report.val_accuracy > 0.8 for report in reports[-3:]] == [True] * 3


def test_best_is_the_epoch_with_the_best_validation(finished):
    _, folder, result, _, _ = finished
    best = max(result.reports, key=lambda r: (r.val_accuracy, -r.val_loss))
    assert result.best_epoch == best.epoch == load(folder)[1].epoch
    assert load(folder, "last")[1].epoch == 3


def test_validation_metrics_equal_those_recomputed_from_the_probabilities(finished, data):
    _, folder, result, _, _ = finished
    model, card = load(folder)
    (read,) = predict(to_score(model, CPU), [data.pixels[data.val]], card, CPU)
    got = read.probabilities
    targets = data.targets[data.val]
    report = result.reports[result.best_epoch - 1]
    assert (got.argmax(axis=1) == targets).mean() == pytest.approx(report.val_accuracy)
    loss = -np.log(got[np.arange(len(targets)), targets]).mean()
    assert loss == pytest.approx(report.val_loss, abs=1e-4)


def test_training_metrics_are_sums_over_photos_with_uneven_batches(config, data, tmp_path):
    # At a rate near nothing the network stays as it was made, so each batch can be looked at anew
    # with the same weights, batch norms included.
    frozen = replace(config, epochs=1, lr=1e-12, weight_decay=0.0)
    report = run(frozen, data, tmp_path).reports[0]
    model, _ = load(tmp_path, "last")
    model.train().to(memory_format=torch.channels_last)
    dtype = autocast_dtype(CPU)
    loss, correct, sizes = 0.0, 0, []
    for batch in training_batches(data, frozen, 1, CPU):
        with torch.no_grad(), torch.autocast("cpu", dtype, enabled=dtype is not None):
            logits = model(batch.images)
        loss += float(torch.nn.functional.cross_entropy(logits.float(), batch.targets)) * len(
            batch.targets
        )
        correct += int((logits.argmax(1) == batch.targets).sum())
        sizes.append(len(batch.targets))
    assert sum(sizes) == 29
    assert set(sizes) == {7, 8}
    assert report.train_loss == pytest.approx(loss / 29, rel=0.02)
    # One photo of 29 may stand between two tiers.
    assert report.train_accuracy == pytest.approx(correct / 29, abs=0.04)


def test_a_stopped_run_goes_on_and_ends_with_the_same_bits(finished, data, tmp_path):
    config, folder, whole, _, _ = finished
    for epoch in (2, 3):
        with pytest.raises(Stop):
            run(config, data, tmp_path, on_progress=stop_in(epoch))
    told = []
    result = run(config, data, tmp_path, told.append)
    assert timeless(result.reports) == timeless(whole.reports)
    assert timeless(told) == timeless(whole.reports)
    for name in ("last", "best"):
        ours, theirs = load_file(path_of(tmp_path, name)), load_file(path_of(folder, name))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("writes", range(6))
def test_a_kill_between_two_checkpoints_leaves_no_best_that_last_does_not_know(
    finished, data, tmp_path, writes
):
    config, folder, whole, _, _ = finished
    asked = 0

    def may_write():
        nonlocal asked
        asked += 1
        if asked > writes:
            raise Stop

    nothing = {"on_epoch": lambda _: None, "on_progress": lambda _: None}
    with contextlib.suppress(Stop):  # not every epoch is a best one: it may write less often
        fit(config, data, tmp_path, device="cpu", may_write=may_write, **nothing)
    done, best = (
        load(tmp_path, name)[1].epoch if path_of(tmp_path, name).exists() else 0
        for name in ("last", "best")
    )
    # Else its epoch would be trained again, and on another machine perhaps not be the best.
    assert best <= done
    seen = set()
    result = run(config, data, tmp_path, on_progress=lambda p: seen.add(p.epoch))
    assert seen == set(range(done + 1, config.epochs + 1))
    assert timeless(result.reports) == timeless(whole.reports)
    assert weights_sha256(tmp_path) == weights_sha256(folder)


def test_a_best_that_is_lost_is_written_again_while_its_weights_are_there(config, data, tmp_path):
    short = replace(config, epochs=1)
    run(short, data, tmp_path)
    best = path_of(tmp_path, "best")
    whole = best.read_bytes()
    for left in (whole[:-100], None):
        best.unlink()
        if left is not None:
            best.write_bytes(left)
        run(short, data, tmp_path)
        assert best.read_bytes() == whole


def test_a_run_stopped_in_its_first_epoch_starts_over(config, data, tmp_path):
    (tmp_path / "last.0.tmp").write_bytes(b"half written")
    with pytest.raises(Stop):
        run(config, data, tmp_path, on_progress=stop_in(1))
    assert list(tmp_path.iterdir()) == []
    assert run(replace(config, epochs=1), data, tmp_path).best_epoch == 1


def test_an_epoch_whose_report_was_lost_is_reported_again(config, data, tmp_path):
    short = replace(config, epochs=1)

    def die(_):
        raise Stop

    with pytest.raises(Stop):
        run(short, data, tmp_path, on_epoch=die)
    told, progress = [], []
    run(short, data, tmp_path, told.append, progress.append)
    assert [report.epoch for report in told] == [1]
    assert progress == []


def test_a_diverging_run_says_what_to_try_and_keeps_the_epochs_before(config, data, tmp_path):
    with pytest.raises(Diverged, match=r"epoch 1 is .*lower rate than --lr 1e\+09"):
        run(replace(config, lr=1e9), data, tmp_path)
    assert list(tmp_path.glob("*")) == []


def test_no_progress_is_lost_to_a_checkpoint_of_another_run(finished, data):
    config, folder, _, _, _ = finished
    with pytest.raises(BadInput, match=r"its lr is 0\.01, now 0\.02"):
        run(replace(config, lr=0.02), data, folder)
    with pytest.raises(BadInput, match="its photos is"):
        run(config, replace(data, train=data.train[:-1]), folder)


def test_a_broken_checkpoint_is_named(finished, data, tmp_path):
    config, folder, _, _, _ = finished
    whole = path_of(folder, "last").read_bytes()
    path = path_of(tmp_path, "last")
    for content in (whole[: len(whole) // 2], b"", b"garbage" * 100):
        path.write_bytes(content)
        with pytest.raises(BadInput, match=r"last\.safetensors cannot be read.*Delete it"):
            run(config, data, tmp_path)


def test_a_foreign_checkpoint_is_named(finished, data, tmp_path):
    config, folder, _, _, _ = finished
    path = path_of(tmp_path, "last")
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(BadInput, match="no checkpoint of popq"):
        run(config, data, tmp_path)
    save_file({"x": torch.zeros(1)}, path, {"popq": '{"format": 99}'})
    with pytest.raises(BadInput, match="another version"):
        load(tmp_path, "last")
    # `best` under the name of `last`: the weights are there, one tensor is not.
    header = of_before(path_of(folder, "last"))  # the sha256 would tell already
    tensors = load_file(path_of(folder, "last"))
    del tensors["conv1.weight"]
    save_file(tensors, path, header)
    with pytest.raises(BadInput, match=r"not whole.*conv1\.weight"):
        run(config, data, tmp_path)
    with pytest.raises(BadInput, match=r"not whole.*conv1\.weight"):
        load(tmp_path, "last")


def test_a_disk_that_refuses_leaves_no_half_file(config, data, tmp_path):
    def in_the_way(progress):
        # A folder where the file should go: the rename fails whoever runs the test.
        path_of(tmp_path, "best").mkdir(exist_ok=True)
        assert progress.total == 40

    with pytest.raises(Misconfigured, match="cannot be written"):
        run(replace(config, epochs=1), data, tmp_path, on_progress=in_the_way)
    assert {path.name for path in tmp_path.iterdir()} == {"best.safetensors", "last.safetensors"}


def test_the_sha256_follows_the_file(finished):
    _, folder, _, _, _ = finished
    assert load(folder)[1].sha256 == weights_sha256(folder, "best")
    assert weights_sha256(folder, "best") != weights_sha256(folder, "last")
    with pytest.raises(BadInput, match="no checkpoint"):
        weights_sha256(folder, "middle")


def spoilt(data, **changes):
    values = {name: getattr(data, name) for name in Data.__dataclass_fields__}
    return Data(**(values | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixels": np.zeros((40, 8, 8, 3), np.uint8)}, "build it anew"),
        ({"targets": np.zeros(39, np.int64)}, "39 targets"),
        ({"train": np.arange(1)}, "too few"),
        ({"val": np.arange(0)}, "too few"),
        ({"targets": np.full(40, 3)}, "Targets go from 3"),
        ({"std": (0.2, 0.0, 0.2)}, "never varies"),
    ],
)
def test_data_that_cannot_be_trained_on_is_refused(config, data, tmp_path, changes, message):
    with pytest.raises(BadInput, match=message):
        run(config, spoilt(data, **changes), tmp_path)
    assert list(tmp_path.iterdir()) == []
