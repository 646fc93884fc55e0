"""Any history of imports, jobs, claims, deaths and settles: every effect once, nothing lost."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from pathlib import Path

import pytest
from catalogue.scene import Scene, empty, resolved
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from popq.catalogue.batches import Failed
from popq.catalogue.db import Catalogue
from popq.errors import LeaseLost, Outcome


class History(RuleBasedStateMachine):
    """Workers that claim, die, wake up again and settle, beside people who import and enqueue."""

    def make(self) -> Catalogue:
        raise NotImplementedError

    @initialize()
    def start(self):
        self.scene = Scene(self.make())
        self.job = None
        self.held = []  # every lease ever claimed and not ended: of live, frozen and dead workers
        self.terms = {}  # batch to its highest term
        self.effects = {}  # photo to how often its move was committed
        self.numbers = itertools.count()

    @rule(count=st.integers(1, 6))
    def import_more(self, count):
        for photo in self.scene.photos(count):
            self.effects[photo] = 0

    @rule(size=st.integers(1, 5), limit=st.none() | st.integers(1, 4))
    def enqueue(self, size, limit):
        made = self.scene.enqueue(size=size, limit=limit)
        if made.job is None:  # nothing to do, and nothing under way
            assert self.job is None
            assert "listed" not in self.scene.states().values()
            return
        assert made.new == (self.job is None)
        assert self.job in (None, made.job)
        self.job = made.job
        self.notice_the_end()
        if limit is None and self.job is not None:
            covered = self.open_ranges()
            for photo, state in self.scene.states().items():
                assert state != "listed" or any(lo <= photo <= hi for lo, hi in covered)

    @precondition(lambda self: self.job is not None)
    @rule()
    def claim(self):
        lease = self.scene.claim(self.job, worker=f"w{next(self.numbers)}")
        if lease is not None:
            assert lease.term == self.terms.get(lease.batch, 0) + 1
            self.held.append(lease)
        self.terms = dict(self.scene.rows("SELECT id, term FROM batches"))
        self.notice_the_end()

    @precondition(lambda self: self.held)
    @rule(data=st.data(), share=st.floats(0, 1))
    def settle(self, data, share):
        lease = data.draw(st.sampled_from(self.held))
        self.results(lease, share, self.scene.settle)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), share=st.floats(0, 1))
    def close(self, data, share):
        lease = data.draw(st.sampled_from(self.held))
        self.results(lease, share, self.scene.close)
        self.held.remove(lease)
        self.notice_the_end()

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def hand_back(self, data):
        lease = data.draw(st.sampled_from(self.held))
        self.held.remove(lease)
        self.scene.hand_back(lease)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def expire(self, data):
        self.scene.expire(data.draw(st.sampled_from(self.held)))

    @rule(share=st.floats(0, 1))
    def another_door_moves_photos(self, share):
        """A re-import with static URLs resolves photos that a worker may have in its hands."""
        listed = [photo for photo, state in self.scene.states().items() if state == "listed"]
        for photo in listed[: int(len(listed) * share * 0.3)]:
            statement = "UPDATE photos SET state = 'resolved', image_url = 'x' WHERE id = :id"
            self.scene.do(statement, id=photo)
            self.effects[photo] += 1

    def results(self, lease, share, settle):
        """Settle the first `share` of what the holder saw as work, and a failed try of the rest."""
        photos = [photo for photo in self.effects if lease.lo <= photo <= lease.hi]
        done = photos[: round(len(photos) * share)]
        states = self.scene.states()
        holds = self.scene.rows("SELECT term, state FROM batches WHERE id = :b", b=lease.batch)
        moves = [resolved(photo) for photo in done]
        failures = [Failed(photo, Outcome.TRANSIENT, "reset") for photo in photos[len(done) :]]
        if holds == [(lease.term, "leased")]:
            settle(lease, moves, failures)
            for photo in done:
                self.effects[photo] += states[photo] == "listed"
        else:
            before = self.scene.everything()
            with pytest.raises(LeaseLost):
                settle(lease, moves, failures)
            assert self.scene.everything() == before

    def open_ranges(self):
        query = "SELECT lo, hi FROM batches WHERE job_id = :j AND state <> 'done' ORDER BY lo"
        return self.scene.rows(query, j=self.job)

    def notice_the_end(self):
        """The active job is over when, and only when, no batch of it is open."""
        if self.job is not None:
            state = self.scene.scalar("SELECT state FROM jobs WHERE id = :j", j=self.job)
            assert (state == "done") == (self.open_ranges() == [])
            if state == "done":
                self.job = None

    @invariant()
    def every_effect_happened_once(self):
        for photo, state in self.scene.states().items():
            expected = {"listed": 0, "resolved": 1, "rejected": 0}[state]
            assert self.effects[photo] == expected, (photo, state)

    @invariant()
    def open_ranges_of_a_job_do_not_overlap(self):
        if self.job is not None:
            found = self.open_ranges()
            assert all(hi < lo for (_, hi), (lo, _) in itertools.pairwise(found)), found

    @invariant()
    def terms_only_grow(self):
        now = dict(self.scene.rows("SELECT id, term FROM batches"))
        assert all(now[batch] >= term for batch, term in self.terms.items())

    def teardown(self):
        if hasattr(self, "scene"):
            self.drain()
            self.scene.catalogue.close()

    def drain(self):
        """Whatever happened: one more job and one honest worker, and no photo is left."""
        self.scene.do("UPDATE batches SET due = 0, expiries = 0 WHERE state <> 'done'")
        job = self.scene.enqueue(size=3).job
        while job is not None and (lease := self.scene.claim(job)) is not None:
            photos = self.scene.work(lease, max_tries=None)
            self.scene.close(lease, [resolved(photo) for photo in photos])
        assert "listed" not in self.scene.states().values()
        assert self.scene.scalar("SELECT count(*) FROM jobs WHERE state <> 'done'") == 0


def relaxed(examples, steps):
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def test_any_history_on_sqlite(empty_sqlite):
    with tempfile.TemporaryDirectory() as folder:
        numbers = itertools.count()

        class OnSqlite(History):
            def make(self):
                path = Path(folder, f"{next(numbers)}.db")
                return Catalogue(f"sqlite:///{shutil.copy(empty_sqlite, path)}")

        run_state_machine_as_test(OnSqlite, settings=relaxed(40, 30))


def test_any_history_on_postgres(migrated_postgres):
    class OnPostgres(History):
        def make(self):
            catalogue = Catalogue(migrated_postgres)
            empty(catalogue)
            return catalogue

    run_state_machine_as_test(OnPostgres, settings=relaxed(15, 25))
