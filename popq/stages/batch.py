"""The engine of all photo stages: claim a batch, do its work with no transaction open, settle.

A stage says how to process photos; everything about leases, partial settles, retries, permits and
pauses is here, so that `popq resolve`, a polling worker and a Celery worker run the same code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from contextvars import copy_context
from functools import partial
from typing import Final, Protocol, runtime_checkable

import structlog

from popq.catalogue import batches, claims, hosts, jobs
from popq.catalogue.batches import Failed, Lease, Move, WorkPhoto
from popq.catalogue.db import Catalogue
from popq.catalogue.states import exit_for
from popq.catalogue.work import counted
from popq.errors import (
    LeaseLost,
    Misconfigured,
    Outcome,
    Permanent,
    Throttled,
    Transient,
)
from popq.stages.crew import Crew
from popq.stages.heartbeat import Heartbeat
from popq.stages.ledger import Ledger, Pace, Result, end
from popq.stages.permits import KeyRefused, OutOfPermits, Permits, PutOff
from popq.stages.streak import FAULTS, HostDown, Streak
from popq.stages.stream import Turned

log = structlog.get_logger()

#: A worker that has no result for so long is taken for dead: every size of a photo may be asked
#: for, and each may drip for two minutes.
LONGEST_PHOTO_S: Final = 900.0
#: More leases than calls that are under way at once, were each to last so long, only take turns.
LONG_CALL_S: Final = 4.0


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
class AsksAside(Protocol):
    """A stage that now and then asks another service than the one it spends its calls on."""

    @property
    def aside(self) -> dict[str, float]:
        """Calls an hour of each host of that service, by the host's name."""


@runtime_checkable
class ByOwner(Protocol):
    """A stage that also works batches of one owner's photos."""

    def process_owner(
        self, lease: Lease, photos: Sequence[WorkPhoto], permits: Permits
    ) -> Generator[Result | Turned]:
        """Yield what came of each photo, in any order, and each page that was turned."""


def each(handle: Callable[[WorkPhoto], Result], photos: Sequence[WorkPhoto]) -> Iterator[Result]:
    """Yield what `handle` makes of each photo, its `Transient` and `Permanent` errors included.

    A photo that is put off is passed over; raises `PutOff` in the end if there was one.
    """
    waits = []
    for photo in photos:
        try:
            yield handle(photo)
        except PutOff as error:
            waits.append(error.wait_s)
        except Transient as error:
            yield Failed(photo.id, error.outcome, str(error), error.http_status)
        except Permanent as error:
            note = Failed(photo.id, error.outcome, str(error), error.http_status)
            yield Move(photo.id, exit_for(error.outcome), error.outcome, note=note)
    if waits:
        log.info("photos put off", photos=len(waits), seconds=round(min(waits), 1))
        raise PutOff(min(waits))


def register_hosts(catalogue: Catalogue, stage: Stage) -> None:
    """Bring the rates of the stage's hosts in the catalogue up to the settings."""
    rates = stage.rates | (stage.aside if isinstance(stage, AsksAside) else {})
    if rates:
        with catalogue.begin() as tx:
            for name, per_hour in sorted(rates.items()):
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
        # Bounded by the number of keys, for resolve. Two that look at once may both find room: a
        # lease too many costs nothing but a turn.
        ready = ready and (not names or batches.held(tx, job) < _most_leases(stage))
        # Where it has just found one, it looks by claiming.
        goes_on = ready and crew.behind(job) is not None
        due_s = 0.0 if goes_on else batches.next_due_s(tx, job)
    if refused is not None:
        _stop_job(catalogue, job, refused)
    if due_s is None:
        _end(catalogue, job)
    if not ready or due_s is None or due_s > 0:
        return False

    def claim() -> Lease | None:
        behind = crew.behind(job)
        with catalogue.single() as tx:
            lease = claims.claim_sound(tx, job, crew.worker, pace.lease_s, behind=behind)
        crew.reached(job, None if lease is None else lease.batch)
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
    if goes_on and not found:
        _end(catalogue, job)
    return found


def _end(catalogue: Catalogue, job: int) -> None:
    """End a job that is over: two that closed its last batches at once left that to the next."""
    with catalogue.begin() as tx:
        jobs.finish_if_over(tx, job)


def _hold(catalogue: Catalogue, stage: Stage, lease: Lease, pace: Pace, crew: Crew) -> None:
    """Work a claimed batch so that whoever ends the process can put it down."""
    ledger = Ledger(catalogue, lease, pace)
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
                end(ledger, 0.0)
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


