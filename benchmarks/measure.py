"""What the benchmarks share: a child process from start to end, and what it took."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cost:
    """CPU and wall seconds of a whole process, and its peak memory (10^6 bytes)."""

    cpu: float
    wall: float
    mb: float


def environment(folder: Path, **more: str) -> dict[str, str]:
    """This process's environment without POPQ_*, and with compiled modules kept in `folder`.

    So a child starts as on any machine where pip has compiled what it installed, also where Python
    is told to write no bytecode; the first child, which compiles, is a warm-up.
    """
    ours = {name: value for name, value in os.environ.items() if not name.startswith("POPQ_")}
    ours.pop("PYTHONDONTWRITEBYTECODE", None)
    return ours | {"PYTHONPYCACHEPREFIX": str(folder / "compiled")} | more


def run(*arguments: str, cwd: Path, env: dict[str, str]) -> Cost:
    """Run Python with these arguments to its end; its output is dropped, its errors are shown."""
    start = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, *arguments], cwd=cwd, env=env, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"a child ended with status {child.returncode}")
    # Linux counts in KiB, macOS in bytes. A child never shows less than its parent had.
    unit = 1 if sys.platform == "darwin" else 1024
    return Cost(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss * unit / 1e6)
