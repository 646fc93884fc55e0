"""What is installed is whole: the wheel makes a catalogue without the checkout beside it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[1]


def test_an_installed_wheel_migrates_its_own_catalogue(tmp_path):
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as file:
        file.extractall(installed)
    assert (installed / "popq" / "migrations" / "env.py").is_file()
    report = {path.name for path in (installed / "popq" / "report").iterdir()}
    assert {"page.html.j2", "page.css"} <= report
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("POPQ_", "COVERAGE"))}
    environment["PYTHONPATH"] = str(installed)
    done = subprocess.run(
        [sys.executable, "-m", "popq", "init"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "is ready" in done.stdout
    assert (tmp_path / "popq-data" / "popq.db").is_file()
