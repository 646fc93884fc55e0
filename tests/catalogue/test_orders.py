"""Orders: pause, resume, cancel and retry, also in the middle of what workers do."""

from __future__ import annotations

import pytest
from catalogue.scene import LEASE_S, at_once, gone, resolved

from popq.catalogue import batches, claims, jobs, orders
from popq.catalogue.batches import Failed
from popq.errors import BadInput, LeaseLost, Outcome


def give(scene, order, *arguments):
    with scene.catalogue.begin() as tx:
        return order(tx, *arguments)


def retry(scene, job, reason=None):
    options = {"size": 10, "max_tries": 2, "requested_by": "bob"}
    with scene.catalogue.begin() as tx:
        return orders.retry(tx, job, reason, **options)


def progress(scene, job):
    with scene.catalogue.read() as tx:
        return jobs.progress(tx, job)[0]


def failed(photo, outcome=Outcome.TRANSIENT):
    return Failed(photo, outcome, "reset", 503)


def test_a_paused_job_tells_its_workers_and_hands_out_nothing_until_it_is_resumed(scene):
    first, _, _ = scene.photos(3)
    job = scene.enqueue(size=2).job
    lease = scene.claim(job)
    assert scene.settle(lease) == "running"
    give(scene, orders.pause, job, "bob")
    assert scene.settle(lease, [resolved(first)]) == "paused"
    scene.hand_back(lease)
    assert scene.claim(job) is None
    assert progress(scene, job).message == "paused by bob"
    give(scene, orders.resume, job)
    assert (progress(scene, job).state, progress(scene, job).message) == ("running", None)
    assert scene.claim(job) is not None


def test_cancelling_closes_what_nobody_holds_and_waits_for_what_somebody_does(scene):
    photos = scene.photos(5)
    job = scene.enqueue(size=2).job
    lease = scene.claim(job)
    done = give(scene, orders.cancel, job)
    assert (done.closed, done.held) == (2, 1)
    assert scene.claim(job) is None
    assert scene.settle(lease, [resolved(photos[0])]) == "cancelled"
    scene.hand_back(lease, in_s=100.0)  # closes, since its job is over
    told = progress(scene, job)
    assert (told.state, told.open_batches) == ("cancelled", 0)
    assert (told.photos, told.moved, told.exited, told.left) == (5, 1, 0, 4)
    again = scene.enqueue(size=2)
    assert (again.new, again.photos) == (True, 4)


def test_a_dead_workers_batch_of_a_cancelled_job_is_closed_once_its_lease_is_over(scene):
    first, second = scene.photos(2)
    job = scene.enqueue(size=1).job
    dead, slow = scene.claim(job), scene.claim(job)
    give(scene, orders.cancel, job)

    def sweep():
        with scene.catalogue.read() as tx:
            found = batches.abandoned(tx)
        return [give(scene, batches.close_abandoned, ended) for ended in found]

    assert sweep() == []
    scene.expire(dead)
    scene.expire(slow)
    scene.close(slow, [resolved(second)])  # late, but nobody took it
    assert sweep() == [1]
    assert sweep() == []
    with pytest.raises(LeaseLost):
        scene.settle(dead, [resolved(first)])
    told = progress(scene, job)
    assert (told.photos, told.moved, told.left, told.open_batches) == (2, 1, 1, 0)


@pytest.mark.parametrize("order", ["pause", "resume", "cancel"])
def test_an_order_that_makes_no_sense_is_bad_input(scene, order):
    scene.photos(1)
    job = scene.enqueue().job
    arguments = ("bob",) if order == "pause" else ()
    with pytest.raises(BadInput, match="There is no job 99"):
        give(scene, getattr(orders, order), 99, *arguments)
    scene.close(scene.claim(job))
    with pytest.raises(BadInput, match=f"Job {job} is done: only an active job"):
        give(scene, getattr(orders, order), job, *arguments)


def test_pausing_twice_and_resuming_what_runs_are_bad_input(scene):
    scene.photos(1)
    job = scene.enqueue().job
    with pytest.raises(BadInput, match="is queued, not paused"):
        give(scene, orders.resume, job)
    give(scene, orders.pause, job, "bob")
    with pytest.raises(BadInput, match="paused already: paused by bob"):
        give(scene, orders.pause, job, "eve")


