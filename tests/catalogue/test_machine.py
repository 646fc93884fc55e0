"""Any history of imports, jobs, claims, deaths, orders and settles: every effect once, all told."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tempfile
from pathlib import Path

import pytest
from catalogue.scene import Scene, empty, gone, resolved, stored
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

from popq.catalogue import batches, enqueuing, jobs, orders
from popq.catalogue.batches import Failed
from popq.catalogue.db import Catalogue
from popq.errors import BadInput, LeaseLost, Outcome

TRIES = 2
START = {"resolve": "listed", "download": "resolved"}
DONE = {"resolve": resolved, "download": stored}
#: The first two are accounts, of whom a job keeps together what it has many of.
OWNERS = ("12345678@N00", "23456789@N00", "1@N00", None)
FILTERS = [{}, {}, {"owner": "12345678@N00"}, {"min_label": 2.0}]
STAGES = st.sampled_from(["resolve", "resolve", "download"])


class History(RuleBasedStateMachine):
    """Workers that claim, die, wake up again and settle, beside people who import and order."""

    def make(self) -> Catalogue:
        raise NotImplementedError

    @initialize()
    def start(self):
        self.scene = Scene(self.make())
        self.reached = {}  # the batch of each job that was claimed last
        self.held = []  # every lease ever claimed and not ended: of live, frozen and dead workers
        self.loaded = {}  # lease to the photos that its worker saw
        self.terms = {}  # batch to its highest term
        self.told = {}  # photo to the state that committed effects brought it to
        self.numbers = itertools.count()

    # What people do.

    @rule(count=st.integers(1, 9), owners=st.lists(st.sampled_from(OWNERS), min_size=1, max_size=4))
    def import_more(self, count, owners):
        for photo in self.scene.photos(count, owners=owners):
            self.told[photo] = "listed"

    @rule(share=st.floats(0, 1), owner=st.sampled_from(OWNERS))
    def an_owner_is_corrected(self, share, owner):
        ids = list(self.scene.states())
        for photo in ids[: int(len(ids) * share * 0.3)]:
            self.scene.do("UPDATE photos SET owner = :o WHERE id = :id", o=owner, id=photo)

    @rule(
        stage=STAGES,
        size=st.integers(1, 5),
        limit=st.none() | st.none() | st.integers(1, 4),
        only=st.sampled_from(FILTERS),
        streams=st.booleans(),
    )
    def enqueue(self, stage, size, limit, only, streams):
        then = ("download", 3) if streams and stage == "resolve" else None
        ask = {"size": size, "limit": limit, "only": only, "max_tries": TRIES}
        with self.scene.catalogue.read() as tx:
            active = tx.execute(jobs.active(stage, None)).one_or_none()
        before = active.filter if active else None
        clash = active and (limit is not None or (only and before and only != before))
        try:
            foreseen = self.foresee(stage, ask)
            made = self.scene.enqueue(stage, then=then, **ask)
        except BadInput:
            # Of the stage, or of the one that is to take it up.
            assert clash or (then and only)
            return
        assert not clash
        seen = (foreseen.photos, foreseen.batches, foreseen.widened, foreseen.resumed)
        assert seen == (made.photos, made.batches, made.widened, made.resumed)
        assert made.new == (active is None and made.photos > 0)
        assert made.job == (active.id if active else (made.job if made.photos else None))
        if then is not None and made.job is not None:
            query = "SELECT then_id FROM jobs WHERE id = :j"
            assert self.scene.scalar(query, j=made.job) == made.then.job is not None
        if limit is None and made.job is not None:
            self.all_work_is_covered(made.job, only)

    def foresee(self, stage, ask):
        before = self.scene.everything()
        with self.scene.catalogue.read() as tx:
            found, cut = enqueuing.preview(tx, stage, **ask)
        assert self.scene.everything() == before
        assert (sum(photos for _, photos in cut), len(cut)) == (found.photos, found.batches)
        return found

    def all_work_is_covered(self, job, only):
        stage = self.scene.scalar("SELECT stage FROM jobs WHERE id = :j", j=job)
        spent = self.spent(job)
        covered = self.ranges(job, "state <> 'done'")
        keyed = {owner for owner, _, _ in self.ranges(job)}
        query = "SELECT id, state, owner, label FROM photos"
        for photo, state, owner, label in self.scene.rows(query):
            key = owner if owner in keyed else ""
            wanted = only.get("owner", owner) == owner and only.get("min_label", label) <= label
            if state == START[stage] and wanted and photo not in spent:
                reached = [lo <= photo <= hi for of, lo, hi in covered if of == key]
                assert sum(reached) == 1, (photo, key, covered)

    def spent(self, job):
        query = "SELECT photo_id FROM failures WHERE job_id = :j GROUP BY 1 HAVING count(*) >= :t"
        poison = "SELECT photo_id FROM failures WHERE job_id = :j AND outcome = 'kills_worker'"
        rows = self.scene.rows(query, j=job, t=TRIES) + self.scene.rows(poison, j=job)
        return {photo for (photo,) in rows}

    @precondition(lambda self: self.jobs())
    @rule(data=st.data(), order=st.sampled_from(["pause", "resume", "cancel"]))
    def order(self, data, order):
        job, state = data.draw(st.sampled_from(self.jobs()))
        allowed = {
            "pause": {"queued", "running"},
            "resume": {"paused"},
            "cancel": {"queued", "running", "paused"},
        }[order]
        give = {
            "pause": lambda tx: orders.pause(tx, job, "bob"),
            "resume": lambda tx: orders.resume(tx, job),
            "cancel": lambda tx: orders.cancel(tx, job),
        }[order]
        expected = contextlib.nullcontext() if state in allowed else pytest.raises(BadInput)
        with expected, self.scene.catalogue.begin() as tx:
            give(tx)

    @precondition(lambda self: any(state == "done" for _, state in self.jobs()))
    @rule(data=st.data(), reason=st.none() | st.just("gone"), size=st.integers(1, 4))
    def retry(self, data, reason, size):
        over = [job for job, state in self.jobs() if state in {"done", "cancelled"}]
        job = data.draw(st.sampled_from(over))
        stage = self.scene.scalar("SELECT stage FROM jobs WHERE id = :j", j=job)
        query = (
            "SELECT id FROM photos WHERE state = 'gone' AND reason = :r AND EXISTS (SELECT 1"
            " FROM failures WHERE photo_id = photos.id AND job_id = :j AND outcome = :r)"
        )
        back = [photo for (photo,) in self.scene.rows(query, j=job, r=reason)]
        before = self.scene.everything()
        try:
            with self.scene.catalogue.begin() as tx:
                done = orders.retry(tx, job, reason, size=size, max_tries=TRIES, requested_by="bob")
        except BadInput:  # the stage's active job has another filter
            assert self.scene.everything() == before
            return
        assert done.put_back == len(back)
        self.told |= dict.fromkeys(back, START[stage])

    @rule(share=st.floats(0, 1))
    def another_door_moves_photos(self, share):
        """A re-import with static URLs resolves photos that a worker may have in its hands."""
        listed = [photo for photo, state in self.scene.states().items() if state == "listed"]
        for photo in listed[: int(len(listed) * share * 0.3)]:
            statement = "UPDATE photos SET state = 'resolved', image_url = 'x' WHERE id = :id"
            self.scene.do(statement, id=photo)
            self.told[photo] = "resolved"

    # What workers do.

    @precondition(lambda self: self.jobs())
    @rule(data=st.data())
    def claim(self, data):
        job, state = data.draw(st.sampled_from(self.jobs()))
        self.claim_of(job, state)

    def claim_of(self, job, state):
        behind = self.reached.pop(job, None)
        lease = self.scene.claim(job, worker=f"w{next(self.numbers)}", behind=behind)
        if lease is not None:
            self.reached[job] = lease.batch
        if lease is not None:
            assert state in {"queued", "running"}
            assert lease.term == self.terms.get(lease.batch, 0) + 1
            self.held.append(lease)
            self.loaded[lease.batch, lease.term] = self.scene.work(lease, TRIES)
        # A photo that is given up is rejected by the claim.
        rejected = self.scene.rows("SELECT id FROM photos WHERE reason = 'kills_worker'")
        self.told |= {photo: "rejected" for (photo,) in rejected}
        self.terms = dict(self.scene.rows("SELECT id, term FROM batches"))
        return lease

    @precondition(lambda self: self.held)
    @rule(data=st.data(), share=st.floats(0, 1), leaves=st.booleans())
    def settle(self, data, share, leaves):
        lease = data.draw(st.sampled_from(self.held))
        self.results(lease, share, leaves, self.scene.settle)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), share=st.floats(0, 1), leaves=st.booleans())
    def close(self, data, share, leaves):
        lease = data.draw(st.sampled_from(self.held))
        self.held.remove(lease)
        self.results(
            lease,
            share,
            leaves,
            lambda *results: self.scene.close(*results, max_tries=TRIES),
        )

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

    @rule()
    def sweep(self):
        with self.scene.catalogue.read() as tx:
            found = batches.abandoned(tx)
        for job in found:
            with self.scene.catalogue.begin() as tx:
                assert batches.close_abandoned(tx, job) > 0

    def results(self, lease, share, leaves, settle):
        """Settle the first `share` of what the holder saw as work, and a failed try of the rest.

        What the holder saw and did before the last settle it does not do again.
        """
        photos = self.loaded[lease.batch, lease.term]
        done = photos[: round(len(photos) * share)]
        self.loaded[lease.batch, lease.term] = []
        states = self.scene.states()
        holds = self.scene.rows("SELECT term, state FROM batches WHERE id = :b", b=lease.batch)
        moves = [DONE[lease.stage](photo) for photo in done]
        if leaves and moves:
            moves[-1] = gone(done[-1])
        failures = [Failed(photo, Outcome.TRANSIENT, "reset") for photo in photos[len(done) :]]
        if holds == [(lease.term, "leased")]:
            settle(lease, moves, failures + [move.note for move in moves if move.note])
            for move in moves:
                if states[move.photo] == START[lease.stage]:
                    self.told[move.photo] = str(move.state)
        else:
            before = self.scene.everything()
            with pytest.raises(LeaseLost):
                settle(lease, moves, failures)
            assert self.scene.everything() == before

    # What always holds.

    def jobs(self):
        if not hasattr(self, "scene"):
            return []
        return self.scene.rows("SELECT id, state FROM jobs ORDER BY id")

    def ranges(self, job, where="true"):
        columns = "owner, lo, hi"
        query = f"SELECT {columns} FROM batches WHERE job_id = :j AND {where} ORDER BY {columns}"
        return self.scene.rows(query, j=job)

    @invariant()
    def every_effect_happened_once(self):
        assert self.scene.states() == self.told

    @invariant()
    def ranges_of_a_job_never_overlap(self):
        for job, _ in self.jobs():
            found = self.ranges(job)
            for (one, _, hi), (other, lo, _) in itertools.pairwise(found):
                assert one != other or hi < lo, found

    @invariant()
    def closed_batches_add_up(self):
        query = (
            "SELECT id FROM batches WHERE photos <> moved + exited + \"left\" AND state = 'done'"
            ' OR photos < 0 OR moved < 0 OR exited < 0 OR "left" < 0'
        )
        assert self.scene.rows(query) == []

    @invariant()
    def a_job_ends_when_nothing_is_open_and_nobody_hands_on_to_it(self):
        rows = self.scene.rows("SELECT id, state, then_id FROM jobs")
        fed = {then for _, state, then in rows if state in {"queued", "running", "paused"}}
        for job, state, _ in rows:
            is_open = bool(self.ranges(job, "state <> 'done'")) or job in fed
            assert state == "cancelled" or (state == "done") == (not is_open), (job, state)

    @invariant()
    def terms_only_grow(self):
        now = dict(self.scene.rows("SELECT id, term FROM batches"))
        assert all(now[batch] >= term for batch, term in self.terms.items())

    def teardown(self):
        if hasattr(self, "scene"):
            self.drain()
            self.scene.catalogue.close()

    def drain(self):
        """Whatever happened: one more request and honest workers, and all of it adds up."""
        self.scene.do("UPDATE batches SET due = 0, expiries = 0 WHERE state <> 'done'")
        self.sweep()
        self.scene.enqueue(size=3, then=("download", 3))
        for _ in range(1000):
            self.scene.do("UPDATE batches SET due = 0 WHERE state = 'ready'")
            with self.scene.catalogue.read() as tx:
                active = jobs.claimable(tx, ("resolve", "download"))
            claimed = [lease for job, _ in active if (lease := self.scene.claim(job)) is not None]
            for lease in claimed:
                photos = self.scene.work(lease, max_tries=1000)
                moves = [DONE[lease.stage](photo) for photo in photos]
                self.scene.close(lease, moves, max_tries=1000)
            if not claimed:
                break
        else:
            pytest.fail("work comes round for ever")
        states = self.scene.states()
        assert set(states.values()) <= {"stored", "gone", "rejected"}, states
        self.told = states
        assert {state for _, state in self.jobs()} <= {"done", "cancelled"}
        with self.scene.catalogue.read() as tx:
            for found in jobs.progress(tx):
                assert found.open_batches == 0
                assert found.photos == found.moved + found.exited + found.left


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

        run_state_machine_as_test(OnSqlite, settings=relaxed(8, 25))


def test_any_history_on_postgres(migrated_postgres):
    class OnPostgres(History):
        def make(self):
            catalogue = Catalogue(migrated_postgres)
            empty(catalogue)
            return catalogue

    run_state_machine_as_test(OnPostgres, settings=relaxed(12, 25))
