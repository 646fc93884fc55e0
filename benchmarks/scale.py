"""How long do import, enqueue, claim and settle, and status take with 10,000,000 photos?

Not one of the claims of run_all.py, for it takes the better part of an hour: run it once, by hand,
and put its figures into docs/scale.md. PostgreSQL as in server.py, in a database of its own under
`--folder`, which needs about 2 KB a photo. Rows are generated and go through the import's own
staging (`imports.incoming`), without a file; claim and settle are those of bench_claim.py. Each
step is measured at `--photos` and, in the same run, at a tenth of that: what grows faster than the
photos shows as a ratio above 10. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice

import psycopg
from bench_claim import claim_all, tenths
from server import database, postgres

from popq.catalogue import enqueuing, imports, jobs, migrate, queries
from popq.catalogue.db import Catalogue
from popq.catalogue.imports import IncomingPhoto

PHOTOS = 10_000_000
PROCESSES = 8
SIZE = 250


def rows(photos: int) -> Iterator[IncomingPhoto]:
    """Yield rows as a list of links with labels gives them."""
    nothing = (None,) * 5
    for n in range(1, photos + 1):
        owner, number = f"{n % 380000}@N00", 10_000_000 + n
        url = f"https://www.flickr.com/photos/{owner}/{number}"
        yield IncomingPhoto(n, number, None, url, owner, 1 + n % 1500 / 100, *nothing)


def import_all(catalogue: Catalogue, photos: int) -> imports.Merged:
    with catalogue.begin() as tx, imports.incoming(tx) as way:
        listed = rows(photos)
        while some := list(islice(listed, 10_000)):
            way.stage(some)
        way.settle()
        return way.merge()


def timed(step, *given) -> tuple[float, object]:
    began = time.perf_counter()
    came = step(*given)
    return time.perf_counter() - began, came


def status(catalogue: Catalogue) -> None:
    with catalogue.read() as tx:
        queries.photos_by_state(tx)
        queries.reasons(tx)
        jobs.progress(tx)


def cut(catalogue: Catalogue) -> int:
    with catalogue.begin() as tx:
        # Plain ranges at both sizes: batches of owners would be many more, and smaller, in the
        # larger list alone, where an owner has enough photos for them.
        return enqueuing.enqueue(tx, "resolve", size=SIZE, via="oembed").job


def measure(server: str, photos: int, processes: int) -> dict[str, float]:
    found: dict[str, float] = {"photos": photos}
    with database(server, "popq_bench_scale") as url, closing(Catalogue(url)) as catalogue:
        migrate.upgrade(catalogue)
        found["import_s"], merged = timed(import_all, catalogue, photos)
        found["import_again_s"], again = timed(import_all, catalogue, photos)
        if (merged.new, again.unchanged) != (photos, photos):
            raise SystemExit(f"not everything was imported: {merged}, {again}")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE photos")
        found["enqueue_s"], job = timed(cut, catalogue)
        found["status_before_s"], _ = timed(status, catalogue)
        found["claim_and_settle_s"], claims = claim_all(url, job, photos, processes)
        found["claim_first_tenth_s"], found["claim_last_tenth_s"] = tenths(claims)
        found["status_after_s"], _ = timed(status, catalogue)
        query = "SELECT pg_database_size(current_database()) / 1e9"
        with psycopg.connect(url) as connection:
            found["gigabytes"] = float(connection.execute(query).fetchone()[0])
            count = "SELECT state, count(*) FROM photos GROUP BY state"
            found["count_s"], _ = timed(lambda: connection.execute(count).fetchall())
    return {name: round(value, 4) for name, value in found.items()}


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--photos", type=int, default=PHOTOS)
    options.add_argument("--processes", type=int, default=PROCESSES)
    options.add_argument("--folder", help="where the server keeps its data")
    asked = options.parse_args()
    with postgres(asked.folder) as server:
        for photos in (asked.photos // 10, asked.photos):
            print(json.dumps(measure(server, photos, asked.processes)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
