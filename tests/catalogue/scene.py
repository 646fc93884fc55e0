"""Setting a scene in a catalogue: photos, jobs, leases, runs, in a few words each."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select, text

from popq.catalogue import batches, claims, datasets, enqueuing, migrate, runs
from popq.catalogue.batches import Failed, Lease, Move, Tally
from popq.catalogue.db import Catalogue, bulk_insert, db_now
from popq.catalogue.models import Base, Member, Photo, PhotoMoments
from popq.catalogue.states import PhotoState
from popq.errors import Outcome

LEASE_S = 60.0
#: Of no account's shape: none of them gets batches of their own.
OWNERS = ("0@N00", "1@N00", "2@N00")
DATASET = {
    "count": 1,
    "tiers": 2,
    "cuts": [0.5],
    "tier_labels": [0.0, 1.0],
    "tie_rule": "upper",
    "split_rule": "photo",
    "val": 0.2,
    "test": 0.0,
    "seed": 0,
    "salt": "popq:0",
    "fingerprint": "f00d",
}


class Scene:
    """One catalogue, and what a test does to it, each step in a transaction of its own."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue

    def photo(self, **values: Any) -> int:
        """Insert one photo (listed, unless its values say otherwise) and return its id."""
        row = {"page_url": "https://www.flickr.com/photo.gne?id=1", **values}
        if "source_key" not in row and "flickr_id" not in row:
            row["flickr_id"] = self._next_flickr_id()
        with self.catalogue.begin() as tx:
            return tx.execute(insert(Photo).values(row).returning(Photo.id)).scalar_one()

    def photos(
        self, count: int, state: str = "listed", owners: Sequence[str | None] = OWNERS
    ) -> list[int]:
        """Insert photos with consecutive ids, owner by owner in turn, and return the ids."""
        first = self._next_flickr_id()
        rows = [
            {
                "flickr_id": first + n,
                "page_url": f"https://www.flickr.com/photo.gne?id={first + n}",
                "label": float(n),
                "owner": owners[n % len(owners)],
                "state": state,
                "image_url": None
                if state == "listed"
                else f"https://live.staticflickr.com/{n}.jpg",
                "file_key": f"{n}.jpg" if state == "stored" else None,
                "sha256": f"{n:064x}" if state == "stored" else None,
            }
            for n in range(count)
        ]
        with self.catalogue.begin() as tx:
            found = tx.execute(
                insert(Photo).returning(Photo.id, sort_by_parameter_order=True), rows
            )
            ids = list(found.scalars())
            if state == "stored":
                sums = [{"photo_id": i, **moments(i)} for i in ids]
                tx.execute(insert(PhotoMoments), sums)
        return ids

    def _next_flickr_id(self) -> int:
        return self.scalar("SELECT coalesce(max(flickr_id), 52000000000) + 1 FROM photos")

    def enqueue(
        self, stage: str = "resolve", *, size: int = 10, **options: Any
    ) -> enqueuing.Enqueued:
        with self.catalogue.begin() as tx:
            return enqueuing.enqueue(tx, stage, size=size, **options)

    def claim(
        self,
        job: int,
        worker: str = "w1",
        lease_s: float = LEASE_S,
        *,
        behind: int | None = None,
    ) -> Lease | None:
        """Claim a batch as the engine does."""
        with self.catalogue.single() as tx:
            lease = claims.claim_sound(tx, job, worker, lease_s, behind=behind)
        if lease is not None:
            return lease
        with self.catalogue.begin() as tx:
            return claims.claim(tx, job, worker, lease_s)

    def many_batches(self) -> int:
        """Make a job of 3,000 batches, 2,000 of them done, and tell the planner; return it."""
        self.photos(1)
        job = self.enqueue().job
        many = (
            "INSERT INTO batches (job_id, lo, hi, photos, state, due, worker)"
            " WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)"
            " SELECT :job, i, i, 1, CASE WHEN i <= 2000 THEN 'done' ELSE 'ready' END,"
            " CASE WHEN i <= 2000 THEN 0 ELSE 9e9 END, NULL FROM n"
        )
        self.do(many, job=job)
        self.do("ANALYZE")
        return job

    def work(self, lease: Lease, max_tries: int | None = 4) -> list[int]:
        with self.catalogue.read() as tx:
            return [photo.id for photo in batches.work(tx, lease, max_tries)]

    def settle(self, lease: Lease, moves=(), failures=(), told=None, lease_s=LEASE_S) -> str:
        told = told or tally(moves, failures)
        with self.catalogue.begin() as tx:
            return batches.settle(tx, lease, moves, failures, told, lease_s=lease_s).state

    def close(self, lease: Lease, moves=(), failures=(), max_tries=0) -> None:
        """Settle and close in one transaction, as the engine does, when no tries are left."""
        with self.catalogue.begin() as tx:
            told = tally(moves, failures)
            job = batches.settle(tx, lease, moves, failures, told, lease_s=LEASE_S, last=True)
            batches.close(tx, lease, max_tries, job=job)

    def hand_back(self, lease: Lease, in_s: float = 0.0) -> None:
        with self.catalogue.begin() as tx:
            batches.hand_back(tx, lease, in_s)

    def expire(self, lease: Lease) -> None:
        """Let the batch's lease run out now."""
        self.do("UPDATE batches SET due = 0 WHERE id = :id", id=lease.batch)

    def dataset(self, name: str = "d1", members=()) -> int:
        with self.catalogue.begin() as tx:
            dataset = datasets.create(tx, {**DATASET, "name": name}, [])
            columns = ("dataset_id", "photo_id", "label", "tier", "split", "file_key")
            rows = [(dataset, *member) for member in members]
            bulk_insert(tx, Member.__table__, columns, rows)
            return dataset

    def run(self, dataset: int | None = None, *, done: bool = False) -> int:
        """Make a training run, finished if `done`."""
        with self.catalogue.begin() as tx:
            found = datasets.find(tx, "d1")
        if dataset is None:
            dataset = self.dataset() if found is None else found.id
        with self.catalogue.begin() as tx:
            run = runs.create(tx, dataset, {"epochs": 2}, seed=0)
            if done:
                term = runs.claim(tx, run, "trainer", LEASE_S)
                runs.finish(tx, run, term, weights_sha256="beef", best_epoch=1)
        return run

    def do(self, statement: str, **values: Any) -> int:
        with self.catalogue.begin() as tx:
            return tx.execute(text(statement), values).rowcount

    def rows(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        with self.catalogue.read() as tx:
            return [tuple(row) for row in tx.execute(text(query), values)]

    def scalar(self, query: str, **values: Any) -> Any:
        return self.rows(query, **values)[0][0]

    def catalogue_now(self) -> float:
        """Return the database's clock in epoch seconds."""
        with self.catalogue.read() as tx:
            return tx.execute(select(db_now())).scalar_one()

    def states(self) -> dict[int, str]:
        return dict(self.rows("SELECT id, state FROM photos ORDER BY id"))

    def everything(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return every row of every table, to see that nothing changed."""
        return {
            table.name: sorted(self.rows(f"SELECT * FROM {table.name}"), key=repr)
            for table in Base.metadata.sorted_tables
        }


def empty(catalogue: Catalogue) -> None:
    """Delete every row of a PostgreSQL catalogue (TRUNCATE waits for the disk, thirty times)."""
    tables = Base.metadata.sorted_tables
    with catalogue.begin() as tx:
        tx.execute(text("SET LOCAL lock_timeout = '10s'"))
        for table in reversed(tables):
            tx.execute(table.delete())
        for name in (table.name for table in tables if "id" in table.c):
            tx.execute(text(f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), 1, false)"))


def moments(seed: int) -> dict[str, int]:
    names = ("sum_r", "sum_g", "sum_b", "square_r", "square_g", "square_b")
    return {"pixels": 65536, **{name: seed * 1000 + n for n, name in enumerate(names)}}


def tally(moves, failures) -> Tally:
    """Count as the engine does."""
    exited = sum(move.reason is not None for move in moves)
    return Tally(moved=len(moves) - exited, exited=exited, failed=len(failures))


def gone(photo: int) -> Move:
    note = Failed(photo, Outcome.GONE, "HTTP 410", 410)
    return Move(photo, PhotoState.GONE, Outcome.GONE, note=note)


def resolved(photo: int) -> Move:
    return Move(photo, PhotoState.RESOLVED, values={"image_url": f"https://x/{photo}.jpg"})


def stored(photo: int) -> Move:
    values = {"file_key": f"{photo}.jpg", "sha256": f"{photo:064x}", "bytes": 10}
    return Move(photo, PhotoState.STORED, values=values, moments=moments(photo))


def at_once(*steps: Callable[[], Any]) -> list[Any]:
    """Run each step in a thread of its own, all let go together; return what they returned."""
    start = threading.Barrier(len(steps))

    def body(step: Callable[[], Any]) -> Any:
        start.wait()
        return step()

    with ThreadPoolExecutor(len(steps)) as pool:
        return [future.result() for future in [pool.submit(body, step) for step in steps]]


def wait_for_waiters(scene: Scene, count: int) -> None:
    """Return once so many sessions of the PostgreSQL database wait for a lock of another."""
    waiting = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    for _ in range(1000):
        if scene.scalar(waiting) >= count:
            return
        time.sleep(0.01)
    raise AssertionError(f"there were never {count} that waited for a lock")


def plan(catalogue, statement, **given) -> str:
    """Return the database's plan of a statement of ours; it is carried out, and taken back."""
    with catalogue.begin() as tx:
        compiled = statement.compile(dialect=tx.dialect)
        state = compiled.construct_expanded_state(compiled.params | given)
        explain = "EXPLAIN QUERY PLAN" if catalogue.is_sqlite else "EXPLAIN (ANALYZE, COSTS OFF)"
        values = state.positional_parameters if compiled.positional else state.parameters
        rows = tx.exec_driver_sql(f"{explain} {state.statement}", values)
        found = "\n".join(str(row[-1]) for row in rows)
        tx.rollback()
    return found


def ranges(scene, job, *, only_open=True):
    where = "AND state <> 'done'" if only_open else ""
    return scene.rows(
        "SELECT lo, hi, photos - moved - exited FROM batches"
        f" WHERE job_id = :j {where} ORDER BY lo",
        j=job,
    )


def assert_covers_once(scene, job, photos):
    """Every photo lies in one open range, ranges do not overlap, and their counts are right."""
    found = ranges(scene, job)
    for (_, hi, _), (lo, _, _) in itertools.pairwise(found):
        assert hi < lo, found
    for photo in photos:
        assert sum(lo <= photo <= hi for lo, hi, _ in found) == 1
    assert sum(count for _, _, count in found) == len(photos)


def leases_of(scene, job):
    return list(iter(lambda: scene.claim(job), None))


@contextmanager
def fresh_scene(folder: Path) -> Iterator[Scene]:
    """Give the scene of a new catalogue in `folder`."""
    catalogue = Catalogue(f"sqlite:///{folder / 'popq.db'}")
    migrate.upgrade(catalogue)
    yield Scene(catalogue)
    catalogue.close()
