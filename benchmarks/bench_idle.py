"""Do workers with nothing to do take less than 2 % of a core each?

`python -m popq worker` as people start it, on a migrated catalogue without work: io without a
broker on SQLite and on PostgreSQL, io and gpu with Redis on PostgreSQL. After ten seconds of
getting up, the CPU time of the process and its children over `--seconds` (30), from /proc. The main
figure is that of the worst.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path

from measure import environment
from server import database, postgres, redis

from popq.catalogue import migrate
from popq.catalogue.db import Catalogue

CEILING = 2.0
SECONDS = 30.0
UP_S = 120.0


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process and of its descendants so far."""
    parents, times = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        number = int(stat.parent.name)
        parents[number] = int(fields[1])
        times[number] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    family, grown = {pid}, True
    while grown:
        more = {child for child, parent in parents.items() if parent in family} - family
        grown = bool(more)
        family |= more
    return sum(times.get(number, 0.0) for number in family)


def get_up(workers: dict[str, subprocess.Popen]) -> None:
    """Wait until starting up is over: ten seconds in which nobody takes 3 % of a core."""
    until = time.monotonic() + UP_S
    used = dict.fromkeys(workers, -1.0)
    while time.monotonic() < until:
        time.sleep(10)
        now = {name: cpu_s(worker.pid) for name, worker in workers.items()}
        if all(used[name] >= 0 and now[name] - used[name] < 0.3 for name in workers):
            return
        used = now


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--seconds", type=float, default=SECONDS)
    seconds = options.parse_args().seconds
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(postgres())
        url = stack.enter_context(database(server, "popq_bench_idle"))
        broker = stack.enter_context(redis())
        sqlite = f"sqlite:///{folder}/popq.db"
        for where in (sqlite, url):
            with closing(Catalogue(where)) as catalogue:
                migrate.upgrade(catalogue)
        kinds = {
            "io_sqlite": ("io", {"POPQ_DATABASE_URL": sqlite}),
            "io_postgresql": ("io", {"POPQ_DATABASE_URL": url}),
            "io_redis": ("io", {"POPQ_DATABASE_URL": url, "POPQ_BROKER_URL": broker}),
            "gpu_redis": ("gpu", {"POPQ_DATABASE_URL": url, "POPQ_BROKER_URL": broker}),
        }
        workers = {}
        for name, (queue, settings) in kinds.items():
            more = {"POPQ_DATA_DIR": str(folder), "POPQ_FLICKR_KEYS": "k:s", **settings}
            log = stack.enter_context((folder / f"{name}.log").open("wb"))
            workers[name] = subprocess.Popen(
                [sys.executable, "-m", "popq", "worker", "--queues", queue],
                env=environment(folder, **more),
                stdout=log,
                stderr=log,
                cwd=folder,
            )
        try:
            get_up(workers)
            before = {name: cpu_s(worker.pid) for name, worker in workers.items()}
            time.sleep(seconds)
            after = {name: cpu_s(worker.pid) for name, worker in workers.items()}
            dead = [name for name, worker in workers.items() if worker.poll() is not None]
            if dead:
                raise SystemExit(f"{dead} ended: {(folder / f'{dead[0]}.log').read_text()}")
        finally:
            for worker in workers.values():
                worker.send_signal(signal.SIGTERM)
            for worker in workers.values():
                worker.wait(60)
    percent = {name: round(100 * (after[name] - before[name]) / seconds, 2) for name in workers}
    worst = max(percent.values())
    result = {"name": "idle", "measured": worst, "unit": "% of a core", "ceiling": CEILING}
    print(json.dumps(result | {"ok": worst < CEILING, "seconds": seconds, **percent}))
    return 0 if worst < CEILING else 1


if __name__ == "__main__":
    sys.exit(main())