def _work(stage: Stage, ledger: Ledger, crew: Crew) -> None:
    catalogue, lease, pace = ledger.catalogue, ledger.lease, ledger.pace
    with catalogue.read() as tx:
        photos = batches.work(tx, lease, pace.max_tries)
    names = list(stage.rates)
    # A second's worth of calls at a time: few transactions, and little lost with a worker. No more
    # than photos: what is left of a grant ends with the batch, and more calls are granted again.
    size = math.ceil(max(stage.rates.values(), default=3600.0) / 3600)
    permits = Permits(catalogue, names, max(1, min(size, 100, len(photos))))
    stopped: Misconfigured | None = None
    broken: Exception | None = None
    back_in_s: float | None
    try:
        back_in_s = _go_through(stage, photos, permits, ledger, crew)
    except LeaseLost:
        raise
    except Misconfigured as error:
        back_in_s, stopped = 0.0, error
    except Exception as error:  # noqa: BLE001 - raised again below
        # Whatever it is (a store that is down, a pause that cannot be written), this worker lives:
        # what is finished is kept and the batch handed back, so that no expiry is counted against
        # photos that have done nothing.
        back_in_s, broken = pace.retry_wait_s, error
    end(ledger, back_in_s)
    if stopped is not None:
        _stop_job(catalogue, lease.job, str(stopped))
    if broken is not None:
        raise broken


def _go_through(
    stage: Stage, photos: Sequence[WorkPhoto], permits: Permits, ledger: Ledger, crew: Crew
) -> float | None:
    """Process the photos, and do to hosts what their answers ask for; return as `_process` does."""
    pace = ledger.pace
    heart = Heartbeat(ledger.renew, lease_s=pace.lease_s, patience_s=LONGEST_PHOTO_S)
    try:
        with heart:
            return _process(stage, photos, permits, ledger, crew, heart)
    except PutOff as error:
        # Each of its photos looks for a call again: not sooner than others are tried again.
        return max(error.wait_s, pace.retry_wait_s)
    except OutOfPermits as error:
        return error.wait_s
    except (Throttled, HostDown) as error:
        return _pause(stage, ledger, error)
    except KeyRefused as error:
        return _disable_host(ledger.catalogue, error)


def _process(
    stage: Stage,
    photos: Sequence[WorkPhoto],
    permits: Permits,
    ledger: Ledger,
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
                _look_at_host(result, crew.streak(stage.name), permits, ledger)
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


def _look_at_host(result: Result, streak: Streak, permits: Permits, ledger: Ledger) -> None:
    """Note that the host answered; raise `HostDown` when this is one fault too many in a row."""
    asked, permits.asked = permits.asked, ""
    if permits.heard:  # since the last result
        permits.heard = False
        streak.answered()
    if not isinstance(result, Failed) or result.outcome is not Outcome.TRANSIENT:
        streak.answered()
        if asked:
            ledger.answered(asked)
    elif streak.failed(result.photo):
        raise HostDown(f"{FAULTS} photos in a row failed, the last: {result.message}")


def _results(
    stage: Stage, lease: Lease, photos: Sequence[WorkPhoto], permits: Permits
) -> Generator[Result | Turned]:
    if lease.owner is not None and isinstance(stage, ByOwner):
        return stage.process_owner(lease, photos, permits)
    return stage.process(photos, permits)


def _pause(stage: Stage, ledger: Ledger, error: Throttled | HostDown) -> float:
    """Pause the host with every other key to it; return for how long the batch must wait.

    A 429 may be about the address that asks as well as about the key, and a host that is down is
    down for all. A key that has been answered since begins with a short pause again, so that one
    that is throttled alone does not hold up the others for long.
    """
    aside = stage.aside if isinstance(stage, AsksAside) else {}
    own, why = error.host not in aside, str(error)
    names = set(stage.rates if own else aside)
    if isinstance(error, HostDown) and own:
        ledger.excuse()
    asked_s = error.retry_after_s if isinstance(error, Throttled) else None
    with ledger.catalogue.begin() as tx:
        waits = []
        calmed = ledger.heard - {error.host}
        # Each row once, in one order everywhere: two that are told 429 at once must not wait for
        # each other.
        for name in sorted({*names, *calmed}):
            if name in calmed:
                hosts.calm(tx, name)
            if name in names:
                waits.append(hosts.pause(tx, name, ledger.pace.throttle_pause_s, asked_s, why))
    shown = error.host or ", ".join(sorted(names))
    log.warning("host paused", host=shown, seconds=round(max(waits), 1), why=why)
    return min(waits) if own else 0.0


def _disable_host(catalogue: Catalogue, error: KeyRefused) -> float:
    with catalogue.begin() as tx:
        hosts.disable(tx, error.host, str(error))
    log.warning("key taken out", host=error.host, why=str(error))
    return 0.0
