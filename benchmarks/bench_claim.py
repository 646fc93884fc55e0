"""Do claim and settle move at least half the photos a second of bare UPDATEs of the same rows?

1,000,000 photos, 8 processes, batches of 250, PostgreSQL. popq's side is the catalogue's claim,
work, settle and close, called as `stages.batch` calls them once it has seen that a batch is due,
with a stage that does nothing: it says of each photo that it is resolved, with server, secret and
URL. The peer is 8 connections that write the same values to the same rows, 250 at a time, by
`UPDATE … FROM (SELECT unnest(…))` and nothing else, each statement its own transaction. Both on a
table filled anew in a database of its own, one after the other. Settings of the server: server.py.

Two more claims: the median claim of the last tenth of the batches takes at most 1.5 times that of
the first tenth; and so it does while another transaction keeps its snapshot from before the first
claim to after the last. A claim's time is that of its statement.

`--photos` and `--processes` make it smaller.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing

import psycopg
from server import database, postgres

from popq.catalogue import batches, claims, enqueuing, jobs, migrate
from popq.catalogue.batches import Move, Tally
from popq.catalogue.db import Catalogue
from popq.catalogue.states import PhotoState
from popq.stages.crew import Crew

PHOTOS = 1_000_000
PROCESSES = 8
SIZE = 250
FLOOR = 0.5
CEILING = 1.5
LEASE_S = 60.0
MAX_TRIES = 5

FILL = """
INSERT INTO photos (flickr_id, page_url, owner, label)
SELECT 10000000 + n, 'https://www.flickr.com/photos/' || n %% 38312 || '@N00/' || 10000000 + n,
       n %% 38312 || '@N00', 1 + n %% 1500 / 100.0
FROM generate_series(1, %s) n
"""
BARE = """
UPDATE photos p SET state = v.state, server = v.server, secret = v.secret, image_url = v.url,
                    resolved_at = now()
FROM (SELECT unnest(%b::bigint[]) AS id, unnest(%b::text[]) AS state, unnest(%b::text[]) AS server,
             unnest(%b::text[]) AS secret, unnest(%b::text[]) AS url) v
WHERE p.id = v.id
"""


def resolved(photo: int) -> tuple[str, str, str]:
    """What both sides write: server, secret and URL."""
    secret = f"{photo:010x}"
    return "65535", secret, f"https://live.staticflickr.com/65535/{photo}_{secret}_z.jpg"


def popq_worker(url: str, job: int, number: int, start, times) -> None:
    """Claim, load, settle and close batches, as `stages.batch` does, until there are none."""
    took, crew = [], Crew(f"bench:{number}")
    with closing(Catalogue(url)) as catalogue:
        with catalogue.begin():
            pass
        start.wait()
        while True:
            began = time.perf_counter()
            with catalogue.single() as tx:
                behind = crew.behind(job)
                lease = claims.claim_sound(tx, job, crew.worker, LEASE_S, behind=behind)
            if lease is None:
                with catalogue.begin() as tx:
                    jobs.finish_if_over(tx, job)
                break
            crew.reached(job, lease.batch)
            took.append((began, time.perf_counter() - began))
            with catalogue.read() as tx:
                photos = batches.work(tx, lease, MAX_TRIES)
            moves = [move(photo.id) for photo in photos]
            with catalogue.begin() as tx:
                tally = Tally(moved=len(moves))
                told = batches.settle(tx, lease, moves, [], tally, lease_s=LEASE_S, last=True)
                batches.close(tx, lease, MAX_TRIES, job=told)
    times.put(took)


def move(photo: int) -> Move:
    server, secret, url = resolved(photo)
    values = {"server": server, "secret": secret, "image_url": url}
    return Move(photo, PhotoState.RESOLVED, values=values)


def bare_worker(url: str, lows: Sequence[int], start) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        start.wait()
        for low in lows:
            ids = list(range(low, low + SIZE))
            server, secret, link = zip(*map(resolved, ids), strict=True)
            states = ["resolved"] * SIZE
            connection.execute(BARE, (ids, states, list(server), list(secret), list(link)))


def timed(start, workers: list) -> float:
    for worker in workers:
        worker.start()
    start.wait()
    began = time.perf_counter()
    for worker in workers:
        worker.join()
        if worker.exitcode:
            raise SystemExit("a worker died")
    return time.perf_counter() - began


def fill(url: str, photos: int) -> None:
    with closing(Catalogue(url)) as catalogue:
        migrate.upgrade(catalogue)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(FILL, (photos,))
        connection.execute("VACUUM ANALYZE photos")
        connection.execute("CHECKPOINT")


def bare(server: str, photos: int, processes: int) -> float:
    """Return the seconds that bare UPDATEs take."""
    context = multiprocessing.get_context("spawn")
    with database(server, "popq_bench_bare") as url:
        fill(url, photos)
        start = context.Barrier(processes + 1)
        lows = range(1, photos + 1, SIZE)
        workers = [
            context.Process(target=bare_worker, args=(url, lows[n::processes], start))
            for n in range(processes)
        ]
        seconds = timed(start, workers)
        check(url, photos)
    return seconds


def popq(server: str, photos: int, processes: int, *, held: bool) -> tuple[float, list[float]]:
    """Return the seconds that popq takes, and its claims' times in their order."""
    with database(server, "popq_bench_claim") as url, ExitStack() as stack:
        fill(url, photos)
        with closing(Catalogue(url)) as catalogue, catalogue.begin() as tx:
            job = enqueuing.enqueue(tx, "resolve", size=SIZE, via="oembed").job  # plain ranges only
        if held:
            other = stack.enter_context(psycopg.connect(url))
            other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            other.execute("SELECT count(*) FROM jobs")
        return claim_all(url, job, photos, processes)


