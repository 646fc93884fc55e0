"""`popq ...` as processes beside a test: started with a house's settings, ended with the test."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


class Processes:
    """Starts commands whose output goes to one log, `processes.log` in `folder`."""

    def __init__(self, folder, settings):
        self.folder = folder
        self.settings = settings
        self.log = folder / "processes.log"
        self._stack = contextlib.ExitStack()
        self._output = self._stack.enter_context(self.log.open("w"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stack.close()

    def start(self, *arguments, **settings):
        """Start `popq ...`; it is ended with the test. A setting that is None is left out."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("POPQ_")}
        given = {k: v for k, v in (self.settings | settings).items() if v is not None}
        process = subprocess.Popen(
            [sys.executable, "-m", "popq", *map(str, arguments)],
            cwd=self.folder,
            env=kept | given,
            stdout=self._output,
            stderr=self._output,
        )
        self._stack.callback(end, process)
        return process

    def run(self, *arguments):
        """Run `popq ...` to its good end."""
        if self.start(*arguments).wait(90) != 0:
            pytest.fail(f"popq {' '.join(map(str, arguments))}\n{self.tail()}")

    def tail(self):
        return self.log.read_text()[-8000:]

    def lines(self):
        """Return the lines of JSON in the log."""
        text = self.log.read_text().splitlines()
        return [json.loads(line) for line in text if line.startswith("{")]

    def wait_until(self, true, seconds=180):
        """Wait for what processes do; the limit only ends a test that has failed."""
        until = time.monotonic() + seconds
        while not (found := true()):
            if time.monotonic() > until:
                pytest.fail(self.tail())
            time.sleep(0.1)
        return found


def end(process):
    """End a process, gently if it lets us."""
    for signum, patience in ((signal.SIGTERM, 20), (signal.SIGKILL, 20)):
        if process.poll() is None:
            process.send_signal(signum)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience)


def children(pid):
    """Return the ids of all processes below one, itself left out."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found, more = set(), {pid}
    while more:
        more = {child for child, parent in parents.items() if parent in more} - found
        found |= more
    return sorted(found)


def has_torch(pid):
    """Return whether the process has torch in its memory."""
    try:
        return "libtorch" in Path(f"/proc/{pid}/maps").read_text()
    except OSError:  # it has just ended
        return False
