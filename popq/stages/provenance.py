"""Which code made a run: popq's version, and the commit where it runs from a checkout."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import popq
from popq.stages import revision


def of_code() -> dict[str, str]:
    """Return version, digest of the modules, commit ("+" if files differ), the machine's name.

    Installed from a wheel the version says it all, and there is no commit.
    """
    made = {"popq": popq.__version__, "code": revision.of_code(), "host": platform.node()}
    root = Path(popq.__file__).resolve().parent.parent
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return made
    command = [git, "-C", str(root), "describe", "--always", "--abbrev=40", "--exclude=*"]
    asked = subprocess.run(  # noqa: S603 - git, asked for the state of our own folder
        [*command, "--dirty=+"], capture_output=True, text=True, timeout=30, check=False
    )
    return made | ({"commit": asked.stdout.strip()} if asked.returncode == 0 else {})
