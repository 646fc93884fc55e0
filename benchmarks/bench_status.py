"""Does `popq status` of 1,000,000 photos and 4,000 batches take at most twice one state count?

On PostgreSQL, and as a claim of its own on SQLite. The catalogue is made by SQL: photos in every
state, half of a download job's batches done within the last ten minutes, eight in work, 100,000
failures of which a twentieth fell into the last hour. popq's side is the whole command in this
process, its modules loaded: settings, connection, questions, page. The peer is a connection made
anew too, of nothing but the driver, that asks `SELECT state, count(*) … GROUP BY state`. They take
turns; what counts is the median of the turns' ratios. Beside it stands the wall time of
`python -m popq status` as a process, start-up and all.

`--photos`, `--batches` and `--failures` are its sizes, `--turns` how often it is measured.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
from click.testing import CliRunner
from measure import environment, run
from server import database, postgres

from popq.catalogue import migrate
from popq.catalogue.db import Catalogue
from popq.cli.status import status_command

CEILING = 2.0
PEER = "SELECT state, count(*) FROM photos GROUP BY state"
#: Numbers from 1 to N, as each database makes them.
SERIES = {
    "postgresql": "generate_series(1, {count}) AS s(n)",
    "sqlite": "(WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s"
    " WHERE n < {count}) SELECT n FROM s) AS s",
}
NOW = {
    "postgresql": "extract(epoch FROM now())",
    "sqlite": "((julianday('now') - 2440587.5) * 86400)",
}
AT = {"postgresql": "to_timestamp({epoch})", "sqlite": "datetime({epoch}, 'unixepoch')"}

PHOTOS = """
INSERT INTO photos (flickr_id, page_url, owner, label, title, state, reason, server, secret,
                    image_url, file_key, sha256)
SELECT 10000000000 + n, 'https://www.flickr.com/photos/' || n % 38312 || '@N00/' || 10000000000 + n,
       n % 38312 || '@N00', 1 + n % 1500 / 100.0, 'A photo of ' || n,
       CASE n % 10 WHEN 0 THEN 'gone' WHEN 1 THEN 'listed' WHEN 2 THEN 'rejected'
                   WHEN 3 THEN 'resolved' ELSE 'stored' END,
       CASE n % 20 WHEN 0 THEN 'private' WHEN 10 THEN 'not_found' WHEN 2 THEN 'corrupt'
                   WHEN 12 THEN 'video' END,
       '65535', '0123456789', 'https://live.staticflickr.com/65535/' || n || '_0123456789_z.jpg',
       'ab/cd/' || n || '.jpg', '0123456789012345678901234567890123456789012345678901234567890123'
FROM {series}
"""
BATCHES = """
INSERT INTO batches (job_id, lo, hi, photos, state, due, worker, moved, exited, begun, claimed,
                     settled)
SELECT 1, n * 250, n * 250 + 249, 250, CASE WHEN n <= {done} THEN 'done'
       WHEN n <= {done} + 8 THEN 'leased' ELSE 'ready' END, {now} + 60,
       CASE WHEN n > {done} AND n <= {done} + 8 THEN 'io:1:a' END,
       CASE WHEN n <= {done} THEN 240 ELSE 0 END, 0,
       {now} - 620 + 0.3 * n, {now} - 620 + 0.3 * n, {now} - 560 + 0.2 * n
FROM {series}
"""
FAILURES = """
INSERT INTO failures (photo_id, job_id, batch_id, outcome, message, failed_at)
SELECT n, 1, 1, CASE n % 3 WHEN 0 THEN 'transient' ELSE 'corrupt' END, 'HTTP 502', {at}
FROM {series}
"""


def statements(kind: str, sizes: argparse.Namespace) -> list[str]:
    now, count = NOW[kind], sizes.failures
    # The newest twentieth of the failures fell into the last hour.
    at = AT[kind].format(epoch=f"{now} - 72000.0 * ({count} - n) / {count}")
    series = SERIES[kind]
    return [
        PHOTOS.format(series=series.format(count=sizes.photos)),
        "INSERT INTO jobs (id, stage, state) VALUES (1, 'download', 'running')",
        BATCHES.format(series=series.format(count=sizes.batches), now=now, done=sizes.batches // 2),
        FAILURES.format(series=series.format(count=min(count, sizes.photos)), at=at),
        f"INSERT INTO workers (name, queue, threads, seen) VALUES ('io:1:a', 'io', 8, {now})",
    ]


@contextmanager
def on_postgresql(folder: Path, sizes: argparse.Namespace):
    """Yield the catalogue's URL and the peer, on a server of our own."""
    del folder
    with postgres() as server, database(server, "status") as url:
        ours = url.replace("postgresql://", "postgresql+psycopg://", 1)
        made(ours)
        with psycopg.connect(url, autocommit=True) as filler:
            for statement in statements("postgresql", sizes):
                filler.execute(statement)
            filler.execute("VACUUM ANALYZE")

        def peer() -> list:
            with psycopg.connect(url) as connection:
                return connection.execute(PEER).fetchall()

        yield ours, peer


@contextmanager
def on_sqlite(folder: Path, sizes: argparse.Namespace):
    """Yield the catalogue's URL and the peer, in a file."""
    path = folder / "popq.db"
    made(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as filler:
        for statement in statements("sqlite", sizes):
            filler.execute(statement)
        filler.commit()

    def peer() -> list:
        with closing(sqlite3.connect(path)) as connection:
            return connection.execute(PEER).fetchall()

    yield f"sqlite:///{path}", peer


def made(url: str) -> None:
    catalogue = Catalogue(url)
    migrate.upgrade(catalogue)
    catalogue.close()


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measured(kind: str, url: str, peer: Callable, sizes: argparse.Namespace, folder: Path) -> dict:
    env = environment(folder, POPQ_DATABASE_URL=url)

    def ours() -> str:
        done = CliRunner().invoke(status_command, ["--json"], env=env, catch_exceptions=False)
        return done.stdout

    told, counted = json.loads(ours()), dict(peer())
    right = {s: n for s, n in told["photos"].items() if n} == counted and told["failures"] != []
    right &= told["jobs"][0]["per_second"] > 0 and len(told["workers"][0]["work"]) == 8
    turns = [(timed(ours), timed(peer)) for _ in range(sizes.turns)]
    ratio = statistics.median(o / p for o, p in turns)
    run("-m", "popq", "status", cwd=folder, env=env)
    whole = run("-m", "popq", "status", cwd=folder, env=env)
    return {
        "ratio": round(ratio, 2),
        "ceiling": CEILING,
        "ok": right and ratio <= CEILING,
        "database": kind,
        "photos": sizes.photos,
        "batches": sizes.batches,
        "failures": sizes.failures,
        "seconds": round(statistics.median(o for o, _ in turns), 3),
        "peer_seconds": round(statistics.median(p for _, p in turns), 3),
        "whole_process_seconds": round(whole.wall, 2),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=1_000_000)
    parser.add_argument("--batches", type=int, default=4_000)
    parser.add_argument("--failures", type=int, default=100_000)
    parser.add_argument("--turns", type=int, default=9)
    sizes = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with on_sqlite(folder, sizes) as (url, peer):
            claim = "Does `popq status` of that catalogue on SQLite take at most twice its count?"
            result = measured("SQLite", url, peer, sizes, folder)
            results.append({"name": "status_sqlite", "claim": claim} | result)
        with on_postgresql(folder, sizes) as (url, peer):
            result = measured("PostgreSQL", url, peer, sizes, folder)
            results.append({"name": "status"} | result)
    for result in results:
        print(json.dumps(result))
    return 0 if all(result["ok"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
