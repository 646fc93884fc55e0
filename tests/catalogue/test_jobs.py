"""Enqueuing: at most one active job of a stage, whose batches cover the work once and exactly."""

from __future__ import annotations

import pytest
from catalogue.scene import assert_covers_once, at_once, leases_of, ranges, resolved, stored

from popq.catalogue import jobs
from popq.catalogue.batches import Failed
from popq.catalogue.states import JobState
from popq.errors import BadInput, Outcome


@pytest.mark.parametrize(("count", "sizes"), [(1, [1]), (3, [3]), (4, [3, 1]), (7, [3, 3, 1])])
def test_work_is_cut_into_batches_of_the_size(scene, count, sizes):
    photos = scene.photos(count)
    made = scene.enqueue(size=3)
    assert (made.photos, made.batches, made.new) == (count, len(sizes), True)
    assert [row[2] for row in ranges(scene, made.job)] == sizes
    assert_covers_once(scene, made.job, photos)


def test_only_the_stages_own_work_is_enqueued(scene):
    listed, done = scene.photos(2), scene.photos(3, "stored")
    scene.photo(source_key="train/1@N01/1.jpg")  # not Flickr's: nothing to ask
    assert scene.enqueue("resolve").photos == len(listed)
    assert scene.enqueue("download").photos == 0
    run = scene.run(done=True)
    assert scene.enqueue("score", run_id=run).photos == len(done)


def test_no_job_is_made_without_work(scene):
    made = scene.enqueue()
    assert (made.job, made.photos, made.batches, made.new) == (None, 0, 0, False)
    assert scene.rows("SELECT * FROM jobs") == []


def test_enqueuing_again_adds_nothing(scene):
    photos = scene.photos(5)
    job = scene.enqueue(size=2).job
    before = ranges(scene, job)
    again = scene.enqueue(size=3)
    assert (again.job, again.photos, again.batches, again.new) == (job, 0, 0, False)
    assert ranges(scene, job) == before
    scene.claim(job)
    assert scene.enqueue(size=3).photos == 0
    assert_covers_once(scene, job, photos)


def test_enqueuing_again_adds_what_is_new(scene):
    scene.photos(3)
    job = scene.enqueue(size=2).job
    scene.photos(3)
    again = scene.enqueue(size=2)
    assert (again.job, again.photos, again.batches, again.new) == (job, 3, 2, False)


def test_what_is_added_reaches_over_no_open_batch(scene):
    """Photos left by a closed batch and new ones stand on both sides of an open batch."""
    photos = scene.photos(6)
    job = scene.enqueue(size=2).job
    first = scene.claim(job)
    scene.close(first, [resolved(photos[0])])
    held = scene.claim(job)
    new = scene.photos(2)
    again = scene.enqueue(size=10)
    assert (again.job, again.photos) == (job, 3)
    assert_covers_once(scene, job, photos[1:] + new)
    other = scene.claim(job)
    assert not set(scene.work(held)) & set(scene.work(other))


def test_limit_takes_the_first_photos_and_holds_only_without_an_active_job(scene):
    photos = scene.photos(7)
    job = scene.enqueue(size=2, limit=3).job
    assert_covers_once(scene, job, photos[:3])
    with pytest.raises(BadInput, match="a limit would not hold"):
        scene.enqueue(size=2, limit=3)
    assert scene.enqueue(size=2).photos == 4
    assert_covers_once(scene, job, photos)


def test_a_new_job_takes_up_what_the_last_one_left(scene):
    first, second = scene.photos(2)
    job = scene.enqueue().job
    failed = Failed(second, Outcome.TRANSIENT, "reset")
    scene.close(scene.claim(job), [resolved(first)], [failed])
    again = scene.enqueue()
    assert (again.new, again.photos) == (True, 1)
    assert scene.work(scene.claim(again.job), max_tries=1) == [second]


