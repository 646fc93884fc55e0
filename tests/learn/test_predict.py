"""Probabilities: rows sum to one, and a photo's do not depend on its neighbours."""

import threading

import numpy as np
import pytest
import torch

from popq.errors import BadInput
from popq.learn.config import configure
from popq.learn.loop import fit
from popq.learn.model import to_score
from popq.learn.predict import load, predict

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    config = configure(
        "default", 29, arch="resnet18", weights="none", image_size=64, batch_size=8, epochs=1
    )
    folder = tmp_path_factory.mktemp("trained")
    fit(config, data, folder, device="cpu", on_epoch=lambda _: None, on_progress=lambda _: None)
    model, card = load(folder)
    return to_score(model, CPU), card


def test_the_same_probabilities_whatever_the_batches(trained, data):
    model, card = trained
    (whole,) = predict(model, [data.pixels], card, CPU)
    assert whole.probabilities.shape == (40, card.outputs)
    assert whole.probabilities.dtype == np.float32
    assert np.allclose(whole.probabilities.sum(axis=1), 1, atol=1e-5)
    assert (whole.tiers == whole.probabilities.argmax(axis=1) + 1).all()
    # Without labels the tiers' numbers stand for them.
    assert np.allclose(whole.scores, whole.probabilities @ [1, 2, 3], atol=1e-5)
    for size in (1, 7, 16, 33):
        batches = [data.pixels[i : i + size] for i in range(0, 40, size)]
        parts = [read.probabilities for read in predict(model, batches, card, CPU)]
        assert [len(part) for part in parts] == [len(batch) for batch in batches]
        assert np.abs(np.concatenate(parts) - whole.probabilities).max() < 1e-4


@pytest.mark.parametrize("threads", [1, 4, 6])
def test_the_same_in_any_order_and_with_any_number_of_cores(trained, data, threads):
    model, card = trained
    (whole,) = predict(model, [data.pixels], card, CPU)
    order = np.random.default_rng(0).permutation(40)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        batches = [data.pixels[order[:23]], data.pixels[order[23:]]]
        parts = [read.probabilities for read in predict(model, batches, card, CPU)]
    finally:
        torch.set_num_threads(before)
    assert np.abs(np.concatenate(parts) - whole.probabilities[order]).max() < 1e-4


def test_an_error_in_a_batch_comes_up_and_an_early_end_leaves_no_thread(trained, data):
    model, card = trained
    helpers = threading.active_count()

    def batches():
        yield data.pixels
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone"):
        list(predict(model, batches(), card, CPU))
    readings = predict(model, [data.pixels[:2]] * 9, card, CPU)
    next(readings)
    readings.close()
    assert threading.active_count() == helpers


def test_no_batches_and_empty_batches(trained, data):
    model, card = trained
    assert list(predict(model, [], card, CPU)) == []
    empty, one = predict(model, [data.pixels[:0], data.pixels[:1]], card, CPU)
    assert empty.probabilities.shape == (0, 3)
    assert (empty.scores.shape, empty.tiers.shape) == ((0,), (0,))
    assert one.probabilities.shape == (1, 3)


def test_pictures_of_another_shape_are_refused(trained):
    model, card = trained
    with pytest.raises(BadInput, match="256"):
        list(predict(model, [np.zeros((1, 64, 64, 3), np.uint8)], card, CPU))


def test_the_card_says_what_the_network_needs(trained, data):
    _, card = trained
    assert (card.mean, card.std) == (data.mean, data.std)
    assert card.config.image_size == 64
    assert len(card.sha256) == 64


def test_best_may_start_another_run(data, tmp_path):
    def silent(_):
        return None

    first = configure(
        "default", 29, arch="resnet18", weights="none", image_size=32, batch_size=8, epochs=1
    )
    fit(first, data, tmp_path / "a", device="cpu", on_epoch=silent, on_progress=silent)
    start = str(tmp_path / "a" / "best.safetensors")
    second = configure(
        "default", 29, arch="resnet18", weights=start, image_size=32, batch_size=8, epochs=1
    )
    fit(second, data, tmp_path / "b", device="cpu", on_epoch=silent, on_progress=silent)
    with pytest.raises(BadInput, match="cannot be read"):
        load(tmp_path / "nowhere")
