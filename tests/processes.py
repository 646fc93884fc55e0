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

    def start(self, *arguments, err=None, **settings):
        """Start `popq ...`; it is ended with the test. A setting that is None is left out.

        Its standard error goes to the file `err` of the folder, if that is given.
        """
        kept = {k: v for k, v in os.environ.items() if not k.startswith("POPQ_")}
        given = {k: v for k, v in (self.settings | settings).items() if v is not None}
        apart = None if err is None else (self.folder / err).open("a")
        with apart or contextlib.nullcontext(self._output) as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "popq", *map(str, arguments)],
                cwd=self.folder,
                env=kept | given,
                stdout=self._output,
                stderr=errors,
            )
        self._stack.callback(end, process)
        return process

    def run(self, *arguments):
        """Run `popq ...` to its good end."""
        if self.start(*arguments).wait(600) != 0:
            pytest.fail(f"popq {' '.join(map(str, arguments))}\n{self.tail()}")

    def tail(self):
        texts = [path.read_text()[-8000:] for path in sorted(self.folder.glob("*.log"))]
        return "\n".join(texts)

    def lines(self, err):
        """Return what the worker whose standard error is `err` logged; each line must be JSON."""
        # Each line is one write: what comes after the last end of a line is being written.
        text = (self.folder / err).read_text().rpartition("\n")[0]
        return [json.loads(line) for line in text.split("\n") if text]

    def wait_until(self, true, seconds=180, every_s=0.1):
        """Wait for what processes do; the limit only ends a test that has failed."""
        until = time.monotonic() + seconds
        while not (found := true()):
            if time.monotonic() > until:
                pytest.fail(self.tail())
            time.sleep(every_s)
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
