from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from popq.demo import BAD_ROWS, SQL, demo, plan
from popq.errors import BadInput

README = Path(__file__).parents[1] / "README.md"


def test_the_plan_gives_every_fate_to_somebody_and_counts_what_must_come_out():
    made = plan(100, 3)
    assert Counter(made.fates.values()).total() == len(made.fates)
    assert made.expected().total() == 100
    assert len(made.links) == len(made.labels) == 100 + 1 + len(BAD_ROWS)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(BadInput, match="is not empty"):
        demo(100, 0, tmp_path, print)


@pytest.fixture(scope="module")
def demonstration(tmp_path_factory):
    """A folder with a small demo in its folder d, what it printed, and its environment."""
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "popq", "demo", "--photos", "120", "--json", "--keep", "d"]
    kept = {k: v for k, v in os.environ.items() if not k.startswith("POPQ_")}
    done = subprocess.run(
        command, cwd=folder, env=kept, capture_output=True, text=True, timeout=900, check=False
    )
    return folder, done, kept


def test_a_small_demo_walks_every_step(demonstration):
    """With so few photos the network need not beat every predictor; all else must hold."""
    folder, done, _ = demonstration
    assert "Traceback" not in done.stderr
    summary = json.loads(done.stdout)
    assert all("the model" in claim for claim in summary["broken"]), summary["broken"]
    assert done.returncode == (1 if summary["broken"] else 0)
    assert sum(summary["photos"].values()) == 120
    assert summary["best_possible"] == pytest.approx(0.744, abs=0.002)
    assert "$ popq resolve" in done.stderr
    assert (folder / summary["report"]).read_text("utf-8").startswith("<!DOCTYPE html>")
    with sqlite3.connect(folder / summary["catalogue"]) as connection:
        for query in SQL:
            assert connection.execute(query).fetchall()
    connection.close()


def test_the_readmes_five_minutes_are_spent_in_the_demos_folder(demonstration):
    """As they are typed, by a shell, in a folder that has a .venv as the clone has."""
    folder, _, environment = demonstration
    (block,) = re.findall(
        r"^```sh\n(# needs the demo above\n.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL
    )
    assert block.count("\npopq") == 7
    assert "cd DEMO" in block
    if shutil.which("sqlite3") is None:
        block = block.replace("\npopq sql", "\n#")
    command = folder / ".venv" / "bin" / "popq"
    command.parent.mkdir(parents=True)
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m popq "$@"\n')
    command.chmod(0o755)
    done = subprocess.run(
        ["sh", "-e", "-c", block.replace("cd DEMO", "cd d")],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert (folder / "d" / "popq-report.html").exists()
    assert len(list((folder / "d" / "pictures" / "validation").glob("*/*.jpg"))) > 0
