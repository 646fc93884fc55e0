"""The drain loop: work whatever is claimable, wait for more, in as many threads as asked.

It is the floor under every way of running popq: `popq resolve` drains one job, `popq worker`
without a broker drains all, and a Celery worker runs it beside its doorbells. It finds lost leases
and work that nobody rang for, so a lost message costs seconds and nothing else.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Final

import structlog

from popq import stopping
from popq.catalogue import batches, jobs
from popq.catalogue.db import Catalogue, Watch
from popq.catalogue.jobs import Progress
from popq.catalogue.states import CLAIMABLE_JOBS, JobState
from popq.errors import BadInput, Misconfigured, PopqError, ServiceDown
from popq.stages.batch import Stage, close_abandoned, register_hosts, work_one
from popq.stages.crew import Crew
from popq.stages.ledger import Pace

log = structlog.get_logger()

#: A worker looks for work at least this often, also when nobody tells it of any.
SWEEP_S: Final = 2.0
#: How often the lookout looks whether another process committed.
GLANCE_S: Final = 0.1
#: … and how long it waits at least for a batch that is nearly due.
SHORTEST_S: Final = 0.02
#: How long a thread that was told to stop may take over its photo before its batch is handed back.
GRACE_S: Final = 4.0


class Drain:
    """Drains jobs of some stages with one catalogue, one pace and one stop signal."""

    def __init__(
        self,
        catalogue: Catalogue,
        stages: Mapping[str, Callable[[int | None], Stage]],
        pace: Pace,
        worker: str,
    ) -> None:
        """`stages` makes each stage on first use, from the run's id for scoring (None else)."""
        self.catalogue = catalogue
        self.pace = pace
        self._crew = Crew(worker)
        self._makers = stages
        self._made: dict[tuple[str, int | None], Stage] = {}
        self._complaints: dict[str, str] = {}
        self._lock = threading.Lock()

    @property
    def stop(self) -> threading.Event:
        """The signal to stop: threads settle what is finished and hand the rest back."""
        return self._crew.stop

    @stop.setter
    def stop(self, event: threading.Event) -> None:
        self._crew.stop = event

    def stage(self, name: str, run_id: int | None) -> Stage:
        """Return the stage, made once in this process; its hosts' rates are registered.

        `name` may be another way to do it: `resolve-oembed`.
        """
        with self._lock:
            if (name, run_id) not in self._made:
                for other in [key for key in self._made if key[0] == name]:
                    del self._made[other]  # a run's network is large: keep only the newest
                stage = self._makers[name](run_id)
                register_hosts(self.catalogue, stage)
                self._made[name, run_id] = stage
            return self._made[name, run_id]

    def step(self, job: int | None = None) -> bool:
        """Work one batch of the job, or of any of these stages; return whether there was one."""
        with self.catalogue.read() as tx:
            if job is not None:
                ids = [job]
            else:
                ids = [found for found, _ in jobs.claimable(tx, tuple(self._makers))]
            rows = [jobs.get(tx, found) for found in ids]
        for row in rows:
            try:
                way = row.stage if row.via is None else f"{row.stage}-{row.via}"
                stage = self.stage(way, row.run_id)
            except (Misconfigured, BadInput) as error:
                if job is not None:
                    raise
                # This worker cannot (no key, or not the run's weights): others may, and it may do
                # other jobs.
                self._complain(row.stage, str(error))
                continue
            if work_one(self.catalogue, stage, row.id, self.pace, self._crew):
                return True
        if job is None:
            close_abandoned(self.catalogue)
        return False

    def _complain(self, stage: str, why: str) -> None:
        if self._complaints.get(stage) != why:
            self._complaints[stage] = why
            log.error("this worker cannot do the stage", stage=stage, why=why)

    def run_job(self, job: int, threads: int, on_progress: Callable[[Progress], None]) -> Progress:
        """Drain one job in `threads` threads until it is over, and return how it ended.

        `on_progress` is called twice a second in the calling thread. An interrupt of that thread
        settles what is finished, hands the rest back and goes on up. Raises what a worker raised
        (`Misconfigured`, say), and `Misconfigured` when the job was paused.
        """
        errors: list[BaseException] = []

        def over() -> bool:
            with self.catalogue.read() as tx:
                ended = jobs.get(tx, job).state not in CLAIMABLE_JOBS
                return ended or jobs.waits_for(tx, job) is not None

        with self._watching() as watch:

            def body() -> None:
                try:
                    self._loop(watch, lambda: self.step(job), over, lambda: self._due_s(job))
                except BaseException as error:  # noqa: BLE001 - handed to the calling thread
                    errors.append(error)
                    self.stop.set()

            workers = _start(body, threads)
            try:
                while any(thread.is_alive() for thread in workers):
                    on_progress(self._progress(job))
                    for thread in workers:
                        thread.join(0.5 / threads)
            finally:
                self.finish()
                for thread in workers:
                    thread.join(GLANCE_S)  # one that hangs holds nothing any more
        if errors:
            raise errors[0]
        final = self._progress(job)
        on_progress(final)
        self._check_not_paused(final)
        return final

    def _check_not_paused(self, final: Progress) -> None:
        job = f"Job {final.job} ({final.stage})"
        if final.state == JobState.PAUSED:
            raise Misconfigured(f"{job} is paused: {final.message}")
        with self.catalogue.read() as tx:
            paused = jobs.waits_for(tx, final.job)
        if paused is not None:
            message = f"{job} waits for job {paused}, which is paused"
            raise Misconfigured(f"{message}; `popq jobs resume {paused}` lets both go on.")

    def serve(self, threads: int) -> None:
        """Drain every job of these stages until `stop` is set; errors are logged, work goes on.

        Returns within seconds of that: see `finish`.
        """
        with self._watching() as watch:
            workers = _start(partial(self._serve_one, watch), threads)
            stopping.wait(self.stop)
            self.finish()
            for thread in workers:
                thread.join(GLANCE_S)  # one that hangs holds nothing any more

    def _serve_one(self, watch: Watch | None) -> None:
        while not self.stop.is_set():
            try:
                self._loop(watch, self.step, lambda: False, lambda: None)
            except Misconfigured as error:
                log.error("stage stopped", why=str(error))  # noqa: TRY400 - no stack needed
                self.stop.wait(SWEEP_S)
            except ServiceDown as error:
                log.error("will try again", why=str(error))  # noqa: TRY400 - no stack needed
                self.stop.wait(SWEEP_S)
            except PopqError as error:
                log.warning("will try again", why=str(error))
                self.stop.wait(SWEEP_S)
            except Exception:
                # A mistake of ours in one stage must not end the worker's other work.
                log.exception("will try again")
                self.stop.wait(SWEEP_S)

    def finish(self) -> None:
        """Stop: threads settle what is finished and hand the rest back.

        The batch of a thread that hangs in a photo for longer than the grace is settled and handed
        back for it.
        """
        self.stop.set()
        self._crew.lookout.call()
        if hanging := self._crew.hands.put_down(GRACE_S):
            log.warning("threads hang: what they held is handed back", batches=hanging)

    def work_for(self, seconds: float, job: int, after_each: Callable[[], None]) -> bool:
        """Work the job's batches for about so long; return whether work is left to claim now.

        `after_each` is called after every batch.
        """
        until = time.monotonic() + seconds
        while not self.stop.is_set() and self.step(job):
            after_each()
            if time.monotonic() >= until:
                return True
        return False

    def _progress(self, job: int) -> Progress:
        with self.catalogue.read() as tx:
            return jobs.progress(tx, job)[0]

    def _due_s(self, job: int) -> float | None:
        with self.catalogue.read() as tx:
            return batches.next_due_s(tx, job)

    def _loop(
        self,
        watch: Watch | None,
        step: Callable[[], bool],
        over: Callable[[], bool],
        due_s: Callable[[], float | None],
    ) -> None:
        lookout = self._crew.lookout
        while not self.stop.is_set():
            calls = lookout.calls
            if step():
                continue
            if over():
                lookout.call()
                return
            left_s = due_s()
            # What is overdue and yet not to be had (its host rests) waits for the next sweep.
            wait_s = max(left_s, SHORTEST_S) if left_s is not None and left_s > 0 else None
            lookout.wait(calls, partial(self._look, watch, wait_s), wait_s)

    def _look(self, watch: Watch | None, due_s: float | None) -> bool:
        """Wait until the next batch is due or it is time to sweep; return early if all must know.

        That is: somebody committed, or this process is to stop.
        """
        sweep_s = SWEEP_S * random.uniform(0.7, 1.3)  # noqa: S311 - jitter, no secret
        until = time.monotonic() + (sweep_s if due_s is None else min(sweep_s, due_s))
        while (left := until - time.monotonic()) > 0:
            if self.stop.wait(min(left, GLANCE_S)):
                return True
            if watch is not None and watch.changed():
                return True
        return False

    @contextmanager
    def _watching(self) -> Iterator[Watch | None]:
        watch = self.catalogue.watch()
        try:
            yield watch
        finally:
            if watch is not None:
                watch.close()


def _start(body: Callable[[], None], threads: int) -> list[threading.Thread]:
    """Start so many threads; the process may end while one of them hangs."""
    names = [f"drain-{number}" for number in range(threads)]
    workers = [threading.Thread(target=body, name=name, daemon=True) for name in names]
    for thread in workers:
        thread.start()
    return workers
