"""The lease: one holder at a time, every effect once, nothing lost."""

from __future__ import annotations

import pytest
from catalogue.scene import LEASE_S, Scene, at_once, plan, resolved, stored

from popq.catalogue import batches, claims, jobs, steps
from popq.catalogue.batches import Failed, Move, Tally
from popq.catalogue.states import JobState, PhotoState
from popq.errors import LeaseLost, Outcome


def failed(photo, outcome=Outcome.TRANSIENT):
    return Failed(photo, outcome, "connection reset", 503)


def test_what_is_left_of_a_large_batch_is_not_taken_for_a_lone_killer(scene):
    """Three deployments during one batch: its last photo has done nothing."""
    scene.photos(3)
    job = scene.enqueue(size=3).job
    for _ in range(2):
        scene.claim(job)
        scene.do("UPDATE batches SET due = 0")
    lease = scene.claim(job)
    first, second, _ = scene.work(lease)
    scene.do("UPDATE photos SET state = 'gone', reason = 'gone' WHERE id <= 2")
    scene.do("UPDATE batches SET due = 0")
    again = scene.claim(job)
    assert (again.lo, again.hi, again.expiries) == (second + 1, second + 1, 0)
    assert first < second
    assert scene.scalar("SELECT count(*) FROM photos WHERE state = 'rejected'") == 0


def test_a_claim_leases_the_first_due_batch_and_starts_the_job(scene):
    photos = scene.photos(5)
    job = scene.enqueue(size=3).job
    lease = scene.claim(job, "w1")
    assert (lease.lo, lease.hi, lease.term, lease.stage) == (photos[0], photos[2], 1, "resolve")
    assert scene.work(lease) == photos[:3]
    assert scene.rows("SELECT state, worker FROM batches ORDER BY id") == [
        ("leased", "w1"),
        ("ready", None),
    ]
    assert scene.scalar("SELECT state FROM jobs") == "running"
    assert scene.claim(job).lo == photos[3]
    assert scene.claim(job) is None


def test_claims_at_the_same_moment_never_get_the_same_batch(scene):
    scene.photos(24)
    job = scene.enqueue(size=1).job

    def claim_all():
        return [lease.batch for lease in iter(lambda: scene.claim(job), None)]

    found = at_once(*[claim_all] * 6)
    claimed = [batch for batches_ in found for batch in batches_]
    assert sorted(claimed) == sorted(row[0] for row in scene.rows("SELECT id FROM batches"))


def test_a_paused_job_hands_out_nothing_until_it_is_enqueued_again(scene):
    scene.photos(2)
    job = scene.enqueue(size=1).job
    with scene.catalogue.begin() as tx:
        jobs.pause(tx, job, "the key was refused")
    assert scene.claim(job) is None
    assert scene.enqueue(size=1).job == job
    assert scene.claim(job) is not None


@pytest.mark.parametrize("state", [JobState.DONE, JobState.CANCELLED, JobState.FAILED])
def test_a_job_that_is_over_hands_out_nothing(scene, state):
    scene.photos(1)
    job = scene.enqueue().job
    with scene.catalogue.begin() as tx:
        jobs.finish(tx, job, state)
    assert scene.claim(job) is None


def test_an_expired_lease_is_claimed_under_a_higher_term(scene):
    scene.photos(2)
    job = scene.enqueue().job
    old = scene.claim(job, "frozen")
    assert scene.claim(job, "eager") is None
    scene.expire(old)
    new = scene.claim(job, "eager")
    assert (new.batch, new.term, new.expiries) == (old.batch, old.term + 1, old.expiries + 1)


@pytest.mark.parametrize("then", ["claimed", "settled", "handed back", "closed"])
def test_the_old_holders_results_change_nothing(scene, then):
    photos = scene.photos(3, "resolved")
    job = scene.enqueue("download").job
    old = scene.claim(job, "frozen")
    scene.expire(old)
    new = scene.claim(job, "eager")
    if then == "settled":
        scene.settle(new, [stored(photos[0])])
    elif then == "handed back":
        scene.hand_back(new)
    elif then == "closed":
        scene.close(new)
    before = scene.everything()
    results = ([stored(photo) for photo in photos], [failed(photos[0])])
    for settle in (scene.settle, scene.close):
        with pytest.raises(LeaseLost, match="newer term"):
            settle(old, *results)
    scene.hand_back(old)
    assert scene.everything() == before