def test_enqueues_at_the_same_moment_share_one_job_and_cover_the_work_once(scene):
    for _ in range(4):
        photos = scene.photos(9)
        made = at_once(*[lambda: scene.enqueue(size=2)] * 4)
        (job,) = {one.job for one in made}
        assert sum(one.new for one in made) == 1
        assert sum(one.photos for one in made) == len(photos)
        assert_covers_once(scene, job, photos)
        while (lease := scene.claim(job)) is not None:
            scene.close(lease, [resolved(photo) for photo in scene.work(lease)])


def test_enqueuing_beside_workers_that_record_failures_does_not_jam(scene):
    photos = scene.photos(12)
    job = scene.enqueue(size=1).job
    leases = [scene.claim(job) for _ in photos]

    def close(lease):
        scene.close(lease, failures=[Failed(lease.lo, Outcome.TRANSIENT, "reset")])

    steps = [lambda lease=lease: close(lease) for lease in leases]
    at_once(*steps, *[lambda: scene.enqueue(size=1)] * 4)
    with scene.catalogue.read() as tx:
        newest = jobs.progress(tx)[0]
    open_batches = scene.scalar("SELECT count(*) FROM batches WHERE state <> 'done'")
    assert (newest.state in {"queued", "running"}) == (open_batches > 0)


def test_runs_are_scored_by_jobs_of_their_own(scene):
    scene.photos(2, "stored")
    one, other = scene.run(done=True), scene.run(done=True)
    first = scene.enqueue("score", run_id=one)
    second = scene.enqueue("score", run_id=other)
    assert first.job != second.job
    assert scene.enqueue("score", run_id=one).job == first.job
    with scene.catalogue.read() as tx:
        assert jobs.claimable(tx, ("score", "resolve")) == [
            (first.job, "score"),
            (second.job, "score"),
        ]
        assert tx.execute(jobs.active("score", other)).scalar_one() == second.job
        assert tx.execute(jobs.active("resolve", None)).all() == []


def test_progress_counts_in_whole_numbers(scene):
    photos = scene.photos(3, "resolved")
    job = scene.enqueue("download", size=2).job
    failed = Failed(photos[1], Outcome.TRANSIENT, "reset")
    scene.close(scene.claim(job), [stored(photos[0])], [failed])
    with scene.catalogue.read() as tx:
        (found,) = jobs.progress(tx, job)
    counts = (found.photos, found.moved, found.exited, found.failed_tries, found.left)
    assert counts == (3, 1, 0, 1, 1)
    assert all(type(count) is int for count in counts)
    assert (found.batches, found.open_batches, found.state) == (2, 1, "running")


def test_a_paused_job_says_why_and_forgets_it_when_it_goes_on(scene):
    scene.photos(1)
    job = scene.enqueue().job
    with scene.catalogue.begin() as tx:
        jobs.pause(tx, job, "the key was refused")
        assert jobs.get(tx, job).message == "the key was refused"
    scene.enqueue()
    with scene.catalogue.begin() as tx:
        assert (jobs.get(tx, job).state, jobs.get(tx, job).message) == ("running", None)
        jobs.finish(tx, job, JobState.DONE)
        jobs.pause(tx, job, "too late")
        assert jobs.get(tx, job).state == "done"


def test_an_unknown_job_is_bad_input(catalogue):
    with pytest.raises(BadInput, match="no job 7"), catalogue.read() as tx:
        jobs.get(tx, 7)


def test_a_doorbell_rings_once_in_a_while(scene):
    scene.photos(1)
    job = scene.enqueue().job

    def ring():
        with scene.catalogue.begin() as tx:
            return jobs.ring_due(tx, job, every_s=60.0)

    assert sorted(at_once(ring, ring, ring)) == [False, False, True]
    scene.do("UPDATE jobs SET rung = rung - 61")
    assert ring()
    with scene.catalogue.begin() as tx:
        jobs.pause(tx, job, "no")
    scene.do("UPDATE jobs SET rung = 0")
    assert not ring()


OWNER = {"owner": "1@N00"}


