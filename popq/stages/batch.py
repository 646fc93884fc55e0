"""The engine of all photo stages: claim a batch, do its work with no transaction open, settle.

A stage says how to process photos; everything about leases, partial settles, retries, permits and
pauses is here, so that `popq resolve`, a polling worker and a Celery worker run the same code.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Protocol, runtime_checkable

import structlog

from popq.catalogue import batches, claims, hosts, jobs, scores
from popq.catalogue.batches import Failed, Lease, Move, Tally, WorkPhoto
from popq.catalogue.db import Catalogue, Tx
from popq.catalogue.scores import Scored
from popq.catalogue.states import CLAIMABLE_JOBS, exit_for
from popq.catalogue.work import FORWARD, counted
from popq.errors import (
    LeaseLost,
    Misconfigured,
    Outcome,
    Permanent,
    Throttled,
    Transient,
)
from popq.stages import revision
from popq.stages.crew import Crew
from popq.stages.heartbeat import Heartbeat
from popq.stages.permits import KeyRefused, OutOfPermits, Permits
from popq.stages.streak import FAULTS, HostDown, Streak
from popq.stages.stream import Turned

log = structlog.get_logger()

#: What a stage says of a photo: it moved, a try failed, or it was scored.
Result = Move | Failed | Scored

#: A worker that has no result for so long is taken for dead: every size of a photo may be asked
#: for, and each may drip for two minutes.
LONGEST_PHOTO_S: Final = 900.0
#: More leases than calls that are under way at once, were each to last so long, only take turns.
LONG_CALL_S: Final = 4.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How patient workers are; seconds, and tries of a photo in one job."""

    lease_s: float
    settle_every_s: float
    retry_wait_s: float
    throttle_pause_s: float
    max_tries: int


class Stage(Protocol):
    """What the engine needs of a stage."""

    @property
    def name(self) -> str:
        """The stage's name in `jobs`."""

    @property
    def batch_size(self) -> int:
        """Photos in a batch: about a minute's work."""

    @property
    def rates(self) -> dict[str, float]:
        """Calls an hour of each throttled host that it uses, by the host's name."""

    def process(self, photos: Sequence[WorkPhoto], permits: Permits) -> Generator[Result]:
        """Yield what came of each photo, in any order."""


@runtime_checkable
class ByOwner(Protocol):
    """A stage that also works batches of one owner's photos."""

    def process_owner(
        self, lease: Lease, photos: Sequence[WorkPhoto], permits: Permits
    ) -> Generator[Result | Turned]:
        """Yield what came of each photo, in any order, and each page that was turned."""


def each(handle: Callable[[WorkPhoto], Result], photos: Sequence[WorkPhoto]) -> Iterator[Result]:
    """Yield what `handle` makes of each photo, its `Transient` and `Permanent` errors included."""
    for photo in photos:
        try:
            yield handle(photo)
        except Transient as error:
            yield Failed(photo.id, error.outcome, str(error), error.http_status)
        except Permanent as error:
            note = Failed(photo.id, error.outcome, str(error), error.http_status)
            yield Move(photo.id, exit_for(error.outcome), error.outcome, note=note)


#: Closes a batch or hands it back, in the transaction of its last settle, of the job given.
End = Callable[[Tx, Any], None]


