"""Does writing 1,000,000 scores take at most twice as long as raw COPY (SQLite: executemany)?

The peer writes the same values into the same table of another catalogue, with the same keys,
indexes and foreign keys, as many rows to a transaction (2,000: a batch of scoring), but asks
nothing of photos and minds no score that is there. popq's side is `scores.record`. Both in turns,
part after part, so that a busy minute of the machine strikes both alike. Then the 100 best of the
run are asked for, by the cookbook's query. `--scores` makes it smaller.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

from server import database, postgres
from sqlalchemy import insert, text

from popq.catalogue import cookbook, datasets, migrate, runs, scores
from popq.catalogue.db import Catalogue, bulk_insert
from popq.catalogue.models import Photo, Run
from popq.catalogue.scores import Origin, Scored

SCORES = 1_000_000
SIZE = 2_000
CEILING = 2.0
BEST_MS = 50.0
COLUMNS = ("run_id", "job_id", "code", "photo_id", "score", "tier", "probabilities")
ORIGIN = Origin(1, "1.0+0123456789ab")
SET = {
    "name": "main",
    "count": 1,
    "tiers": 3,
    "cuts": [1.0, 2.0],
    "tier_labels": [0.5, 1.5, 2.5],
    "tie_rule": "upper",
    "split_rule": "owner",
    "val": 0.2,
    "test": 0.0,
    "seed": 0,
    "salt": "popq:0",
    "fingerprint": "f00d",
}


def photo(n: int) -> tuple:
    page, sha256 = f"https://www.flickr.com/photos/x/{n}", f"{n:064x}"
    return n, page, f"{n % 38312}@N00", n % 1500 / 100, "stored", f"{sha256}.jpg", sha256


def ready(catalogue: Catalogue, photos: int) -> int:
    """Fill a new catalogue with stored photos, a data set and a run that is done."""
    migrate.upgrade(catalogue)
    columns = ("flickr_id", "page_url", "owner", "label", "state", "file_key", "sha256")
    for lo in range(0, photos, 50_000):
        rows = [photo(n) for n in range(lo + 1, min(lo + 50_000, photos) + 1)]
        with catalogue.begin() as tx:
            bulk_insert(tx, Photo.__table__, columns, rows)
    with catalogue.begin() as tx:
        dataset = datasets.create(tx, SET, [])
        row = {"dataset_id": dataset, "config": {}, "seed": 0}
        run = int(tx.execute(insert(Run).values(row).returning(Run.id)).scalar_one())
        term = runs.claim(tx, run, "trainer", 60.0)
        runs.finish(tx, run, term, weights_sha256="beef", best_epoch=1)
    return run


def said(lo: int, hi: int) -> list[Scored]:
    shares = [0.2, 0.3, 0.5]
    return [Scored(n, n * 7919 % 1_000_003 / 1e5, 1 + n % 3, shares) for n in range(lo, hi)]


def measure(ours: Catalogue, peer: Catalogue, photos: int) -> tuple[float, float, float]:
    run, other = ready(ours, photos), ready(peer, photos)
    spent = {ours: 0.0, peer: 0.0}
    for part, lo in enumerate(range(1, photos + 1, SIZE)):
        found = said(lo, min(lo + SIZE, photos + 1))
        raw = [
            (other, ORIGIN.job, ORIGIN.code, s.photo, s.score, s.tier, json.dumps(s.probabilities))
            for s in found
        ]
        for side in (ours, peer) if part % 2 else (peer, ours):
            start = time.perf_counter()
            with side.begin() as tx:
                if side is ours:
                    assert scores.record(tx, run, found, ORIGIN) == len(found)
                else:
                    bulk_insert(tx, scores.Score.__table__, COLUMNS, raw)
            spent[side] += time.perf_counter() - start
    best = next(recipe for recipe in cookbook.RECIPES if recipe.name == "best_of_a_run").sql
    with ours.begin() as tx:
        tx.execute(text("ANALYZE"))
    with ours.read() as tx:
        tx.execute(text(best), {"run": run}).all()  # the connection is made, and pages are read
        start = time.perf_counter()
        assert len(tx.execute(text(best), {"run": run}).all()) == min(100, photos)
    return spent[ours], spent[peer], (time.perf_counter() - start) * 1000


@contextmanager
def catalogues(kind: str):
    with ExitStack() as stack:
        if kind == "sqlite":
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            urls = [f"sqlite:///{folder / name}.db" for name in ("ours", "peer")]
        else:
            server = stack.enter_context(postgres())
            names = ("scores_ours", "scores_peer")
            urls = [stack.enter_context(database(server, name)) for name in names]
        found = [Catalogue(url) for url in urls]
        yield found
        for catalogue in found:
            catalogue.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scores", type=int, default=SCORES)
    photos = parser.parse_args().scores
    fine = []
    for kind, peer in itertools.zip_longest(("sqlite", "postgres"), ("executemany", "COPY")):
        with catalogues(kind) as (ours, theirs):
            popq_s, peer_s, best_ms = measure(ours, theirs, photos)
        result = {
            "name": f"scores_write_{kind}",
            "claim": f"Are scores written in at most twice the time of raw {peer} ({kind})?",
            "scores": photos,
            "popq_seconds": round(popq_s, 2),
            "peer_seconds": round(peer_s, 2),
            "ratio": round(popq_s / peer_s, 3),
            "ceiling": CEILING,
            "best_100_ms": round(best_ms, 2),
            "ok": popq_s / peer_s <= CEILING and best_ms <= BEST_MS,
        }
        print(json.dumps(result), flush=True)
        fine.append(result["ok"])
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main())
