"""Groups of parameters, label smoothing, the running mean, and when a network is compiled."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from popq.errors import BadInput, Misconfigured
from popq.learn import recipe
from popq.learn.config import Config, configure
from popq.learn.model import build
from popq.learn.training import compiles


def test_norms_and_biases_do_not_decay_and_layers_learn_at_their_share(config):
    model = build("resnet18", 3, "none")
    asked = replace(config, weight_decay=0.01, backbone_rate=0.1)
    optimizer = recipe.optimizer(model, asked)
    recipe.set_rate(optimizer, 0.5)
    found = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            found[id(parameter)] = (group["weight_decay"], group["lr"])
    for name, parameter in model.named_parameters():
        decay = 0.01 if parameter.ndim > 1 else 0.0
        assert found[id(parameter)] == (decay, 0.5 if name.startswith("fc.") else 0.05), name


def test_smoothing_is_torchs_own():
    logits = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(7) % 3
    loss = functional.cross_entropy(logits, targets, reduction="sum")
    expected = functional.cross_entropy(logits, targets, reduction="sum", label_smoothing=0.2)
    assert recipe.softened(loss, logits, 0.2) == pytest.approx(float(expected), rel=1e-6)
    assert recipe.softened(loss, logits, 0.0) is loss


def test_the_mean_forgets_its_start_and_then_keeps_its_share():
    model = nn.Linear(1, 1, bias=False)
    mean = recipe.RunningMean(model, 0.9)
    expected = model.weight.item()
    for step in range(200):
        with torch.no_grad():
            model.weight.fill_(step)
        mean.follow(model, step)
        keep = min(0.9, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * step
    assert mean.model.weight.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("asked", "device", "photos", "wanted"),
    [
        ("auto", "cpu", 10**7, False),
        ("auto", "cuda", 10**3, False),
        ("auto", "cuda", 10**6, True),
        ("on", "cpu", 10, True),
        ("off", "cuda", 10**7, False),
    ],
)
def test_a_network_is_compiled_when_it_pays(asked, device, photos, wanted):
    assert compiles(Config(compile=asked), photos, device) is wanted


def test_without_a_compiler_nothing_is_compiled_unless_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert not compiles(Config(compile="auto"), 10**7, "cuda")
    with pytest.raises(Misconfigured, match=r"Install g\+\+, or leave out --compile"):
        compiles(Config(compile="on"), 10, "cpu")


def test_an_older_configuration_did_without_what_was_added():
    old = Config().to_json()
    for name in ("ema", "freeze", "label_smoothing", "compile"):
        del old[name]
    assert Config.from_json(old) == Config()
    assert Config().ema == Config().label_smoothing == Config().clip_norm == 0


def test_the_seed_preset_has_none_of_it_and_the_default_has():
    seed, default = configure("seed", 1000), configure("default", 1000)
    assert (seed.ema, seed.label_smoothing, seed.clip_norm) == (0, 0, 0)
    assert min(default.ema, default.label_smoothing, default.clip_norm) > 0


def test_a_frozen_network_needs_weights_and_has_no_mean():
    with pytest.raises(BadInput, match="weights none has none: leave out"):
        configure("default", 1000, freeze=True, weights="none")
    assert configure("default", 1000, freeze=True).ema == 0
    with pytest.raises(BadInput, match="ema"):
        configure("default", 1000, freeze=True, ema=0.9)