class _Ledger:
    """Results of one batch that are not settled yet."""

    def __init__(
        self, catalogue: Catalogue, lease: Lease, pace: Pace, host_names: Sequence[str]
    ) -> None:
        self.catalogue = catalogue
        self.lease = lease
        self.hosts = host_names
        self.pace = pace
        self.to_retry = False
        #: Whether the job still runs, as of the last settle: somebody may pause or cancel it.
        self.goes_on = True
        #: The owner's page to ask for next, once one was turned.
        self.page: int | None = None
        self._since = time.monotonic()
        # Whoever ends the process settles from a thread of its own.
        self._lock = threading.RLock()
        self._clear()

    def _clear(self) -> None:
        self.moves: list[Move] = []
        self.failures: list[Failed] = []
        self.scored: list[Scored] = []

    def add(self, result: Result, tried: dict[str, int]) -> None:
        with self._lock:
            self._add(result, tried)

    def _add(self, result: Result, tried: dict[str, int]) -> None:
        if isinstance(result, Scored):
            self.scored.append(result)
        elif isinstance(result, Move):
            self.moves.append(result)
        elif tried.get(result.outcome, 0) + 1 >= batches.FINAL_AFTER.get(result.outcome, math.inf):
            state = exit_for(result.outcome)
            self.moves.append(Move(result.photo, state, result.outcome, note=result))
        else:
            self.failures.append(result)
            self.to_retry = self.to_retry or counted(tried) + 1 < self.pace.max_tries

    def excuse(self) -> None:
        """Blame the host, not the photos, for the faults that are not settled yet."""
        with self._lock:
            self.failures = [
                replace(failed, outcome=Outcome.HOST_DOWN)
                if failed.outcome is Outcome.TRANSIENT
                else failed
                for failed in self.failures
            ]

    def due(self) -> bool:
        return time.monotonic() - self._since >= self.pace.settle_every_s

    def settle(self, end: End | None = None) -> None:
        """Record what is finished; `end` closes the batch or hands it back in the same breath."""
        with self._lock:
            self._settle(end)

    def let_go(self) -> None:
        """Settle and hand the batch back at once, while the thread that works it hangs."""
        with contextlib.suppress(LeaseLost):  # the thread was quicker after all
            _end(self, 0.0)

    def renew(self) -> None:
        """Renew the lease, whatever is finished or not."""
        lease_s = self.pace.lease_s
        with self.catalogue.begin() as tx:
            batches.settle(tx, self.lease, [], [], Tally(), lease_s=lease_s)

    def _settle(self, end: End | None) -> None:
        now = time.monotonic()
        moved = sum(move.state == FORWARD.get(self.lease.stage) for move in self.moves)
        tally = Tally(
            moved=moved,
            exited=len(self.moves) - moved,
            failed=len(self.failures),
            bytes=sum(int(move.values.get("bytes") or 0) for move in self.moves),
            seconds=now - self._since,
        )
        failures = self.failures + [move.note for move in self.moves if move.note is not None]
        lease_s = self.pace.lease_s
        with self.catalogue.begin() as tx:
            if self.scored and self.lease.run_id is not None:
                wrote = scores.record(tx, self.lease.run_id, self.scored, _origin(self.lease))
                tally = replace(tally, moved=wrote)
            lease, moves, last = self.lease, self.moves, end is not None
            job = batches.settle(
                tx, lease, moves, failures, tally, lease_s=lease_s, page=self.page, last=last
            )
            if self.moves:
                for host in self.hosts:
                    hosts.calm(tx, host)
            if end is not None:
                end(tx, job)
        self.goes_on = job.state in CLAIMABLE_JOBS
        self.page = None
        self._since = now
        self._clear()


def _origin(lease: Lease) -> scores.Origin:
    return scores.Origin(lease.job, revision.of_code(), lease.only.get("again_after"))


def register_hosts(catalogue: Catalogue, stage: Stage) -> None:
    """Bring the rates of the stage's hosts in the catalogue up to the settings."""
    if stage.rates:
        with catalogue.begin() as tx:
            for name, per_hour in stage.rates.items():
                hosts.register(tx, name, per_hour)