def test_a_settle_records_moves_moments_failures_and_counts(scene):
    first, second, third = scene.photos(3, "resolved")
    job = scene.enqueue("download").job
    lease = scene.claim(job)
    note = failed(second, Outcome.CORRUPT)
    gone = Move(second, PhotoState.REJECTED, Outcome.CORRUPT, note=note)
    tally = Tally(moved=1, exited=1, failed=1, bytes=10, seconds=0.5)
    scene.settle(lease, [stored(first), gone], [failed(third), note], tally)
    assert scene.states() == {first: "stored", second: "rejected", third: "resolved"}
    assert scene.rows("SELECT photo_id, pixels FROM moments") == [(first, 65536)]
    assert scene.rows("SELECT moved, exited, failed, bytes, seconds FROM batches") == [
        (1, 1, 1, 10, 0.5)
    ]
    assert [photo for (photo,) in scene.rows("SELECT photo_id FROM failures ORDER BY id")] == [
        third,
        second,
    ]
    stamped = dict(scene.rows("SELECT id, stored_at IS NOT NULL FROM photos"))
    assert {photo: bool(there) for photo, there in stamped.items()} == {
        first: True,
        second: False,
        third: False,
    }


def test_a_photo_moves_only_out_of_the_start_state(scene):
    first, second = scene.photos(2)
    lease = scene.claim(scene.enqueue().job)
    scene.do("UPDATE photos SET state = 'gone', reason = 'private' WHERE id = :id", id=first)
    scene.settle(lease, [resolved(first), resolved(second)])
    assert scene.states() == {first: "gone", second: "resolved"}


def test_a_partial_settle_keeps_the_batch(scene):
    first, second = scene.photos(2)
    job = scene.enqueue().job
    lease = scene.claim(job, lease_s=1.0)
    scene.expire(lease)
    scene.settle(lease, [resolved(first)], lease_s=LEASE_S)  # late, but nobody came by
    assert scene.claim(job) is None
    assert scene.work(lease) == [second]


def test_a_batch_handed_back_is_due_when_it_says(scene):
    scene.photos(1)
    job = scene.enqueue().job
    lease = scene.claim(job)
    scene.hand_back(lease, in_s=100.0)
    assert scene.claim(job) is None
    with scene.catalogue.read() as tx:
        assert 90 < batches.next_due_s(tx, job) <= 100
    scene.expire(lease)
    again = scene.claim(job)
    assert (again.batch, again.term, again.expiries) == (lease.batch, 2, 0)


def test_tries_are_counted_in_the_job_and_used_up_ones_are_left(scene):
    first, second = scene.photos(2)
    job = scene.enqueue().job
    for _ in range(2):
        lease = scene.claim(job)
        scene.settle(lease, failures=[failed(first)])
        scene.hand_back(lease)
    lease = scene.claim(job)
    assert scene.work(lease, max_tries=2) == [second]
    assert scene.work(lease, max_tries=3) == [first, second]
    with scene.catalogue.read() as tx:
        assert jobs.tries(tx, job, first, second) == {first: {"transient": 2}}
    scene.close(lease, [resolved(second)])
    assert scene.scalar('SELECT "left" FROM batches') == 1
    assert scene.scalar("SELECT state FROM jobs") == "done"
    assert scene.states()[first] == "listed"


def test_two_workers_that_close_the_last_two_batches_end_the_job_once(scene):
    """With failures to record, which on PostgreSQL take a lock on the job's key.

    There each may take the other's batch for open; then whoever looks for work next ends the job.
    """
    for _ in range(5):
        photos = scene.photos(4)
        job = scene.enqueue(size=1).job
        leases = [scene.claim(job) for _ in photos]
        steps = [
            lambda lease=lease: scene.close(lease, failures=[failed(lease.lo)]) for lease in leases
        ]
        at_once(*steps)
        with scene.catalogue.begin() as tx:
            jobs.finish_if_over(tx, job)
        with scene.catalogue.read() as tx:
            (progress,) = jobs.progress(tx, job)
        assert (progress.state, progress.open_batches, progress.left) == ("done", 0, 4)
        scene.do("UPDATE photos SET state = 'gone', reason = 'gone'")


