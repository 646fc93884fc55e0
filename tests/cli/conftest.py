"""Commands as processes, in an empty folder, beside a Flickr of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from houses import house, small_world


class Shell:
    """Runs `popq` as a person would, with the settings of a house."""

    def __init__(self, folder, settings):
        self.folder = folder
        kept = {k: v for k, v in os.environ.items() if not k.startswith("POPQ_")}
        self.environment = kept | settings

    def start(self, *arguments, stdout=subprocess.PIPE, **settings):
        """Start a command and return its process."""
        command = [sys.executable, "-m", "popq", *map(str, arguments)]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment | settings,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments, status=0, **settings):
        """Run a command to its end; it must exit with `status`. Gives (stdout, stderr)."""
        with self.start(*arguments, **settings) as process:
            out, err = process.communicate(timeout=120)
        assert process.returncode == status, f"{arguments}: {process.returncode}\n{out}\n{err}"
        assert "Traceback" not in err
        return out, err

    def json(self, *arguments, **options):
        """Run a command with --json and return what it printed."""
        return json.loads(self(*arguments, "--json", **options)[0])


@pytest.fixture
def home(tmp_path):
    """A catalogue that is made, and nothing in it."""
    with house(tmp_path, small_world(40, owners=10)) as home:
        home.list_files(tmp_path)
        yield home


@pytest.fixture
def popq(home, tmp_path):
    return Shell(tmp_path, home.settings())


@pytest.fixture
def bare(tmp_path):
    """A shell in an empty folder without any settings."""
    folder = tmp_path / "bare"
    folder.mkdir()
    return Shell(folder, {})
