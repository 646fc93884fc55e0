"""Batches: the lease, the unit of retry and the fence around a worker's results.

    ready ──claim──▶ leased ──close──▶ done
      ▲                │ │
      └──hand back─────┘ └─ lease runs out: claimed by another worker, under a higher term

The lease argument: a claim raises `term` and nothing else does, so of all the workers that ever
held a batch exactly the last one's term matches. Every settle starts by locking the batch's row
where id and term match; if another worker has claimed it since, no row matches and the settle
raises `LeaseLost` before it has written anything. What it does write, it writes in that one
transaction: each photo that is still in the stage's start state moves, once. So execution is at
least once, effect exactly once, whatever dies, freezes or comes twice.

How a batch is claimed, and what becomes of one whose workers die, is in `claims`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Double,
    Select,
    Text,
    Update,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal,
    literal_column,
    select,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate

from popq.catalogue import driver, enqueuing, jobs, owners, ranges, scores, steps
from popq.catalogue.db import Tx, db_now
from popq.catalogue.models import Batch, Failure, Job, Photo, PhotoMoments
from popq.catalogue.states import ACTIVE_JOBS, BatchState, PhotoState
from popq.catalogue.work import FORWARD, START, Filter, spent, used_up, work_of
from popq.errors import LeaseLost, Outcome

#: Outcomes that are final after fewer tries than a job allows, since the photo is at fault.
FINAL_AFTER: Final = {Outcome.CORRUPT: 3, Outcome.PLACEHOLDER: 3}


@dataclass(frozen=True, slots=True)
class Lease:
    """One claimed batch: the photos of `lo..hi` that are work, until the lease runs out.

    `owner` is whose photos it holds alone, None for a plain range; see `owners`. `page` is the page
    of theirs to ask for next (0: none), `got` how many of the batch's photos have moved. `tried` is
    whether any photo of the range had failed in the job when it was claimed.
    """

    batch: int
    job: int
    stage: str
    run_id: int | None
    lo: int
    hi: int
    term: int
    expiries: int
    only: Filter = field(default_factory=dict)
    owner: str | None = None
    page: int = 0
    got: int = 0
    tried: bool = True

    @property
    def suspect(self) -> bool:
        """Whether it is one photo, and its worker died with it: see `stages.alone`."""
        return self.lo == self.hi and self.expiries > 0


class WorkPhoto(NamedTuple):
    """What a stage needs to know of a photo; `tries` are its failed ones in this job.

    `sha256` is of the bytes that it is stored with, or was last before its file was lost.
    """

    # A tuple, as is `Move`: hundreds are made for each batch, at a third of a dataclass's cost.

    id: int
    flickr_id: int | None
    page_url: str
    owner: str | None
    server: str | None
    secret: str | None
    image_url: str | None
    file_key: str | None
    sha256: str | None
    tries: dict[str, int]


class Move(NamedTuple):
    """A photo's step to `state`, with the columns to write; `moments` are its exact sums.

    `note` is kept in `failures` beside the move: what the host said of a photo that left.
    `other_bytes` says that the photo was stored before with others, whose scores are void.
    """

    photo: int
    state: PhotoState
    reason: Outcome | None = None
    values: Mapping[str, Any] = MappingProxyType({})
    moments: dict[str, int] | None = None
    note: Failed | None = None
    other_bytes: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """A counted try of a photo that came to nothing; the photo stays where it is."""

    photo: int
    outcome: Outcome
    message: str
    http_status: int | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """What a settle adds to its batch's counts."""

    moved: int = 0
    exited: int = 0
    failed: int = 0
    bytes: int = 0
    seconds: float = 0.0


def work(tx: Tx, lease: Lease, max_tries: int | None) -> list[WorkPhoto]:
    """Return the batch's photos that are still work, by id.

    A photo whose tries in the job are used up is left out, unless `max_tries` is None. Tries that
    its holder settles after the claim may not be among those that it returns.
    """
    keyed = lease.owner is not None
    query = load(lease.stage, lease.run_id, tuple(lease.only.items()), keyed=keyed)
    rows = driver.rows(tx, query, _bounds(lease))
    if not lease.tried:
        return [WorkPhoto._make((*row, {})) for row in rows]  # nobody tried, nobody can be used up
    of = [row[0] for row in rows] if keyed else None
    tried = jobs.tries(tx, lease.job, lease.lo, lease.hi, of)
    photos = [WorkPhoto._make((*row, tried.get(row[0], {}))) for row in rows]
    if max_tries is None:
        return photos
    return [photo for photo in photos if not used_up(photo.tries, max_tries)]