def test_a_cancelled_job_still_records_what_was_finished(scene):
    first, second = scene.photos(2)
    job = scene.enqueue().job
    lease = scene.claim(job)
    with scene.catalogue.begin() as tx:
        jobs.finish(tx, job, JobState.CANCELLED)
    scene.close(lease, [resolved(first)])
    assert scene.states() == {first: "resolved", second: "listed"}
    assert scene.rows('SELECT moved, "left" FROM batches') == [(1, 1)]
    assert scene.scalar("SELECT state FROM jobs") == "cancelled"


def work_until_over(scene: Scene, job: int, killer: int) -> list[int]:
    """Claim and settle; the worker dies whenever it holds the killer. Return sizes it died with."""
    deaths = []
    while (lease := scene.claim(job)) is not None:
        photos = scene.work(lease)
        if killer in photos:
            deaths.append(len(photos))
            scene.expire(lease)
        else:
            scene.close(lease, [resolved(photo) for photo in photos])
    return deaths


def test_a_poisonous_batch_is_halved_down_to_the_photo_that_kills(scene):
    photos = scene.photos(8)
    job = scene.enqueue(size=8).job
    deaths = work_until_over(scene, job, killer=photos[5])
    assert deaths == [8, 8, 8, 4, 2, 1, 1, 1]
    states = scene.states()
    assert states.pop(photos[5]) == "rejected"
    assert set(states.values()) == {"resolved"}
    assert scene.rows("SELECT reason FROM photos WHERE reason IS NOT NULL") == [("kills_worker",)]
    assert scene.scalar("SELECT state FROM jobs") == "done"
    assert scene.scalar("SELECT sum(photos) FROM batches") == len(photos)


def test_a_batch_that_must_be_halved_waits_for_those_that_need_not(scene):
    poisonous, sound = scene.photos(2)
    job = scene.enqueue(size=1).job
    scene.do(
        "UPDATE batches SET state = 'leased', worker = 'dead', expiries = 2, due = 0 WHERE lo = :p",
        p=poisonous,
    )
    assert scene.claim(job).lo == sound
    with scene.catalogue.single() as tx:
        assert claims.claim_sound(tx, job, "w1", LEASE_S) is None
    assert scene.claim(job) is None
    assert scene.rows("SELECT state FROM photos WHERE id = :p", p=poisonous) == [("rejected",)]


def test_a_lone_photo_needs_three_expiries_of_its_own(scene):
    (photo,) = scene.photos(1)
    job = scene.enqueue().job
    for expiries in range(claims.POISON_EXPIRIES):
        lease = scene.claim(job)
        assert lease.expiries == expiries
        scene.expire(lease)
    assert scene.states() == {photo: "listed"}
    assert scene.claim(job) is None
    assert scene.states() == {photo: "rejected"}


def test_a_killer_in_scoring_stays_stored_and_is_left(scene):
    (photo,) = scene.photos(1, "stored")
    job = scene.enqueue("score", run_id=scene.run(done=True)).job
    for _ in range(claims.POISON_EXPIRIES):
        scene.expire(scene.claim(job))
    assert scene.claim(job) is None
    assert scene.states() == {photo: "stored"}
    assert scene.rows('SELECT "left", failed FROM batches') == [(1, 1)]
    assert scene.scalar("SELECT state FROM jobs") == "done"


def test_a_photo_stored_anew_has_the_sums_of_its_new_file(scene):
    (photo,) = scene.photos(1, "stored")
    job = scene.enqueue("score", run_id=scene.run(done=True)).job
    lost = Move(photo, PhotoState.RESOLVED, values={"file_key": None, "sha256": None})
    scene.close(scene.claim(job), [lost])
    scene.do("UPDATE moments SET sum_r = 1")
    scene.close(scene.claim(scene.enqueue("download").job), [stored(photo)])
    assert scene.scalar("SELECT count(*) FROM moments WHERE sum_r <> 1") == 1


