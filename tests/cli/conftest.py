"""Commands as processes, in an empty folder, beside a Flickr of their own."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout

import pytest
from cli.results import scored_house
from houses import house, small_world

from popq.cli.main import main
from popq.cli.voice import VOICE, Voice


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
            out, err = process.communicate(timeout=600)
        assert process.returncode == status, f"{arguments}: {process.returncode}\n{out}\n{err}"
        assert "Traceback" not in err
        return out, err

    def json(self, *arguments, **options):
        """Run a command with --json and return what it printed."""
        return json.loads(self(*arguments, "--json", **options)[0])


class Here(Shell):
    """Runs `popq` as a person would, but in this process: to load torch anew takes seconds."""

    def __init__(self, folder, settings, monkeypatch):
        self.folder = folder
        self._monkeypatch = monkeypatch
        monkeypatch.chdir(folder)
        for name, value in settings.items():
            monkeypatch.setenv(name, value)

    def __call__(self, *arguments, status=0, stdin=""):
        self._monkeypatch.setattr(sys, "argv", ["popq", *map(str, arguments)])
        self._monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main()
        found = out.getvalue(), err.getvalue()
        assert (ended.value.code or 0) == status, f"{arguments}: {ended.value.code} {found}"
        return found


@pytest.fixture(autouse=True)
def _nothing_said_yet():
    """Let each test begin as a process does, whatever options the last one gave in this process."""
    vars(VOICE).update(vars(Voice()))


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


@pytest.fixture(scope="session")
def scored(tmp_path_factory):
    """A house with a data set, a run, and scores of it; tests only read it."""
    with scored_house(tmp_path_factory.mktemp("scored")) as home:
        yield home


@pytest.fixture
def reader(scored, tmp_path, monkeypatch):
    """Runs commands in this process, which has torch already, in an empty folder."""
    return Here(tmp_path, scored.settings(), monkeypatch)


@pytest.fixture
def outside(scored, tmp_path):
    """A shell on the scored house, in an empty folder."""
    return Shell(tmp_path, scored.settings())