#: The photos of :b_lo to :b_hi.
_IN_RANGE: Final = Photo.id.between(bindparam("b_lo", type_=BigInteger), bindparam("b_hi"))


def _bounds(lease: Lease) -> dict[str, Any]:
    return {"b_lo": lease.lo, "b_hi": lease.hi, "b_job": lease.job, "b_owner": lease.owner}


def _mine(stage: str, *, keyed: bool) -> ColumnElement[bool]:
    owner = bindparam("b_owner", type_=Text) if keyed else None
    return owners.mine(stage, bindparam("b_job", type_=BigInteger), owner)


# Statements that every batch needs are put together once: that takes longer than to run them.
@lru_cache(maxsize=64)
def load(
    stage: str, run_id: int | None, only: tuple[tuple[str, Any], ...], *, keyed: bool
) -> Select[
    int, int | None, str, str | None, str | None, str | None, str | None, str | None, str | None
]:
    """Return the statement that loads the work of :b_lo to :b_hi; a test reads its plan."""
    columns = (Photo.id, Photo.flickr_id, Photo.page_url, Photo.owner, Photo.server)
    more = (Photo.secret, Photo.image_url, Photo.file_key, Photo.sha256)
    work = work_of(stage, run_id, dict(only)) & _mine(stage, keyed=keyed)
    return select(*columns, *more).where(_IN_RANGE, work).order_by(Photo.id)


@lru_cache(maxsize=64)
def _close(
    stage: str,
    run_id: int | None,
    only: tuple[tuple[str, Any], ...],
    job: int,
    max_tries: int,
    *,
    keyed: bool,
) -> ReturningUpdate[bool]:
    """Return the statement that closes :b_batch, or readies it if :goes_on and it has work.

    It returns whether the job has other batches open, or another job that hands on to it.
    """
    is_work = work_of(stage, run_id, dict(only)) & _mine(stage, keyed=keyed)
    untried = func.count(Photo.id).filter(~spent(job, max_tries)).label("untried")
    of = bindparam("b_batch", type_=BigInteger).label("batch")
    count = select(of, func.count(Photo.id).label("left"), untried)
    found = count.where(_IN_RANGE, is_work).cte("found")
    again = (found.c.untried > 0) & bindparam("goes_on", type_=Boolean)
    values = {
        "state": case((again, BatchState.READY), else_=BatchState.DONE),
        "worker": None,
        "due": case((again, db_now()), else_=Batch.due),
        "photos": Batch.moved + Batch.exited + found.c.left,
        "left": case((again, Batch.left), else_=found.c.left),
    }
    put = update(Batch).where(Batch.id == found.c.batch, *_held()).values(values)
    return put.returning(jobs.goes_on_without(Batch.id, Batch.job_id))


def _held() -> tuple[ColumnElement[bool], ...]:
    """Whether the batch :b_batch is still in the hands of the claim :b_term."""
    mine = (Batch.id == bindparam("b_batch"), Batch.term == bindparam("b_term"))
    return (*mine, Batch.state == BatchState.LEASED)


