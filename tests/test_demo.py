from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from popq.demo import BAD_ROWS, SQL, demo, plan
from popq.errors import BadInput


def test_the_plan_gives_every_fate_to_somebody_and_counts_what_must_come_out():
    made = plan(100, 3)
    assert Counter(made.fates.values()).total() == len(made.fates)
    assert made.expected().total() == 100
    assert len(made.links) == len(made.labels) == 100 + 1 + len(BAD_ROWS)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(BadInput, match="is not empty"):
        demo(100, 0, tmp_path, print)


def test_a_small_demo_walks_every_step(tmp_path):
    """With so few photos the network need not beat every predictor; all else must hold."""
    command = [sys.executable, "-m", "popq", "demo", "--photos", "120", "--json", "--keep", "d"]
    kept = {k: v for k, v in os.environ.items() if not k.startswith("POPQ_")}
    done = subprocess.run(
        command, cwd=tmp_path, env=kept, capture_output=True, text=True, timeout=300, check=False
    )
    assert "Traceback" not in done.stderr
    summary = json.loads(done.stdout)
    assert all("the model" in claim for claim in summary["broken"]), summary["broken"]
    assert done.returncode == (1 if summary["broken"] else 0)
    assert sum(summary["photos"].values()) == 120
    assert summary["best_possible"] == pytest.approx(0.744, abs=0.002)
    assert "$ popq resolve" in done.stderr
    assert Path(summary["report"]).read_text("utf-8").startswith("<!DOCTYPE html>")
    with sqlite3.connect(summary["catalogue"]) as connection:
        for query in SQL:
            assert connection.execute(query).fetchall()
    connection.close()
