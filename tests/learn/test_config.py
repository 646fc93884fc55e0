"""Configurations: JSON both ways, presets, limits, the schedule."""

import json
from dataclasses import replace

import pytest

from popq.errors import BadInput
from popq.learn.config import PRESETS, Config, configure, learning_rate


@pytest.mark.parametrize("preset", PRESETS)
def test_json_both_ways(preset):
    config = PRESETS[preset]
    assert Config.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_foreign_json_is_refused():
    values = Config().to_json()
    with pytest.raises(BadInput, match="colour"):
        Config.from_json(values | {"colour": "red"})
    del values["lr"]
    with pytest.raises(BadInput, match="lr"):
        Config.from_json(values)


@pytest.mark.parametrize(
    "change",
    [
        {"arch": "vgg"},
        {"objective": "guess"},
        {"epochs": 0},
        {"epochs": 2.5},
        {"epochs": True},
        {"nesterov": 1},
        {"batch_size": 1},
        {"image_size": 16},
        {"image_size": 257},
        {"outputs": 1},
        {"lr": 0.0},
        {"lr": float("nan")},
        {"clip_norm": float("inf")},
        {"weight_decay": float("inf")},
        {"momentum": 1.5},
        {"momentum": 0.0},
        {"schedule": "random"},
        {"weights": 3},
    ],
)
def test_a_value_out_of_range_is_refused_by_name(change):
    with pytest.raises(BadInput, match=next(iter(change)) + "|Nesterov"):
        replace(Config(), **change)


def test_the_seed_preset_is_what_the_seed_did():
    seed = configure("seed", 40_434)
    assert (seed.arch, seed.batch_size, seed.lr, seed.momentum) == ("resnet50", 16, 0.01, 0.5)
    assert (seed.schedule, seed.epochs, seed.image_size) == ("constant", 10, 224)
    assert (seed.weights, seed.weight_decay) == ("none", 0.0)


def test_the_default_fits_batch_and_rate_to_the_data():
    large, small = configure("default", 100_000), configure("default", 450)
    assert large.batch_size == 64
    assert small.batch_size == 16
    assert large.lr / large.batch_size == pytest.approx(small.lr / small.batch_size)
    assert configure("default", 100_000, weights="none").lr == pytest.approx(5 * large.lr)


def test_options_win():
    config = configure("default", 450, batch_size=32, epochs=2)
    assert (config.batch_size, config.epochs) == (32, 2)
    assert config.lr == pytest.approx(0.01)
    assert configure("default", 450, lr=0.3).lr == 0.3
    assert configure("seed", 450, lr=0.3).lr == 0.3
    with pytest.raises(BadInput, match="colour"):
        configure("default", 450, colour=1)
    with pytest.raises(BadInput, match="best"):
        configure("best", 450)


def test_one_cycle_goes_up_and_down_and_constant_stays():
    config = configure("default", 450, lr=1.0)
    rates = [learning_rate(config, step, 100) for step in range(100)]
    assert max(rates) == rates[30] == 1.0
    assert rates[:31] == sorted(rates[:31])
    assert rates[30:] == sorted(rates[30:], reverse=True)
    assert rates[0] == pytest.approx(0.04)
    assert rates[-1] < 0.002
    assert {learning_rate(configure("seed", 9), step, 100) for step in range(100)} == {0.01}
    assert learning_rate(config, 0, 1) == pytest.approx(0.04)
