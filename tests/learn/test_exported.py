"""An exported network is the one that was exported, whatever it was trained for."""

from __future__ import annotations

import json

import pytest
import torch

from popq.errors import BadInput, PopqError
from popq.learn import exported
from popq.learn.config import Config
from popq.learn.model import build
from popq.learn.objectives import Scale
from popq.learn.predict import Card

SCALE = Scale((2.0, 4.0), (1.0, 3.0, 5.0), 3.0, 1.5)


def card_of(objective, scale=SCALE):
    config = Config(arch="resnet18", objective=objective, weights="none", image_size=32)
    return Card(config, scale, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2), 3, "beef")


@pytest.mark.parametrize(("objective", "outputs"), [("classify", 3), ("regress", 1), ("rank", 1)])
def test_what_is_read_is_what_was_written(tmp_path, objective, outputs):
    model, card = build("resnet18", outputs, "none").eval(), card_of(objective)
    exported.write(tmp_path, model, card, {"run": 7})
    again, read = exported.read(tmp_path)
    assert read == card
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(model(images), again(images))
    told = json.loads((tmp_path / "card.json").read_text())
    assert told["run"] == 7
    assert told["score"]


def test_the_graph_of_a_regression_has_scores_in_the_labels_unit(tmp_path):
    model = build("resnet18", 1, "none").eval()
    assert exported.write_onnx(tmp_path, model, card_of("regress")) < exported.TOLERANCE


@pytest.mark.parametrize(("objective", "outputs"), [("classify", 3), ("regress", 1)])
def test_labels_as_large_as_counts_of_views_are_no_fault_of_the_graph(tmp_path, objective, outputs):
    views = Scale((5e3, 8e4), (1e3, 4e4, 7e5), 1e5, 3e5)
    torch.manual_seed(0)
    model = build("resnet18", outputs, "none").eval()
    differs = exported.write_onnx(tmp_path, model, card_of(objective, views))
    assert differs < exported.TOLERANCE


def test_a_graph_that_gives_no_numbers_is_not_exported(tmp_path):
    model = build("resnet18", 1, "none").eval()
    torch.nn.init.constant_(model.fc.bias, float("nan"))
    with pytest.raises(PopqError, match="differs from the network by nan"):
        exported.write_onnx(tmp_path, model, card_of("regress"))


def test_weights_of_another_network_are_refused(tmp_path):
    exported.write(tmp_path, build("resnet18", 5, "none"), card_of("classify"), {})
    with pytest.raises(BadInput, match="is not whole"):
        exported.read(tmp_path)
    with pytest.raises(BadInput, match="is no exported model"):
        exported.read(tmp_path / "nowhere")