def settle(
    tx: Tx,
    lease: Lease,
    moves: Sequence[Move],
    failures: Sequence[Failed],
    tally: Tally,
    *,
    lease_s: float,
    page: int | None = None,
    last: bool = False,
) -> jobs.Row:
    """Record results and renew the lease by `lease_s` seconds, all or nothing.

    Moves exactly those photos that are still in the stage's start state, and counts no others.
    `page` is the owner's page to ask for next, if that is another than before. `last` says that the
    batch is closed or handed back next: the job is shared from here, which saves asking again.
    Returns the job's row, as `jobs.get`: a worker goes on only while its job is running. Raises
    `LeaseLost` before writing anything if the batch has a newer term.
    """
    counted = {f"b_{name}": count for name, count in dataclasses.asdict(tally).items()}
    held = {"b_batch": lease.batch, "b_term": lease.term, "b_lease_s": lease_s, "job": lease.job}
    gets_on, at_once = bool(tally.moved or tally.exited), tx.dialect.name == "postgresql"
    renew = _renew(gets_on=gets_on, at_once=at_once, share=last)
    renewed = driver.rows(tx, renew, held | counted)
    if not renewed:
        raise LeaseLost(
            f"batch {lease.batch} of job {lease.job} has a newer term than {lease.term}"
        )
    there: set[int] = set()
    if failures:
        written = {failed.photo for failed in failures} | {move.photo for move in moves}
        there = steps.hold(tx, written, moving=bool(moves))
    movable = _move(tx, lease.stage, moves, held=bool(failures))
    _uncount(tx, lease, [move for move in moves if move.photo not in movable])
    # A photo may have been purged meanwhile.
    _note(tx, lease, [failed for failed in failures if failed.photo in there])
    if page is not None:
        tx.execute(update(Batch).where(Batch.id == lease.batch).values(page=page))
    forward = [move.photo for move in moves if move.state == FORWARD.get(lease.stage)]
    if lease.owner is not None and movable.intersection(forward):
        # Now, since which they are nobody knows later: its range says nothing.
        moved = sorted(movable.intersection(forward))
        enqueuing.hand_on_photos(tx, jobs.share(tx, lease.job), moved)
    return jobs.Row(*renewed[0]) if at_once else jobs.get(tx, lease.job)


@cache
def _renew(*, gets_on: bool, at_once: bool, share: bool) -> Any:
    """Return the statement that renews a lease; `at_once`, it returns the job's row, shared or not.

    SQLite cannot do that, nor needs it: it has one writer at a time.
    """
    added = {name: Batch.__table__.c[name] for name in Tally.__slots__}
    values = {name: old + bindparam(f"b_{name}", type_=old.type) for name, old in added.items()}
    values["due"] = db_now() + bindparam("b_lease_s", type_=Double)
    if gets_on:
        values["expiries"] = literal(0)  # a worker that gets on is not killed by its photos
        values["settled"] = db_now()
    if not at_once:
        return update(Batch).where(*_held()).values(values).returning(Batch.id)
    job = (jobs.SHARE if share else jobs.GET).cte("job")
    return update(Batch).where(*_held(), Batch.job_id == job.c.id).values(values).returning(*job.c)


def _note(tx: Tx, lease: Lease, failures: Sequence[Failed]) -> None:
    """Keep the failures, of photos that are there."""
    rows = [
        {
            "photo_id": failure.photo,
            "job_id": lease.job,
            "batch_id": lease.batch,
            "outcome": failure.outcome,
            "http_status": failure.http_status,
            "message": failure.message,
        }
        for failure in failures
    ]
    if rows:
        tx.execute(insert(Failure), rows)


def _uncount(tx: Tx, lease: Lease, moves: Sequence[Move]) -> None:
    """Take moves that came to nothing out of the batch's counts: another door was quicker."""
    if moves:
        moved = sum(move.state == FORWARD.get(lease.stage) for move in moves)
        fewer = {"moved": Batch.moved - moved, "exited": Batch.exited - (len(moves) - moved)}
        tx.execute(update(Batch).where(Batch.id == lease.batch).values(fewer))


def _move(tx: Tx, stage: str, moves: Sequence[Move], *, held: bool) -> set[int]:
    """Move the photos that are still in the stage's start state; return which those were."""
    if not moves:
        return set()
    groups: dict[steps.Step, dict[int, Mapping[str, Any]]] = {}
    for move in moves:
        groups.setdefault((move.state, move.reason), {})[move.photo] = move.values
    moved = steps.move(tx, START[stage], groups, held=held)
    moments = [
        {"photo_id": move.photo, **move.moments}
        for move in moves
        if move.moments is not None and move.photo in moved
    ]
    if moments:
        # A photo that lost its file and is stored again has sums of the lost one.
        again = [row["photo_id"] for row in moments]
        tx.execute(delete(PhotoMoments).where(PhotoMoments.photo_id.in_(again)))
        tx.execute(insert(PhotoMoments), moments)
    other = [move.photo for move in moves if move.other_bytes and move.photo in moved]
    if other:  # seldom: a photo that is stored for the first time asks for no statement
        scores.drop(tx, other)
    return moved


