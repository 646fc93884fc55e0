"""Trackers hear of each epoch; one that is not there is named with the way to get it."""

import importlib.util

import pytest
import structlog

from popq.errors import BadInput, Misconfigured
from popq.learn.trackers import TRACKERS, check, tracking


def test_tensorboard_gets_the_numbers_in_a_file(tmp_path):
    from tensorboard.backend.event_processing.event_file_loader import (  # noqa: PLC0415 - slow
        EventFileLoader,
    )

    with tracking("tensorboard", tmp_path, "run-1", {"lr": 0.1, "arch": "resnet18"}) as tell:
        for epoch in (1, 2):
            tell({"val_loss": 1.5 / epoch}, epoch)
    told = []
    for path in sorted(tmp_path.rglob("events.out.tfevents.*")):
        for event in EventFileLoader(str(path)).Load():
            told += [
                (event.step, value.tag, value.tensor.float_val[0])
                for value in event.summary.value
                if value.tag == "val_loss"
            ]
    assert told == [(1, "val_loss", 1.5), (2, "val_loss", 0.75)]


def test_a_tracker_that_fails_in_the_middle_ends_nothing(tmp_path):
    with (
        structlog.testing.capture_logs() as said,
        tracking("tensorboard", tmp_path, "run-1", {}) as tell,
    ):
        tell({"val_loss": {"a part": "no number"}}, 1)
    assert [(line["event"], line["tracker"]) for line in said] == [
        ("tracker failed", "tensorboard")
    ]


def test_no_tracker_is_needed(tmp_path):
    with tracking(None, tmp_path, "run-1", {}) as tell:
        tell({"val_loss": 1.0}, 1)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_tracker_is_refused():
    with pytest.raises(BadInput, match="tensorboard, wandb, mlflow, trackio"):
        check("notebook")


def test_a_tracker_that_is_not_installed_is_named_with_the_way_to_get_it(tmp_path):
    absent = [name for name in TRACKERS if importlib.util.find_spec(name) is None]
    if not absent:
        pytest.skip("every tracker is installed here")
    with (
        pytest.raises(Misconfigured, match=rf"pip install 'popq\[train,{absent[0]}\]'"),
        tracking(absent[0], tmp_path, "run-1", {}),
    ):
        pass
