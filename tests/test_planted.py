"""Planted photos: the list is like a real one, the pictures show what they should, no more."""

import io
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import spearmanr

from popq.errors import BadInput
from popq.planted import (
    PlantedPhoto,
    best_accuracy,
    best_pairwise_accuracy,
    best_spearman,
    plant,
    render,
)


def pixels(photo):
    with Image.open(io.BytesIO(render(photo))) as image:
        return np.asarray(image.convert("RGB"), dtype=np.float64) / 255


def with_truth(flickr_id, truth):
    return PlantedPhoto(flickr_id, "12345678@N01", 6.4, truth, 1_400_000_000)


def test_the_list_looks_like_a_real_one():
    photos = plant(500, 30, seed=1)
    ids = [photo.flickr_id for photo in photos]
    assert len(photos) == 500
    assert len({photo.owner for photo in photos}) == 30
    assert ids == sorted(set(ids))
    assert min(ids) > 10**9
    assert [photo.posted_at for photo in photos] == sorted(photo.posted_at for photo in photos)
    assert all(round(photo.label, 2) == photo.label >= 1.0 for photo in photos)
    neighbours = sum(a.owner == b.owner for a, b in pairwise(photos))
    assert neighbours > 500 / 2


def test_the_same_seed_gives_the_same_photos_and_another_others():
    assert plant(50, 5, seed=3) == plant(50, 5, seed=3)
    assert plant(50, 5, seed=3) != plant(50, 5, seed=4)
    photo = plant(50, 5, seed=3)[0]
    assert render(photo) == render(photo)


def test_truth_and_score_go_together_as_planted():
    photos = plant(20_000, 2_000, seed=2, rho=0.9)
    truth = np.array([photo.truth for photo in photos])
    label = np.array([photo.label for photo in photos])
    assert np.corrcoef(truth, label)[0, 1] == pytest.approx(0.9, abs=0.01)
    assert label.mean() == pytest.approx(6.4, abs=0.1)
    tier = np.searchsorted(np.quantile(label, [1 / 3, 2 / 3]), label)
    read = np.searchsorted(np.quantile(truth, [1 / 3, 2 / 3]), truth)
    assert (tier == read).mean() == pytest.approx(best_accuracy(0.9, 3), abs=0.015)


def test_half_of_the_error_belongs_to_the_owner():
    photos = plant(20_000, 2_000, seed=2, rho=0.0)
    by_owner = {}
    for photo in photos:
        by_owner.setdefault(photo.owner, []).append(photo.label)
    pairs = np.array([labels[:2] for labels in by_owner.values() if len(labels) > 1])
    assert np.corrcoef(pairs.T)[0, 1] == pytest.approx(0.5, abs=0.06)


def test_pictures_are_jpeg_of_both_shapes_and_large_enough_for_the_pack():
    sizes = set()
    for photo in plant(30, 3, seed=5):
        with Image.open(io.BytesIO(render(photo))) as image:
            assert image.format == "JPEG"
            assert min(image.size) >= 256
            sizes.add(image.size[0] > image.size[1])
    assert sizes == {True, False}


def fineness(picture):
    # Means of 4x4 pixels: sensor noise goes, grain stays.
    light = picture[:256, :256].mean(axis=2).reshape(64, 4, 64, 4).mean(axis=(1, 3))
    return np.abs(np.diff(light, axis=0)).mean()


def colourfulness(picture):
    return picture.std(axis=2).mean()


def test_more_truth_shows_as_more_colour_and_finer_grain():
    low = [pixels(with_truth(flickr_id, -1.5)) for flickr_id in range(20)]
    high = [pixels(with_truth(flickr_id, 1.5)) for flickr_id in range(20)]
    assert np.mean([colourfulness(p) for p in high]) > 1.5 * np.mean(
        [colourfulness(p) for p in low]
    )
    assert np.mean([fineness(p) for p in high]) > 1.5 * np.mean([fineness(p) for p in low])


def test_the_grain_hides_from_channel_means_and_deviations():
    pictures = [pixels(photo) for photo in plant(150, 5, seed=8)]
    fine = np.log([fineness(p) for p in pictures])
    light = np.array([p.mean(axis=2).std() for p in pictures])
    mean = np.array([p.mean() for p in pictures])
    assert abs(np.corrcoef(fine, light)[0, 1]) < 0.35
    assert abs(np.corrcoef(fine, mean)[0, 1]) < 0.35
    assert fine.std() > 0.3


def test_best_figures():
    assert best_accuracy(0.9, 3) == pytest.approx(0.743, abs=0.001)
    assert best_accuracy(0.0, 3) == pytest.approx(1 / 3, abs=1e-4)
    assert best_accuracy(1.0, 3) == 1.0
    assert best_accuracy(0.9, 10) < best_accuracy(0.9, 3)
    # Two tiers: the probability that two correlated normals agree in sign.
    assert best_accuracy(0.9, 2) == pytest.approx(0.5 + np.arcsin(0.9) / np.pi, abs=1e-6)
    assert best_spearman(0.9) == pytest.approx(0.891, abs=0.001)
    assert best_pairwise_accuracy(0.9) == pytest.approx(0.856, abs=0.001)
    assert (best_spearman(1.0), best_pairwise_accuracy(1.0)) == pytest.approx((1, 1))
    assert (best_spearman(0.0), best_pairwise_accuracy(0.0)) == (0, 0.5)


@settings(max_examples=15)
@given(rho=st.floats(0, 1), tiers=st.integers(2, 6), seed=st.integers(0, 10**6))
def test_best_figures_are_what_many_draws_come_to(rho, tiers, seed):
    rng = np.random.default_rng(seed)
    truth, error = rng.standard_normal((2, 120_000))
    score = rho * truth + np.sqrt(1 - rho**2) * error
    assert spearmanr(truth, score).statistic == pytest.approx(best_spearman(rho), abs=0.015)
    right = (truth[::2] < truth[1::2]) == (score[::2] < score[1::2])
    assert right.mean() == pytest.approx(best_pairwise_accuracy(rho), abs=0.01)
    # The best reader, learnt from one half: the commonest tier of photos of about this truth.
    tier = np.digitize(score, np.quantile(score, np.arange(1, tiers) / tiers))
    place = np.digitize(truth, np.quantile(truth, np.linspace(0, 1, 201)[1:-1]))
    counts = np.zeros((200, tiers))
    np.add.at(counts, (place[::2], tier[::2]), 1)
    guess = counts.argmax(axis=1)[place[1::2]]
    assert (guess == tier[1::2]).mean() == pytest.approx(best_accuracy(rho, tiers), abs=0.015)


def test_the_planted_list_keeps_to_the_best_figures():
    photos = plant(30_000, 3_000, seed=4, rho=0.8)
    order = np.random.default_rng(1).permutation(len(photos))  # neighbours share an owner
    truth = np.array([photo.truth for photo in photos])[order]
    label = np.array([photo.label for photo in photos])[order]
    assert spearmanr(truth, label).statistic == pytest.approx(best_spearman(0.8), abs=0.015)
    right = (truth[::2] < truth[1::2]) == (label[::2] < label[1::2])
    assert right.mean() == pytest.approx(best_pairwise_accuracy(0.8), abs=0.015)


@pytest.mark.parametrize(
    "call",
    [
        lambda: plant(5, 6, seed=0),
        lambda: plant(5, 0, seed=0),
        lambda: plant(5, 2, seed=0, rho=1.5),
        lambda: best_accuracy(rho=-0.1),
        lambda: best_accuracy(tiers=1),
    ],
)
def test_impossible_wishes_are_refused(call):
    with pytest.raises(BadInput):
        call()
