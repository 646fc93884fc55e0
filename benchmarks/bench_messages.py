"""Do fewer than 2,000 messages go through the broker for 100,000 photos?

A real Redis, PostgreSQL, two `io` workers of four threads, `tasks.enqueue` and the resolve stage's
own batches of 25, so 4,000 of them. All is popq's but the stage, which finds every address at once.
What counts is what Redis was asked to put into a queue (LPUSH in its own statistics); what workers
tell Flower (PUBLISH) is reported beside. `--photos` makes it smaller.
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
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar

import psycopg
from bench_claim import fill, move
from measure import environment
from redis import Redis
from server import database, postgres, redis

from popq.catalogue.batches import Move
from popq.stages.resolve import Resolve

PHOTOS = 100_000
CEILING = 2_000
WORKERS = 2
LIMIT_S = 1500


class Instant:
    """A resolve stage that has every address at once, and asks nobody."""

    name = "resolve"
    batch_size = Resolve.batch_size
    rates: ClassVar[dict[str, float]] = {}

    def process(self, photos: Sequence, permits: object) -> Generator[Move]:
        del permits
        for photo in photos:
            yield move(photo.id)


def work() -> None:
    """Be one Celery worker whose resolve stage is `Instant`."""
    from popq import bootstrap, tasks  # noqa: PLC0415 - reads this process's settings

    bootstrap.Rooms.makers = lambda _: {"resolve": lambda _: Instant(), "download": lambda _: None}
    tasks.serve("io", 4)


def ask() -> None:
    """Enqueue, as `popq enqueue-resolve` does."""
    from popq import tasks  # noqa: PLC0415 - reads this process's settings
    from popq.bootstrap import open_rooms  # noqa: PLC0415

    with open_rooms() as rooms:
        tasks.enqueue(rooms, "resolve", by="bench")


def calls(client: Redis, command: str) -> int:
    return int(client.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0))


def count(photos: int) -> dict[str, int]:
    """Resolve so many photos; return how often Redis did what."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(postgres())
        url = stack.enter_context(database(server, "popq_bench_messages"))
        broker = stack.enter_context(redis())
        fill(url, photos)
        settings = {"POPQ_DATABASE_URL": url, "POPQ_BROKER_URL": broker}
        env = environment(folder, POPQ_DATA_DIR=str(folder), **settings)
        env["PYTHONPATH"] = os.pathsep.join(sys.path)
        me = [sys.executable, "-c"]
        log = stack.enter_context((folder / "log").open("wb"))
        workers = [
            subprocess.Popen(
                [*me, "import bench_messages as b; b.work()"], env=env, stdout=log, stderr=log
            )
            for _ in range(WORKERS)
        ]
        try:
            subprocess.run([*me, "import bench_messages as b; b.ask()"], env=env, check=True)
            until = time.monotonic() + LIMIT_S
            with psycopg.connect(url, autocommit=True) as connection:
                while connection.execute("SELECT state FROM jobs").fetchone() != ("done",):
                    if time.monotonic() > until:
                        raise SystemExit(f"not done in {LIMIT_S} s: {(folder / 'log').read_text()}")
                    time.sleep(0.5)
                left = connection.execute("SELECT count(*) FROM photos WHERE state = 'listed'")
                if left.fetchone() != (0,):
                    raise SystemExit("photos were left")
            with Redis.from_url(broker) as client:
                return {command: calls(client, command) for command in ("lpush", "publish")}
        finally:
            for worker in workers:
                worker.send_signal(signal.SIGTERM)
            for worker in workers:
                worker.wait(60)


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--photos", type=int, default=PHOTOS)
    photos = options.parse_args().photos
    counted = count(photos)
    ok = counted["lpush"] < CEILING
    result = {"name": "messages", "measured": counted["lpush"], "unit": "messages"}
    result |= {"ceiling": CEILING, "ok": ok, "photos": photos, "events": counted["publish"]}
    print(json.dumps(result))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
