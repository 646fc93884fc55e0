"""A resolve job that hands on to a download job: what one finishes is the other's work."""

from __future__ import annotations

import pytest
from catalogue.scene import (
    assert_covers_once,
    at_once,
    leases_of,
    ranges,
    resolved,
    stored,
    tally,
)
from sqlalchemy import text

from popq.catalogue import batches, jobs
from popq.catalogue.batches import Failed
from popq.catalogue.states import JobState
from popq.errors import Outcome


def streaming(scene, size=2, **options):
    made = scene.enqueue(size=size, then=("download", 250), **options)
    return made.job, made.then.job


def look(scene, job):
    """Look at a job that has nothing to claim, as any worker does; return whether it is over."""
    with scene.catalogue.begin() as tx:
        return jobs.finish_if_over(tx, job)


def state_of(scene, job):
    return scene.scalar("SELECT state FROM jobs WHERE id = :j", j=job)


def test_what_a_batch_resolved_is_the_next_jobs_in_the_same_moment(scene):
    photos = scene.photos(4)
    up, down = streaming(scene)
    assert ranges(scene, down) == []
    assert state_of(scene, down) == "queued"
    lease = scene.claim(up)
    scene.settle(lease, [resolved(photos[0])])
    assert ranges(scene, down) == []
    scene.hand_back(lease)
    assert ranges(scene, down) == [(photos[0], photos[0], 1)]
    scene.close(scene.claim(down), [stored(photos[0])])
    assert state_of(scene, down) == "running"  # more will come
    for lease in leases_of(scene, up):
        scene.close(lease, [resolved(photo) for photo in scene.work(lease)], max_tries=3)
    assert state_of(scene, up) == "done"
    assert_covers_once(scene, down, photos[1:])
    for lease in leases_of(scene, down):
        scene.close(lease, [stored(photo) for photo in scene.work(lease)])
    assert state_of(scene, down) == "done"
    assert set(scene.states().values()) == {"stored"}


class PowerCut(Exception):
    """Ends a process in the middle of a transaction."""


def test_handing_back_and_handing_on_happen_both_or_neither(scene):
    photos = scene.photos(2)
    up, down = streaming(scene)
    lease = scene.claim(up)
    moves = [resolved(photos[0])]
    before = scene.everything()

    def cut_short():
        with scene.catalogue.begin() as tx:
            job = batches.settle(tx, lease, moves, [], tally(moves, []), lease_s=60.0, last=True)
            batches.hand_back(tx, lease, 0.0, job=job)
            there = text("SELECT count(*) FROM batches WHERE job_id = :down")
            assert tx.execute(there, {"down": down}).scalar_one() == 1
            raise PowerCut

    with pytest.raises(PowerCut):
        cut_short()
    assert scene.everything() == before
    assert ranges(scene, down) == []
    scene.settle(lease, moves)  # the lease is still ours
    scene.hand_back(lease)
    assert ranges(scene, down) == [(photos[0], photos[0], 1)]
    assert scene.claim(up) is not None


def test_a_photo_resolved_behind_a_downloaders_back_keeps_its_batch_open(scene):
    before = scene.photos(1, "resolved")
    photos = scene.photos(2)
    after = scene.photos(1, "resolved")
    up, down = streaming(scene)
    held = scene.claim(down)
    assert scene.work(held) == before + after
    scene.close(scene.claim(up), [resolved(photo) for photo in photos], max_tries=3)
    assert state_of(scene, up) == "done"
    assert len(ranges(scene, down)) == 1  # no second batch over the same photos
    scene.close(held, [stored(photo) for photo in before + after], max_tries=3)
    again = scene.claim(down)
    assert (again.batch, scene.work(again)) == (held.batch, photos)
    scene.close(again, [stored(photo) for photo in photos], max_tries=3)
    assert state_of(scene, down) == "done"
    assert scene.rows("SELECT photos, moved FROM batches WHERE job_id = :j", j=down) == [(4, 4)]


@pytest.mark.parametrize("how", [JobState.DONE, JobState.CANCELLED, JobState.FAILED])
def test_the_next_job_ends_with_the_one_that_fed_it_however_that_ends(scene, how):
    scene.photos(2)
    up, down = streaming(scene)
    with scene.catalogue.begin() as tx:
        jobs.pause(tx, up, "paused by bob")
        assert not jobs.finish_if_over(tx, down)  # a pause is no end
        jobs.finish(tx, up, how)
    assert state_of(scene, down) == "done"


def test_the_two_last_batches_of_both_jobs_closed_at_once_end_both(scene):
    for _ in range(5):
        (photo,), (other,) = scene.photos(1), scene.photos(1, "resolved")
        up, down = streaming(scene)
        first, second = scene.claim(up), scene.claim(down)
        left = Failed(photo, Outcome.TRANSIENT, "reset")
        at_once(
            lambda lease=first, left=left: scene.close(lease, failures=[left]),
            lambda lease=second, photo=other: scene.close(lease, [stored(photo)]),
        )
        look(scene, up)
        look(scene, down)
        assert (state_of(scene, up), state_of(scene, down)) == ("done", "done")
        scene.do("UPDATE photos SET state = 'gone', reason = 'gone' WHERE state = 'listed'")


def test_both_jobs_worked_by_many_at_once_lose_nothing_and_do_not_jam(scene):
    scene.photos(30)
    up, down = streaming(scene, size=3)

    def work(job, move):
        for _ in range(400):
            if (lease := scene.claim(job)) is None:
                if look(scene, job):
                    return
                continue
            scene.close(lease, [move(photo) for photo in scene.work(lease)], max_tries=3)

    steps = [lambda: work(up, resolved), lambda: work(down, stored)]
    at_once(*steps, *steps, lambda: streaming(scene), lambda: streaming(scene))
    while (lease := scene.claim(down)) is not None:
        scene.close(lease, [stored(photo) for photo in scene.work(lease)], max_tries=3)
    look(scene, down)
    assert set(scene.states().values()) == {"stored"}
    with scene.catalogue.read() as tx:
        told = {one.job: one for one in jobs.progress(tx)}
    assert {one.state for one in told.values()} == {"done"}
    assert [told[job].photos for job in (up, down)] == [30, 30]
    assert [told[job].moved for job in (up, down)] == [30, 30]


def test_what_a_poisonous_batch_had_finished_is_handed_on_when_it_is_halved(scene):
    photos = scene.photos(4)
    up, down = streaming(scene, size=4)
    for _ in range(3):
        lease = scene.claim(up)
        scene.expire(lease)
    scene.do("UPDATE photos SET state = 'resolved', image_url = 'x' WHERE id = :p", p=photos[0])
    assert scene.claim(up).lo == photos[1]
    assert ranges(scene, down) == [(photos[0], photos[0], 1)]


def test_a_stream_takes_up_what_is_resolved_already_but_not_beyond_a_limit(scene):
    done = scene.photos(3, "resolved")
    scene.photos(2)
    made = scene.enqueue(then=("download", 250), limit=1)
    assert (made.photos, made.then.photos, made.then.new) == (1, 0, True)
    with scene.catalogue.begin() as tx:
        jobs.finish(tx, made.job, JobState.CANCELLED)
    again = scene.enqueue(then=("download", 250))
    assert (again.photos, again.then.photos) == (2, len(done))


def test_without_anything_to_resolve_what_is_resolved_is_downloaded(scene):
    scene.photos(3, "resolved")
    made = scene.enqueue(then=("download", 250))
    assert (made.job, made.then.photos, made.then.new) == (None, 3, True)
    nothing = scene.enqueue("download", then=None, only={"owner": "nobody"})
    assert nothing.photos == 0
