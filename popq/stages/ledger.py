"""The ledger of one batch: results that are not settled yet, and the ways to settle them."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import structlog

from popq.catalogue import batches, hosts, scores, steps
from popq.catalogue.batches import Failed, Lease, Move, Tally
from popq.catalogue.db import Catalogue, Tx
from popq.catalogue.scores import Scored
from popq.catalogue.states import CLAIMABLE_JOBS, exit_for
from popq.catalogue.work import FORWARD, counted
from popq.errors import LeaseLost, Outcome
from popq.stages import revision

log = structlog.get_logger()

#: What a stage says of a photo: it moved, a try failed, or it was scored.
Result = Move | Failed | Scored


@dataclass(frozen=True, slots=True)
class Pace:
    """How patient workers are; seconds, and tries of a photo in one job."""

    lease_s: float
    settle_every_s: float
    retry_wait_s: float
    throttle_pause_s: float
    max_tries: int


#: Closes a batch or hands it back, in the transaction of its last settle, of the job given.
End = Callable[[Tx, Any], None]


class Ledger:
    """Results of one batch that are not settled yet."""

    def __init__(self, catalogue: Catalogue, lease: Lease, pace: Pace) -> None:
        self.catalogue = catalogue
        self.lease = lease
        self.pace = pace
        self.to_retry = False
        #: Whether the job still runs, as of the last settle: somebody may pause or cancel it.
        self.goes_on = True
        #: The owner's page to ask for next, once one was turned.
        self.page: int | None = None
        self._since = time.monotonic()
        # Whoever ends the process settles from a thread of its own.
        self._lock = threading.RLock()
        self._answered: set[str] = set()
        self._clear()

    def _clear(self) -> None:
        self.moves: list[Move] = []
        self.failures: list[Failed] = []
        self.scored: list[Scored] = []
        self._answered.clear()

    def answered(self, host: str) -> None:
        """Note that the host answered: its next pause is a short one again."""
        with self._lock:
            self._answered.add(host)

    @property
    def heard(self) -> set[str]:
        """The hosts that answered since the last settle."""
        with self._lock:
            return set(self._answered)

    def add(self, result: Result, tried: dict[str, int]) -> None:
        """Take up what came of a photo; `tried` are its failed tries before, by outcome."""
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
            now = tried | {result.outcome: tried.get(result.outcome, 0) + 1}
            self.to_retry = self.to_retry or counted(now) < self.pace.max_tries

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
        """Return whether it is time for a partial settle."""
        return time.monotonic() - self._since >= self.pace.settle_every_s

    def settle(self, end: End | None = None) -> None:
        """Record what is finished; `end` closes the batch or hands it back in the same breath."""
        with self._lock:
            self._settle(end)

    def let_go(self) -> None:
        """Settle and hand the batch back at once, while the thread that works it hangs."""
        with contextlib.suppress(LeaseLost):  # the thread was quicker after all
            end(self, 0.0)

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
                if failures or self.moves:
                    # All that is written below, since each statement locks but its own in order.
                    results: list[Result] = [*self.scored, *self.moves, *failures]
                    written = {result.photo for result in results}
                    steps.hold(tx, written, moving=bool(self.moves))
                wrote = scores.record(tx, self.lease.run_id, self.scored, _origin(self.lease))
                tally = replace(tally, moved=wrote)
            lease, moves, last = self.lease, self.moves, end is not None
            job = batches.settle(
                tx, lease, moves, failures, tally, lease_s=lease_s, page=self.page, last=last
            )
            if end is not None:
                end(tx, job)
            # Hosts last, and in one order everywhere, so that no two wait for each other.
            for host in sorted(self._answered):
                hosts.calm(tx, host)
        self.goes_on = job.state in CLAIMABLE_JOBS
        self.page = None
        self._since = now
        self._clear()


def _origin(lease: Lease) -> scores.Origin:
    return scores.Origin(lease.job, revision.of_code(), lease.only.get("again_after"))


def end(ledger: Ledger, back_in_s: float | None) -> None:
    """Settle and close the batch, or hand it back, due again after `back_in_s` seconds."""
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