def hand_back(
    tx: Tx, lease: Lease, in_s: float, max_tries: int | None = None, *, job: jobs.Row | None = None
) -> None:
    """Give the batch back; it may be claimed again `in_s` seconds from now.

    Closes it if its job is over. What it finished goes to the downstream job, if there is one.
    `job` is what a `settle` that was the last returned in this transaction.
    """
    job = job or jobs.share(tx, lease.job)
    if job.state not in ACTIVE_JOBS:
        close(tx, lease, max_tries or 0, job=job)
    elif _put_down(tx, lease, _ready(in_s)):
        hand_on(tx, job, lease, max_tries)


def close(tx: Tx, lease: Lease, max_tries: int, *, job: jobs.Row | None = None) -> None:
    """Close the batch, counting what is left of its work, and its job with its last batch.

    If there is work in it that has tries left, it may be claimed again instead: photos that became
    work after its worker had loaded them. A worker moves each photo that it loads or counts a try,
    so this ends. `job` is what a `settle` that was the last returned in this transaction.
    """
    job = job or jobs.share(tx, lease.job)
    keyed, only = lease.owner is not None, tuple(job.filter.items())
    put = _close(job.stage, job.run_id, only, job.id, max_tries, keyed=keyed)
    of = {"b_batch": lease.batch, "b_term": lease.term, "goes_on": job.state in ACTIVE_JOBS}
    closed = driver.rows(tx, put, of | _bounds(lease))
    if not closed:
        return  # it is not in our hands
    hand_on(tx, job, lease, max_tries)
    ((goes_on,),) = closed
    if not goes_on:
        jobs.finish_if_over(tx, lease.job, wait=False)


def hand_on(tx: Tx, job: Any, lease: Lease, max_tries: int | None) -> None:
    """Give what the batch finished to the downstream job, if any; see `enqueuing.hand_on`."""
    if lease.owner is None:  # what an owner's batch moved was handed on at once
        enqueuing.hand_on(tx, job, lease.lo, lease.hi, max_tries)


def _ready(in_s: float) -> Update:
    values = {"state": BatchState.READY, "worker": None, "due": db_now() + in_s}
    return update(Batch).values(values)


def _put_down(tx: Tx, lease: Lease, put: Update) -> bool:
    """Take the batch out of its holder's hands; return whether it was in them."""
    mine = (Batch.id == lease.batch) & (Batch.term == lease.term)
    return tx.execute(put.where(mine, Batch.state == BatchState.LEASED)).rowcount == 1


def abandoned(tx: Tx) -> list[int]:
    """Return the ended jobs that have batches open which nobody renews: their workers are dead."""
    over = (Job.id == Batch.job_id) & Job.state.not_in(ACTIVE_JOBS)
    query = select(Job.id).where(over, *_unrenewed()).distinct()
    return list(tx.execute(query).scalars())


def close_abandoned(tx: Tx, job: int) -> int:
    """Close an ended job's batches that nobody renews, counting what is left; return how many."""
    row = jobs.lock(tx, job)
    if row.state in ACTIVE_JOBS:
        return 0
    work = work_of(row.stage, row.run_id, row.filter)
    return ranges.close_all(tx, job, work, and_(*_unrenewed()))


def _unrenewed() -> tuple[ColumnElement[bool], ...]:
    return (Batch.state != literal_column("'done'"), Batch.due <= db_now())


def held(tx: Tx, job: int) -> int:
    """Return how many of the job's batches are leased, those whose lease ran out left out."""
    now = select(db_now()).scalar_subquery()
    open_ = Batch.state != literal_column("'done'")
    leased = (Batch.state == BatchState.LEASED) & (Batch.due > now)
    query = select(func.count(Batch.id)).where(Batch.job_id == job, open_, leased)
    return int(tx.execute(query).scalar_one())


def next_due_s(tx: Tx, job: int) -> float | None:
    """Return the seconds until a batch of the job is due (negative: overdue); None without any."""
    query = select(func.min(Batch.due) - db_now())
    open_ = Batch.state != literal_column("'done'")
    return tx.execute(query.where(Batch.job_id == job, open_)).scalar_one()