def work_one(
    catalogue: Catalogue,
    stage: Stage,
    job: int,
    pace: Pace,
    crew: Crew,
) -> bool:
    """Claim one batch of the job and work it; return whether there was one to claim.

    A paused host, or one without calls to give, yields nothing to claim, so that no worker slot
    sleeps. Raises `Misconfigured` after pausing the job when it cannot go on without a person.
    """
    names = list(stage.rates)
    with catalogue.read() as tx:
        refused = hosts.disabled(tx, names)
        ready = not names or any(hosts.is_open(tx, name) for name in names)
        due_s = batches.next_due_s(tx, job)
        # Bounded by the number of keys, for resolve. Two that look at once may both find room: a
        # lease too many costs nothing but a turn.
        ready = ready and (not names or batches.held(tx, job) < _most_leases(stage))
    if refused is not None:
        _stop_job(catalogue, job, refused)
    if due_s is None:
        # Two that closed its last batches at once each took the other's for open.
        with catalogue.begin() as tx:
            jobs.finish_if_over(tx, job)
    if not ready or due_s is None or due_s > 0:
        return False

    def claim() -> Lease | None:
        with catalogue.single() as tx:
            lease = claims.claim_sound(tx, job, crew.worker, pace.lease_s)
        if lease is not None:
            return lease
        with catalogue.begin() as tx:
            return claims.claim(tx, job, crew.worker, pace.lease_s)

    def put_off(lease: Lease) -> None:
        with catalogue.begin() as tx:
            batches.hand_back(tx, lease, pace.lease_s)

    with crew.alone.holding(claim, put_off) as (lease, found):
        if lease is not None:
            crew.lookout.call()  # there may be work for others
            _hold(catalogue, stage, lease, pace, crew)
    return found


def _hold(catalogue: Catalogue, stage: Stage, lease: Lease, pace: Pace, crew: Crew) -> None:
    """Work a claimed batch so that whoever ends the process can put it down."""
    ledger = _Ledger(catalogue, lease, pace, list(stage.rates))
    # What every line that is logged inside the batch says of it, whoever logs it.
    named = structlog.contextvars.bound_contextvars(
        stage=lease.stage,
        job=lease.job,
        batch=lease.batch,
        term=lease.term,
        worker=crew.worker,
    )
    let_go = partial(copy_context().run, ledger.let_go)
    with named, crew.hands.holding(let_go) as may_begin:
        try:
            if may_begin:
                _work(stage, ledger, crew)
            else:
                _end(ledger, 0.0)
        except LeaseLost as lost:
            log.warning("lease lost", why=str(lost))


def close_abandoned(catalogue: Catalogue) -> None:
    """Close batches of cancelled jobs whose workers died with them."""
    with catalogue.read() as tx:
        found = batches.abandoned(tx)
    for job in found:
        with catalogue.begin() as tx:
            closed = batches.close_abandoned(tx, job)
        log.info("abandoned batches closed", job=job, batches=closed)


def _most_leases(stage: Stage) -> int:
    return sum(math.ceil(per_hour / 3600 * LONG_CALL_S) for per_hour in stage.rates.values())


def _stop_job(catalogue: Catalogue, job: int, why: str) -> None:
    with catalogue.begin() as tx:
        jobs.pause(tx, job, why)
    message = f"{why} The job is paused and nothing is lost"
    raise Misconfigured(f"{message}; set it right, run `popq doctor`, and start it again.")


def _work(stage: Stage, ledger: _Ledger, crew: Crew) -> None:
    catalogue, lease, pace = ledger.catalogue, ledger.lease, ledger.pace
    with catalogue.read() as tx:
        photos = batches.work(tx, lease, pace.max_tries)
    names = list(stage.rates)
    # A second's worth of calls at a time: few transactions, and little lost with a worker.
    size = max(1, math.ceil(max(stage.rates.values(), default=3600.0) / 3600))
    permits = Permits(catalogue, names, min(size, 100))
    stopped: Misconfigured | None = None
    broken: Exception | None = None
    heart = Heartbeat(ledger.renew, lease_s=pace.lease_s, patience_s=LONGEST_PHOTO_S)
    try:
        with heart:
            back_in_s = _process(stage, photos, permits, ledger, crew, heart)
    except LeaseLost:
        raise
    except OutOfPermits as error:
        back_in_s = error.wait_s
    except Throttled as error:
        back_in_s = _pause_host(catalogue, error, pace, names)
    except HostDown as error:
        ledger.excuse()
        back_in_s = _pause_all(catalogue, names, pace, str(error))
    except KeyRefused as error:
        back_in_s = _disable_host(catalogue, error)
    except Misconfigured as error:
        back_in_s, stopped = 0.0, error
    except Exception as error:  # noqa: BLE001 - raised again below
        # Whatever it is (a store that is down, say), this worker lives: the batch is handed back,
        # so that no expiry is counted against photos that have done nothing.
        back_in_s, broken = pace.retry_wait_s, error
    _end(ledger, back_in_s)
    if stopped is not None:
        _stop_job(catalogue, lease.job, str(stopped))
    if broken is not None:
        raise broken


