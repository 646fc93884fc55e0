"""Does enqueuing 1,000,000 photos take at most 2 times one `INSERT … SELECT` that numbers them?

popq's side is `enqueuing.enqueue`, in batches of 250; the peer cuts the same photos into the same
ranges by `row_number()` and knows nothing of jobs, filters and what is covered already. In turns,
each in a transaction that is taken back. On PostgreSQL, and as a second claim on SQLite. `--photos`
makes it smaller.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack, closing

from server import database, postgres
from sqlalchemy import text

from popq.catalogue import enqueuing, migrate
from popq.catalogue.db import Catalogue

PHOTOS = 1_000_000
SIZE = 250
TURNS = 5
CEILING = 2.0
FILL = """
INSERT INTO photos (flickr_id, page_url, owner, label)
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :photos)
SELECT 10000000 + i, 'https://www.flickr.com/photos/' || i % 38312 || '@N00/' || (10000000 + i),
       i % 38312 || '@N00', 1 + i % 1500 / 100.0
FROM n
"""
PEER = """
INSERT INTO batches (job_id, lo, hi, photos)
SELECT :job, min(id), max(id), count(*)
FROM (SELECT id, (row_number() OVER (ORDER BY id) - 1) / 250 AS part
      FROM photos WHERE state = 'listed') numbered
GROUP BY part ORDER BY part
"""
RANGES = "SELECT lo, hi, photos FROM batches ORDER BY lo"


def turn(catalogue: Catalogue, popq: bool) -> tuple[float, list]:
    """Return the seconds that one side takes, and the ranges that it made."""
    with catalogue.begin() as tx:
        began = time.perf_counter()
        if popq:
            # Without batches of owners, which the peer does not make.
            enqueuing.enqueue(tx, "resolve", size=SIZE, via="oembed")
        else:
            made = text("INSERT INTO jobs (stage) VALUES ('resolve') RETURNING id")
            tx.execute(text(PEER), {"job": tx.execute(made).scalar_one()})
        took = time.perf_counter() - began
        ranges = [tuple(row) for row in tx.execute(text(RANGES))]
        tx.rollback()
    return took, ranges


def measure(catalogue: Catalogue, photos: int) -> tuple[float, float, float]:
    """Return popq's ratio to the peer, and the seconds of both."""
    migrate.upgrade(catalogue)
    with catalogue.begin() as tx:
        tx.execute(text(FILL), {"photos": photos})
    with catalogue.begin() as tx:
        tx.execute(text("ANALYZE"))
    times: dict[bool, list[float]] = {True: [], False: []}
    for number in range(TURNS):
        found = {}
        for popq in (True, False) if number % 2 else (False, True):
            took, found[popq] = turn(catalogue, popq)
            times[popq].append(took)
        if found[True] != found[False]:
            raise SystemExit("the peer no longer makes the ranges that popq makes")
    ratio = statistics.median(a / b for a, b in zip(times[True], times[False], strict=True))
    return ratio, statistics.median(times[True]), statistics.median(times[False])


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--photos", type=int, default=PHOTOS)
    photos = options.parse_args().photos
    results = []
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        server = stack.enter_context(postgres())
        url = stack.enter_context(database(server, "popq_bench_enqueue"))
        sqlite = "Does enqueuing take at most 2 times such an `INSERT … SELECT` on SQLite, too?"
        for name, where, more in (
            ("enqueue_sqlite", f"sqlite:///{folder}/popq.db", {"claim": sqlite}),
            ("enqueue", url, {}),
        ):
            with closing(Catalogue(where)) as catalogue:
                ratio, ours, theirs = measure(catalogue, photos)
            results.append(
                {"name": name, **more, "ratio": round(ratio, 3), "ceiling": CEILING}
                | {"ok": ratio <= CEILING, "photos": photos}
                | {"popq_seconds": round(ours, 2), "peer_seconds": round(theirs, 2)}
            )
    for result in results:
        print(json.dumps(result))
    return 0 if all(result["ok"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
