"""Writes docs/transcript.md: from a fresh clone in an empty folder to a report, with times.

    python docs/make_transcript.py [NOTE]      # downloads a few GB

It clones this repository, as committed, into an empty temporary folder, does what a newcomer would,
and keeps what each command prints. Nothing of the machine is named but its size, and what NOTE says.
"""

from __future__ import annotations

import datetime as dt
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

DOCS: Final = Path(__file__).parent
#: What is typed, in this order. DEMO is the folder that the demo names in its last lines.
STEPS: Final = (
    "git clone REPOSITORY popq",
    "cd popq",
    "make demo",
    "export PATH=$PWD/.venv/bin:$PATH",
    "cd DEMO",
    "popq",
    "popq status",
    "popq dataset show demo",
    "popq runs 1",
    "popq photo 1",
    "popq failures --limit 3",
    "echo 'SELECT state, reason, count(*) FROM photo_status GROUP BY 1, 2;' | popq sql",
    "popq export imagefolder pictures",
    "popq predict 1 pictures/validation --rank | head -n 6",
    "popq export scores -o scores.csv",
    "popq export card -o card.md",
    "popq report",
    "popq doctor",
)
#: Lines of a command's output that are kept at its beginning and at its end.
HEAD, TAIL = 60, 30
BEFORE: Final = """# A transcript: from a fresh clone to a report

Made by `python docs/make_transcript.py` on {day}, on a machine with {cores} cores, {memory} GB of
memory and {gpu}, with Python {python}. Each command is followed by what it printed, on stdout and
stderr, and by the seconds that it took. `make demo` sets up `.venv` first: a few GB, torch above all.
{note}

"""


class Typist:
    """Types commands in an empty folder, and keeps what they print."""

    def __init__(self, folder: Path, repository: str) -> None:
        self._folder = self._here = folder
        self._repository = repository
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("POPQ_", "PYTHONPATH"))}
        path = [part for part in kept["PATH"].split(os.pathsep) if not _is_venv(Path(part))]
        self._environment = kept | {"PATH": os.pathsep.join(path)}
        self._demo = ""
        self.seconds = 0.0

    def type(self, step: str) -> str:
        """Do one step and return its part of the page; raises if it fails."""
        verb, _, rest = step.partition(" ")
        if verb == "cd":
            self._here = Path(self._demo) if rest == "DEMO" else self._here / rest
            return self._shown(step, "")
        if verb == "export":
            path = f"{self._here}/.venv/bin{os.pathsep}{self._environment['PATH']}"
            self._environment["PATH"] = path
            return self._shown(step, "")
        began = time.perf_counter()
        command = ["bash", "-o", "pipefail", "-c", step.replace("REPOSITORY", self._repository)]
        done = subprocess.run(  # noqa: S603 - the steps above
            command,
            cwd=self._here,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        took = time.perf_counter() - began
        self.seconds += took
        if done.returncode:
            sys.exit(f"{step}: status {done.returncode}\n{done.stdout}")
        if found := re.search(r"(/\S+)/popq-data/popq\.db", done.stdout):
            self._demo = self._demo or found[1]
        return self._shown(step, f"{_cut(done.stdout)}# {took:.1f} s\n")

    def _shown(self, step: str, printed: str) -> str:
        text = f"$ {step}\n{printed}".replace("DEMO", self._demo or "DEMO")
        for path in (self._folder, self._folder.resolve()):
            text = text.replace(f"{path}/", "").replace(str(path), "~")
        demo = rf"{re.escape(tempfile.gettempdir())}/popq-demo-\w+"
        text = re.sub(demo, "/tmp/popq-demo-…", text)  # noqa: S108 - only shown
        return text.replace(self._repository, "REPOSITORY").replace(socket.gethostname(), "machine")


def _is_venv(folder: Path) -> bool:
    return (folder.parent / "pyvenv.cfg").exists()


def _cut(text: str) -> str:
    # What pip says of this machine's own settings tells nobody else anything.
    lines = [line for line in text.splitlines() if not line.startswith("WARNING: Location")]
    if len(lines) > HEAD + TAIL:
        left = f"… ({len(lines) - HEAD - TAIL} lines are left out here)"
        lines = [*lines[:HEAD], left, *lines[-TAIL:]]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def main() -> None:
    """Type all steps and write the page."""
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    page = BEFORE.format(
        day=dt.datetime.now(tz=dt.UTC).date(),
        cores=os.cpu_count(),
        memory=round(gigabytes),
        gpu="a GPU" if shutil.which("nvidia-smi") else "no GPU",
        python=platform.python_version(),
        note=" ".join(sys.argv[1:]),
    )
    with tempfile.TemporaryDirectory(prefix="popq-transcript-") as folder:
        typist = Typist(Path(folder), str(DOCS.parent.resolve()))
        for step in STEPS:
            sys.stderr.write(f"{step}\n")
            page += f"```console\n{typist.type(step)}```\n\n"
    page += f"All of it took {typist.seconds / 60:.1f} minutes.\n"
    (DOCS / "transcript.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