def test_cancelling_beside_claims_and_settles_does_not_jam(scene):
    for _ in range(3):
        scene.photos(12)
        job = scene.enqueue(size=1).job
        held = [scene.claim(job) for _ in range(4)]

        def put_down(lease):
            scene.settle(lease, failures=[failed(lease.lo)])
            scene.hand_back(lease)

        steps = [lambda lease=lease: put_down(lease) for lease in held]
        claims = [lambda job=job: scene.claim(job)] * 4
        _, *rest = at_once(lambda job=job: give(scene, orders.cancel, job), *steps, *claims)
        for lease in filter(None, rest[len(steps) :]):
            scene.close(lease)
        told = progress(scene, job)
        assert (told.state, told.open_batches) == ("cancelled", 0)
        assert told.photos == told.left == 12
        scene.do("UPDATE photos SET state = 'gone', reason = 'gone'")


def test_retry_takes_up_what_failed_with_fresh_tries_and_nothing_else(scene):
    first, second, third = scene.photos(3)
    job = scene.enqueue().job
    lease = scene.claim(job)
    scene.settle(lease, [resolved(first)], [failed(second), failed(second)])
    scene.close(lease)
    done = retry(scene, job)
    assert (done.put_back, done.enqueued.new, done.enqueued.photos) == (0, True, 1)
    again = scene.claim(done.enqueued.job)
    assert scene.work(again, max_tries=2) == [second]
    assert scene.states()[third] == "listed"


def test_retry_for_a_reason_brings_back_what_the_job_took_out_for_it(scene):
    first, second, third, other = scene.photos(4, "resolved")
    job = scene.enqueue("download").job
    scene.do("UPDATE photos SET state = 'gone', reason = 'gone' WHERE id = :p", p=other)
    lease = scene.claim(job)
    moves = [gone(first), gone(second)]
    scene.close(lease, moves, [move.note for move in moves] + [failed(third)])
    assert retry(scene, job, "private").enqueued.job is None
    done = retry(scene, job, "gone")
    assert (done.put_back, done.enqueued.photos) == (2, 2)
    assert scene.states()[other] == "gone"  # not by this job
    assert scene.work(scene.claim(done.enqueued.job), max_tries=2) == [first, second]
    assert scene.scalar("SELECT count(*) FROM photos WHERE reason IS NOT NULL") == 1


def test_retry_of_a_job_that_still_tries_is_bad_input(scene):
    scene.photos(1)
    job = scene.enqueue().job
    with pytest.raises(BadInput, match="tries again by itself"):
        retry(scene, job)


def test_retry_joins_an_active_job_of_all_photos_and_no_narrower_one(scene):
    first, second = scene.photos(2)
    job = scene.enqueue(size=1).job
    for _ in range(2):
        lease = scene.claim(job)
        scene.close(lease, failures=[failed(lease.lo)])
    narrow = scene.enqueue(only={"owner": "0@N00"})
    with pytest.raises(BadInput, match=r"active for photos of 0@N00.*jobs cancel"):
        retry(scene, job)
    give(scene, orders.cancel, narrow.job)
    wide = scene.enqueue(size=1)
    done = retry(scene, job)
    assert (done.enqueued.job, done.enqueued.photos) == (wide.job, 0)
    assert sorted([scene.claim(wide.job).lo, scene.claim(wide.job).lo]) == [first, second]


def test_a_killer_is_retried_only_by_its_name(scene):
    scene.photos(1, "stored")
    job = scene.enqueue("score", run_id=scene.run(done=True)).job
    for _ in range(claims.POISON_EXPIRIES):
        scene.expire(scene.claim(job))
    assert scene.claim(job) is None
    assert retry(scene, job).enqueued.job is None
    done = retry(scene, job, "kills_worker")
    assert (done.put_back, done.enqueued.photos) == (0, 1)
    assert scene.claim(done.enqueued.job, lease_s=LEASE_S) is not None
