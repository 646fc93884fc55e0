"""What is printed of runs fits a terminal, and older runs are shown as far as they go."""

from __future__ import annotations

import numpy as np
from stats.test_bootstrap import made

from popq.cli import judged
from popq.stats import verdict

OLDER = {
    "n": 40,
    "accuracy": 0.35,
    "quadratic_kappa": None,
    "spearman": 0.25,
    "confusion": [[1]],
    "chance": 1 / 3,
    "p_chance": 0.4,
    "without_pixels": {"majority": 0.4, "nearest_id": 0.3},
}


def run(number, **values):
    row = {"id": number, "dataset": "main", "state": "done", "best_epoch": 3, "message": None}
    return row | {"metrics": {}} | values


def test_a_line_a_run_in_80_columns(capsys):
    found, owner = made(300, 40, 1)
    metrics = verdict.judge(found, owner, {"majority": np.full(300, 2)}, resamples=20)
    why = "Out of memory on the device, even with batches of\n8; close what else runs there."
    judged.table(
        [
            run(12345, metrics=metrics, dataset="a data set with a very long name indeed"),
            run(7, state="running", best_epoch=None),
            run(3, state="failed", best_epoch=None, message=why),
            run(1, metrics=OLDER),
        ]
    )
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    head = ["id", "dataset", "state", "best", "right", "blind", "kappa", "rho", "pairs"]
    assert lines[0].split() == head
    shown = [metrics[key] for key in ("quadratic_kappa", "spearman", "pairwise_accuracy")]
    for value in (metrics["accuracy"], metrics["without_pixels"]["majority"], *shown):
        assert f"{value:.3f}" in lines[1]
    assert "Out of memory on the device" in lines[3]
    assert lines[4].split()[-5:] == ["0.350", "0.400", "-", "0.250", "-"]


def test_no_run_says_how_to_make_one(capsys):
    judged.table([])
    assert "popq train" in capsys.readouterr().out


def test_all_metrics_with_intervals_and_warnings(capsys):
    found, owner = made(300, 20, 1)
    blind = {"majority": np.full(300, 2), "nearest_id": found.truth}
    judged.judged(verdict.judge(found, owner, blind, shared=owner < 4, resamples=20))
    out, err = capsys.readouterr()
    assert "300 unseen photos of 20 owners" in out
    for name in (
        "Balanced accuracy",
        "Weighted kappa",
        "Spearman",
        "Calibration error",
        "model's lead",
    ):
        (line,) = [line for line in out.splitlines() if name in line]
        assert " to " in line
    assert "Nearest id              1.000  1.000 to 1.000  <- as good" in out
    assert max(map(len, out.splitlines())) <= 80
    assert "is worse than “Nearest id”" in err
    assert "The split leaks" in err
    assert "20 owners: so few" in err


def test_metrics_of_an_older_version(capsys):
    judged.judged(OLDER)
    out, err = capsys.readouterr()
    assert "Weighted kappa" in out
    assert " to " not in out
    assert "is worse than “Commonest tier”" in err
