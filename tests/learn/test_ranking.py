"""Ranking and regression: trained, stopped, resumed and read like classification."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from popq.errors import BadInput
from popq.learn.checkpoint import path_of
from popq.learn.config import Config
from popq.learn.data import FEWEST_PAIRS, Data, Labels, Pairs, steps_per_epoch, training_batches
from popq.learn.loop import fit
from popq.learn.model import to_score
from popq.learn.predict import load, predict
from popq.learn.resume import OtherData

CPU = torch.device("cpu")
APART = 0.9


class Stop(Exception):
    pass


@pytest.fixture(scope="module")
def data(data):
    """Return the tiny data set with labels (5 to 8, by tier), and pairs of those well apart."""
    labels = 5.0 + data.targets + np.linspace(0, 0.9, 40)

    def pairs(rows):
        twos = [(a, b) for a in rows for b in rows if labels[b] - labels[a] > APART]
        return np.array(twos, dtype=np.int64)

    known = Labels(labels, cuts=(6.0, 7.0), tier_labels=(5.4, 6.4, 7.4))
    return replace(data, labels=known, pairs=Pairs(pairs(data.train), pairs(data.val)))


def run(config, data, folder, on_progress=lambda _: None):
    return fit(config, data, folder, device="cpu", on_epoch=lambda _: None, on_progress=on_progress)


@pytest.fixture(scope="module", params=["rank", "regress"])
def finished(request, config, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    config = replace(config, objective=request.param)
    return config, folder, run(config, data, folder)


def test_cutting_the_tiers_reaches_its_total(config, tmp_path):
    # More photos to train on than are looked at, all of them one picture that takes no room.
    photos = 4100
    labels = np.linspace(0, 1, photos)
    pairs = Pairs(np.array([(row, row + 1000) for row in range(16)]), np.array([(4098, 4099)]))
    data = Data(
        pixels=np.broadcast_to(np.uint8(100), (photos, 256, 256, 3)),
        targets=(labels > 0.5).astype(np.int64),
        train=np.arange(4098),
        val=np.arange(4098, photos),
        mean=(0.4, 0.4, 0.4),
        std=(0.2, 0.2, 0.2),
        labels=Labels(labels, cuts=(0.5,), tier_labels=(0.25, 0.75)),
        pairs=pairs,
    )
    seen = []
    run(replace(config, objective="rank", outputs=2, epochs=1), data, tmp_path, seen.append)
    assert seen[-1].done == seen[-1].total < len(data.train)


def test_a_ranking_goes_on_with_the_pairs_it_began_with_alone(config, data, tmp_path):
    """Pairs follow from owners and times of posting, which may be imported in between."""
    ranking = replace(config, objective="rank", epochs=2)

    def stop(progress):
        if progress.epoch == 2:
            raise Stop

    with pytest.raises(Stop):
        run(ranking, data, tmp_path, stop)
    fewer = replace(data, pairs=replace(data.pairs, train=data.pairs.train[:-1]))
    number = len(data.pairs.train)
    with pytest.raises(OtherData, match=rf"its pairs is \[{number}, .* now \[{number - 1}, "):
        run(ranking, fewer, tmp_path)
    run(ranking, data, tmp_path)


def timeless(result):
    return [replace(report, seconds=0.0, images_per_second=0.0) for report in result.reports]


def test_a_stopped_run_goes_on_and_ends_with_the_same_bits(finished, data, tmp_path):
    config, folder, whole = finished

    def stop_in_two(progress):
        if progress.epoch == 2 and progress.done > 10:
            raise Stop

    with pytest.raises(Stop):
        run(config, data, tmp_path, stop_in_two)
    assert timeless(run(config, data, tmp_path)) == timeless(whole)
    for name in ("last", "best"):
        ours, theirs = load_file(path_of(tmp_path, name)), load_file(path_of(folder, name))
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    # The cuts of a ranking too, to the byte.
    best = path_of(folder, "best").read_bytes()
    assert path_of(tmp_path, "best").read_bytes() == best


def test_its_figures_are_those_of_its_predictions(finished, data):
    config, folder, result = finished
    model, card = load(folder)
    (read,) = predict(to_score(model, CPU), [data.pixels[data.val]], card, CPU)
    labels = data.labels.values[data.val]
    assert read.probabilities is None
    best = result.reports[result.best_epoch - 1]
    if config.objective == "rank":
        lower, higher = (np.searchsorted(np.sort(data.val), part) for part in data.pairs.val.T)
        scores = read.scores[np.argsort(data.val)]
        assert best.val_accuracy == pytest.approx(np.mean(scores[lower] < scores[higher]))
    else:
        assert best.val_accuracy == pytest.approx(np.mean(read.tiers == data.targets[data.val] + 1))
        off = np.abs(read.scores - labels) / data.labels.values[data.train].std()
        huber = np.where(off < 1, off**2 / 2, off - 0.5)
        assert best.val_loss == pytest.approx(huber.mean(), abs=1e-4)


def test_tiers_have_the_training_labels_shares_or_the_data_sets_cuts(finished, data):
    config, folder, _ = finished
    model, card = load(folder)
    (read,) = predict(to_score(model, CPU), [data.pixels[data.train]], card, CPU)
    if config.objective == "rank":
        wanted = np.bincount(data.targets[data.train], minlength=3)
        assert np.bincount(read.tiers - 1, minlength=3).tolist() == wanted.tolist()
    else:
        assert card.scale.cuts == data.labels.cuts
        assert read.tiers.tolist() == (1 + np.digitize(read.scores, data.labels.cuts)).tolist()


def test_before_its_end_a_ranking_tells_no_tiers(config, data, tmp_path):
    run(replace(config, objective="rank", epochs=1), data, tmp_path)
    model, card = load(tmp_path, "last")
    with pytest.raises(BadInput, match="when its run ends"):
        list(predict(model, [data.pixels[:1]], card, CPU))


@pytest.mark.parametrize("batch_size", [2, 3, 8, 64])
def test_each_batch_holds_whole_pairs_of_the_training_split(config, data, batch_size):
    config = replace(config, objective="rank", batch_size=batch_size)
    labels = data.labels.values
    sizes, seen = [], []
    for batch in training_batches(data, config, 1, CPU):
        lower, higher = batch.targets.view(-1, 2).unbind(1)
        assert (higher - lower > APART).all()
        sizes.append(len(batch.targets))
        seen += zip(lower.tolist(), higher.tolist(), strict=True)
    known = {(labels[a], labels[b]) for a, b in data.pairs.train}
    assert set(seen) <= known
    assert len(seen) == len(set(seen)) == len(data.train) // 2
    assert len(sizes) == steps_per_epoch(data, config)
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 2


def few(pairs):
    return Pairs(pairs.train[: FEWEST_PAIRS - 1], pairs.val)


def spoilt(data, **changes):
    values = {name: getattr(data, name) for name in Data.__dataclass_fields__}
    return Data(**(values | changes))


def test_too_few_pairs_are_refused_with_the_way_out(config, data, tmp_path):
    ranking = replace(config, objective="rank")
    without_validation = spoilt(data, pairs=Pairs(data.pairs.train, data.pairs.val[:0]))
    with pytest.raises(BadInput, match=r"9 pairs to train on .*give --pairs any"):
        run(ranking, spoilt(data, pairs=few(data.pairs)), tmp_path)
    with pytest.raises(BadInput, match=r"0 to validate on .*--objective regress") as told:
        run(replace(ranking, pairs="any"), without_validation, tmp_path)
    assert "--pairs any" not in str(told.value)
    with pytest.raises(BadInput, match="0 pairs to train on"):
        run(ranking, spoilt(data, pairs=None), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_labels_that_are_all_equal_are_refused(config, data, tmp_path):
    # Their deviation is not quite 0.
    same = replace(data.labels, values=np.full(40, 0.1))
    for name in ("classify", "rank", "regress"):
        with pytest.raises(BadInput, match=r"training photos have one label, 0\.1: .*Import"):
            run(replace(config, objective=name), spoilt(data, labels=same), tmp_path)


def test_pairs_are_a_matter_of_ranking():
    assert Config(objective="rank", pairs="any").pairs == "any"
    with pytest.raises(BadInput, match="--pairs is for --objective rank"):
        Config(objective="regress", pairs="any")
