"""What the learning curves say of a run, whatever it was trained for."""

from __future__ import annotations

import base64

import pytest


@pytest.mark.parametrize(
    ("objective", "unit", "words"),
    [
        ("classify", "loss, nats", "learns its photos by heart."),
        ("rank", "loss, nats", "the share of pairs that it puts in order"),
        ("regress", "loss, Huber, label deviations", "in deviations of the training labels"),
    ],
)
def test_a_loss_has_the_unit_of_what_the_run_was_trained_for(scene, objective, unit, words):
    run = scene.trained(scene.frozen([scene.stored(n) for n in range(9)]), objective=objective)
    shown = scene.page(run)
    (source,) = [
        values["src"]
        for tag, values in shown.tags
        if tag == "img" and values["alt"].startswith("Loss by epoch")
    ]
    assert f"<!-- {unit} -->" in base64.b64decode(source.partition(",")[2]).decode()
    lead = shown.text.partition("Loss should fall")[2].partition("Best of")[0]
    assert words in lead
    assert ("Huber" in lead) == (objective == "regress")