def claim_all(url: str, job: int, photos: int, processes: int) -> tuple[float, list[float]]:
    """Let processes work the whole job; return the seconds, and the claims' in their order."""
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(processes + 1)
    times = context.SimpleQueue()
    args = ((url, job, n, start, times) for n in range(processes))
    workers = [context.Process(target=popq_worker, args=given) for given in args]
    found: list = []
    reader = threading.Thread(target=lambda: found.extend(times.get() for _ in workers))
    reader.start()
    seconds = timed(start, workers)
    reader.join()
    check(url, photos)
    with psycopg.connect(url) as connection:
        state = connection.execute("SELECT state FROM jobs").fetchone()
    if state != ("done",):
        raise SystemExit(f"the job is {state}")
    return seconds, [took for _, took in sorted(itertools.chain.from_iterable(found))]


def check(url: str, photos: int) -> None:
    with psycopg.connect(url) as connection:
        query = "SELECT state, count(*), count(DISTINCT image_url) FROM photos GROUP BY state"
        found = connection.execute(query).fetchall()
    if found != [("resolved", photos, photos)]:
        raise SystemExit(f"the work was not done: {found}")


def tenths(claims: list[float]) -> tuple[float, float]:
    """Return the medians of the first and the last tenth of the claims, in seconds."""
    tenth = max(1, len(claims) // 10)
    return statistics.median(claims[:tenth]), statistics.median(claims[-tenth:])


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--photos", type=int, default=PHOTOS)
    options.add_argument("--processes", type=int, default=PROCESSES)
    asked = options.parse_args()
    size = (asked.photos, asked.processes)
    with postgres() as server:
        floor = bare(server, *size)
        alone, claims = popq(server, *size, held=False)
        beside, claims_beside = popq(server, *size, held=True)
    results = []
    for name, words, took in (
        ("claim_beside_a_snapshot", " beside a transaction that is held open", claims_beside),
        ("claim_tenths", "", claims),
    ):
        first, last = tenths(took)
        claim = f"Does the last tenth of the claims take at most 1.5 times the first{words}?"
        figures = {"name": name, "claim": claim, "ratio": round(last / first, 3)}
        figures |= {"ceiling": CEILING, "ok": last <= CEILING * first}
        figures |= {"first_ms": round(first * 1e3, 2), "last_ms": round(last * 1e3, 2)}
        results.append(figures)
    ratio = floor / alone
    results.append(
        {"name": "claim", "ratio": round(ratio, 3), "floor": FLOOR, "ok": ratio >= FLOOR}
        | {"photos": asked.photos, "processes": asked.processes}
        | {"popq_photos_a_second": round(asked.photos / alone)}
        | {"bare_photos_a_second": round(asked.photos / floor)}
        | {"beside_a_snapshot_photos_a_second": round(asked.photos / beside)}
    )
    for result in results:
        print(json.dumps(result))
    return 0 if all(result["ok"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
