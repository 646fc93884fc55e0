"""A model judged beside those without pixels, and two models compared."""

from __future__ import annotations

import json

import numpy as np
import pytest
from stats.test_bootstrap import made

from popq.errors import BadInput
from popq.stats import figures
from popq.stats.metrics import points, predictions
from popq.stats.verdict import compare, judge

FEW = 60


def test_what_is_judged_is_plain_json_with_an_interval_for_each_metric():
    found, owner = made(400, 50, 1)
    blind = {"majority": np.full(400, 2), "nearest_id": found.truth % 3 + 1}
    judged = judge(found, owner, blind, shared=owner < 5, resamples=FEW)
    assert json.loads(json.dumps(judged, allow_nan=False)) == judged
    assert (judged["n"], judged["owners"], judged["resamples"]) == (400, 50, FEW)
    assert {name: judged[name] for name in points(found)} == points(found)
    assert set(judged["intervals"]) == {
        *points(found),
        *("lead", "without_pixels.majority", "without_pixels.nearest_id"),
    }
    for name, (low, high) in judged["intervals"].items():
        assert low <= high, name
        # A calibration error is never negative, so that of resamples lies above that of all.
        if name in points(found) and name != "calibration_error":
            assert low <= judged[name] <= high, name
    assert judged["best_without_pixels"] == "majority"
    assert judged["lead"] == judged["accuracy"] - judged["without_pixels"]["majority"]
    assert judged["p_without_pixels"] < 0.001 > judged["p_chance"]
    assert judged["shared_owners"] == {
        "owners": len(np.unique(owner[owner < 5])),
        "photos": int((owner < 5).sum()),
    }
    assert sum(one["photos"] for one in judged["calibration"]) == 400
    assert len(judged["by_label"]) == 12


def test_one_owner_or_nothing_beside_it_is_judged_without_intervals_or_lead():
    found, _ = made(20, 1, 1)
    judged = judge(found, np.zeros(20), {}, resamples=FEW)
    assert judged["intervals"] == {}
    assert judged["without_pixels"] == {}
    assert not {"lead", "best_without_pixels", "shared_owners"} & set(judged)


def test_what_is_undefined_has_no_interval():
    tiers = np.array([1, 2, 1, 2])
    found = predictions(tiers, tiers, tiers, np.ones(4), tiers=2, unit=False)
    judged = judge(found, np.arange(4), {}, resamples=FEW)
    assert judged["spearman"] is None
    assert "spearman" not in judged["intervals"]
    assert "calibration" not in judged


def test_two_models_are_compared_on_the_same_resamples():
    good, owner = made(400, 50, 1, noise=0.3)
    labels, truth = good.labels, good.truth
    rng = np.random.default_rng(5)
    scores = labels + 2 * rng.standard_normal(400)
    predicted = np.digitize(scores, [-0.5, 0.5]) + 1
    bad = predictions(truth, predicted, labels, scores, tiers=3)
    told = compare(good, bad, owner, resamples=FEW)
    assert "cross_entropy" not in told  # the second has no probabilities
    for name in ("accuracy", "quadratic_kappa", "spearman", "pairwise_accuracy", "mae"):
        one = told[name]
        assert one["better"] == "first"
        assert one["difference"] == one["second"] - one["first"]
        assert one["interval"][0] <= one["difference"] <= one["interval"][1]
    turned = compare(bad, good, owner, resamples=FEW)
    assert {one["better"] for one in turned.values()} == {"second"}
    json.dumps(told, allow_nan=False)


def test_a_model_is_no_better_than_itself():
    found, owner = made(100, 10, 1)
    for one in compare(found, found, owner, resamples=FEW).values():
        assert (one["difference"], one["interval"], one["better"]) == (0, [0, 0], None)
    for one in compare(found, found, np.zeros(100), resamples=FEW).values():
        assert (one["interval"], one["better"]) == (None, None)


def test_other_photos_cannot_be_compared():
    found, owner = made(100, 10, 1)
    with pytest.raises(BadInput, match="same photos"):
        compare(found, made(100, 10, 2)[0], owner)


@pytest.mark.parametrize(
    ("judged", "words"),
    [
        ({}, []),
        ({"accuracy": 0.5}, []),
        ({"accuracy": 0.5, "without_pixels": {"majority": 0.4}}, []),
        ({"accuracy": 0.4, "without_pixels": {"mean_colour": 0.4}}, ["no better than “Mean"]),
        ({"accuracy": 0.3, "without_pixels": {"new": 0.4}}, ["is worse than “new”"]),
        (
            {
                "accuracy": 0.5,
                "without_pixels": {"majority": 0.4},
                "intervals": {"lead": [-0.01, 0.2]},
            },
            ["may be luck: drawn again by owner it lies between -0.010 and +0.200"],
        ),
        (
            {"n": 1200, "owners": 40, "shared_owners": {"owners": 9, "photos": 1100}},
            ["The split leaks: 1,100 of 1,200 judged photos belong to 9 owners"],
        ),
        (
            {"n": 1200, "owners": 900, "without_owner": {"judged": 900, "training": 2100}},
            ["owners of 900 of 1,200 judged photos and of 2,100 training photos are unknown"],
        ),
        ({"n": 90, "owners": 40, "without_owner": {"judged": 0, "training": 1}}, ["unknown"]),
        ({"n": 90, "owners": 40, "without_owner": {"judged": 0, "training": 0}}, []),
        ({"n": 90, "owners": 29, "shared_owners": {"owners": 0, "photos": 0}}, ["of 29 owners"]),
    ],
)
def test_a_reader_is_warned(judged, words):
    found = figures.warnings(judged)
    assert len(found) == len(words)
    for one, word in zip(found, words, strict=True):
        assert word in one