def test_a_filter_narrows_the_work_also_inside_its_ranges(scene):
    photos = scene.photos(9)  # of three owners in turn, labelled 0 to 8
    job = scene.enqueue(size=2, only=OWNER).job
    leases = leases_of(scene, job)
    assert [scene.work(lease) for lease in leases] == [[photos[1], photos[4]], [photos[7]]]
    for lease in leases:
        scene.close(lease, [resolved(photo) for photo in scene.work(lease)])
    with scene.catalogue.read() as tx:
        (told,) = jobs.progress(tx)
    assert (told.state, told.photos, told.moved, told.left) == ("done", 3, 3, 0)
    other = scene.enqueue(only={"min_label": 6.5})
    assert scene.work(scene.claim(other.job)) == [photos[8]]


def test_a_filtered_request_joins_a_job_of_the_same_filter_or_of_none(scene):
    scene.photos(6)
    job = scene.enqueue(only=OWNER).job
    scene.photos(3)
    again = scene.enqueue(only=OWNER)
    assert (again.job, again.photos, again.new, again.widened) == (job, 1, False, False)
    with scene.catalogue.begin() as tx:
        jobs.finish(tx, job, JobState.CANCELLED)
    whole = scene.enqueue()
    assert scene.enqueue(only=OWNER).job == whole.job
    with scene.catalogue.read() as tx:
        assert jobs.get(tx, whole.job).filter == {}


def test_a_request_for_all_widens_a_filtered_job_whose_batches_then_hold_all(scene):
    photos = scene.photos(9)
    job = scene.enqueue(size=2, only=OWNER).job
    held = scene.claim(job)
    made = scene.enqueue(size=10)
    assert (made.job, made.widened, made.new) == (job, True, False)
    assert_covers_once(scene, job, photos)
    # Its holder loaded the owner's photos only: the batch comes round for the others.
    scene.close(held, [resolved(photo) for photo in scene.work(held)], max_tries=3)
    left = {photo for lease in leases_of(scene, job) for photo in scene.work(lease)}
    assert left == {photo for photo, state in scene.states().items() if state == "listed"}


def test_widening_beside_workers_that_close_does_not_jam(scene):
    for _ in range(3):
        scene.photos(18)
        job = scene.enqueue(size=1, only=OWNER).job
        steps = [lambda lease=lease: scene.close(lease) for lease in leases_of(scene, job)]
        at_once(*steps, scene.enqueue)
        active = scene.enqueue().job
        with scene.catalogue.begin() as tx:
            jobs.finish(tx, active, JobState.CANCELLED)
        scene.do("UPDATE photos SET state = 'gone', reason = 'gone'")


def test_two_filters_are_refused_with_what_to_do(scene):
    scene.photos(6)
    job = scene.enqueue(only=OWNER).job
    before = scene.everything()
    with pytest.raises(BadInput, match=f"photos of 1@N00.*labelled 2 or more.*cancel {job}"):
        scene.enqueue(only={"min_label": 2.0})
    assert scene.everything() == before


def test_what_was_left_is_taken_up_in_its_batch_and_counted_once(scene):
    photos = scene.photos(3)
    job = scene.enqueue(size=2).job
    lease = scene.claim(job)
    failed = Failed(photos[1], Outcome.TRANSIENT, "reset")
    scene.close(lease, [resolved(photos[0])], [failed])
    assert scene.enqueue(max_tries=1).photos == 0  # its only try is used up
    assert scene.enqueue(max_tries=2).photos == 1
    for lease in leases_of(scene, job):
        scene.close(lease, [resolved(photo) for photo in scene.work(lease)])
    with scene.catalogue.read() as tx:
        (told,) = jobs.progress(tx)
    assert (told.photos, told.moved, told.left, told.batches) == (3, 3, 0, 2)


def test_photos_that_another_door_moved_are_not_counted(scene):
    photos = scene.photos(3)
    lease = scene.claim(scene.enqueue().job)
    scene.do("UPDATE photos SET state = 'resolved', image_url = 'x' WHERE id = :p", p=photos[0])
    scene.close(lease, [resolved(photo) for photo in photos])
    assert scene.rows('SELECT photos, moved, exited, "left" FROM batches') == [(2, 2, 0, 0)]


# Streaming.