def test_a_worker_goes_on_behind_its_last_batch_and_then_takes_the_first_that_is_due(scene):
    photos = scene.photos(5)
    job = scene.enqueue(size=1).job
    first, second, third, fourth, last = (scene.claim(job) for _ in photos)
    for lease in (first, third, last):
        scene.hand_back(lease)
    assert scene.claim(job, behind=second.batch).lo == third.lo
    assert scene.claim(job, behind=third.batch).lo == last.lo  # the fourth is held
    assert scene.claim(job, behind=last.batch).lo == first.lo
    assert scene.claim(job, behind=first.batch) is None
    scene.expire(fourth)
    assert scene.claim(job, behind=last.batch).lo == fourth.lo


def test_behind_its_last_batch_a_worker_passes_over_what_must_be_halved_or_waits(scene):
    photos = scene.photos(4)
    job = scene.enqueue(size=1).job
    start = scene.claim(job)
    dead = "UPDATE batches SET state = 'leased', worker = 'dead', expiries = 2, due = 0"
    scene.do(f"{dead} WHERE lo = :p", p=photos[1])
    scene.do("UPDATE batches SET due = due + 600 WHERE lo = :p", p=photos[2])
    assert scene.claim(job, behind=start.batch).lo == photos[3]


def test_what_lies_behind_is_found_by_its_ids_alone(scene):
    job = scene.many_batches()
    given = {"job": job, "worker": "w1", "lease_s": LEASE_S, "behind": 10}
    found = plan(scene.catalogue, claims.take(near=True), **given)
    if scene.catalogue.is_sqlite:
        assert "INTEGER PRIMARY KEY (rowid>? AND rowid<?)" in found, found
        assert "TEMP B-TREE" not in found
    else:
        assert "id >=" in found.partition("pk_batches on batches")[2].partition("\n")[2], found
        assert "Seq Scan on batches" not in found
        assert "Sort" not in found


@pytest.mark.parametrize("sound", [True, False])
def test_a_claim_reads_the_front_of_the_partial_index_only(scene, sound):
    job = scene.many_batches()
    found = plan(scene.catalogue, claims.take(sound=sound), job=job, worker="w1", lease_s=LEASE_S)
    assert "ix_batches_open" in found, found
    if scene.catalogue.is_sqlite:
        assert "ix_batches_open (job_id=? AND due<?)" in found, found
        assert "SCAN batches" not in found
        assert "TEMP B-TREE" not in found
    else:
        assert "due <=" in found.partition("Index Cond")[2].partition("\n")[0], found
        assert "Rows Removed by Filter" not in found, found
        assert "Seq Scan on batches" not in found
        assert "Sort" not in found


def test_a_settle_reads_and_writes_its_own_photos_only(postgres):
    """Neither all photos, nor each of its photos for each of its values."""
    scene = Scene(postgres)
    scene.do(
        "INSERT INTO photos (flickr_id, page_url)"
        " SELECT n, 'https://www.flickr.com/photo.gne?id=' || n FROM generate_series(1, 50000) n"
    )
    scene.do("ANALYZE")
    mine = list(range(1001, 1251))
    locked = plan(postgres, steps.lock_many(PhotoState.LISTED), ids=mine)
    urls = [f"https://x/{photo}.jpg" for photo in mine]
    move = steps.move_many(PhotoState.LISTED, (PhotoState.RESOLVED, None), ("image_url",))
    written = plan(postgres, move, b_id=mine, b_image_url=urls)
    for found in (locked, written):
        assert "pk_photos" in found, found
        assert "Seq Scan" not in found, found
    assert "loops=250" in written, written


def test_waiting_batches_are_seen_without_a_claim(scene):
    scene.photos(1)
    job = scene.enqueue().job
    with scene.catalogue.read() as tx:
        assert batches.next_due_s(tx, job) <= 0
        assert isinstance(batches.next_due_s(tx, job), float)
    scene.close(scene.claim(job))
    with scene.catalogue.read() as tx:
        assert batches.next_due_s(tx, job) is None