def _process(
    stage: Stage,
    photos: Sequence[WorkPhoto],
    permits: Permits,
    ledger: _Ledger,
    crew: Crew,
    heart: Heartbeat,
) -> float | None:
    """Work through the photos; return the seconds after which the batch is due again, or None."""
    tried = {photo.id: photo.tries for photo in photos}
    unanswered = set(tried)
    with closing(_results(stage, ledger.lease, photos, permits)) as results:
        for result in results:
            if isinstance(result, Turned):
                ledger.page = result.page
                continue
            ledger.add(result, tried.get(result.photo, {}))
            if stage.rates:
                _look_at_host(result, crew.streak(stage.name))
            unanswered.discard(result.photo)
            heart.progress()
            if crew.stop.is_set():
                return 0.0
            if ledger.due():
                ledger.settle()
                if not ledger.goes_on:
                    return 0.0
    for photo in sorted(unanswered):
        # Each photo of a batch is moved or counted, so that a batch cannot come round for ever.
        silent = Failed(photo, Outcome.TRANSIENT, "the stage said nothing of it")
        ledger.add(silent, tried[photo])
    if not ledger.to_retry:
        return None
    longest = max(map(counted, tried.values()), default=0)
    return ledger.pace.retry_wait_s * 2.0 ** min(longest, 8)


def _look_at_host(result: Result, streak: Streak) -> None:
    """Raise `HostDown` when this is one fault too many in a row."""
    if not isinstance(result, Failed) or result.outcome is not Outcome.TRANSIENT:
        streak.answered()
    elif streak.failed(result.photo):
        raise HostDown(f"{FAULTS} photos in a row failed, the last: {result.message}")


def _results(
    stage: Stage, lease: Lease, photos: Sequence[WorkPhoto], permits: Permits
) -> Generator[Result | Turned]:
    if lease.owner is not None and isinstance(stage, ByOwner):
        return stage.process_owner(lease, photos, permits)
    return stage.process(photos, permits)


def _end(ledger: _Ledger, back_in_s: float | None) -> None:
    lease = ledger.lease
    moved, failed = len(ledger.moves) + len(ledger.scored), len(ledger.failures)
    if back_in_s is None:
        ledger.settle(lambda tx, job: batches.close(tx, lease, ledger.pace.max_tries, job=job))
    else:
        tries = ledger.pace.max_tries
        ledger.settle(lambda tx, job: batches.hand_back(tx, lease, back_in_s, tries, job=job))
    log.info(
        "batch closed" if back_in_s is None else "batch handed back",
        settled=moved,
        failed=failed,
    )


def _pause_host(catalogue: Catalogue, error: Throttled, pace: Pace, names: Sequence[str]) -> float:
    """Pause the host; return how long the batch waits: not at all while another host is open."""
    with catalogue.begin() as tx:
        wait_s = hosts.pause(tx, error.host, pace.throttle_pause_s, error.retry_after_s, str(error))
        others = any(hosts.is_open(tx, name) for name in names if name != error.host)
    log.warning("host paused", host=error.host, seconds=round(wait_s, 1), why=str(error))
    return 0.0 if others else wait_s


def _pause_all(catalogue: Catalogue, names: Sequence[str], pace: Pace, why: str) -> float:
    """Pause every host of the stage (keys are doors to one service); return for how long."""
    with catalogue.begin() as tx:
        waits = [hosts.pause(tx, name, pace.throttle_pause_s, None, why) for name in names]
    log.warning("hosts rest", hosts=names, seconds=round(max(waits), 1), why=why)
    return max(waits)


def _disable_host(catalogue: Catalogue, error: KeyRefused) -> float:
    with catalogue.begin() as tx:
        hosts.disable(tx, error.host, str(error))
    log.warning("key taken out", host=error.host, why=str(error))
    return 0.0
