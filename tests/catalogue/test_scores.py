"""Scores: one of each run and photo, of photos that are stored, however often they come."""

from __future__ import annotations

import pytest
from catalogue.scene import at_once

from popq.catalogue import enqueuing, scores
from popq.catalogue.scores import Origin, Scored
from popq.errors import BadInput


@pytest.fixture
def run(scene):
    return scene.run(done=True)


def record(scene, run, photos, score=0.5):
    with scene.catalogue.begin() as tx:
        return scores.record(tx, run, [Scored(photo, score, 2, [0.25, 0.75]) for photo in photos])


def test_a_score_is_written_once(scene, run):
    photos = scene.photos(3, "stored")
    assert record(scene, run, photos[:2]) == 2
    assert record(scene, run, photos, score=9.0) == 1
    assert record(scene, run, photos) == 0
    found = dict(scene.rows("SELECT photo_id, score FROM scores"))
    assert found == {photos[0]: 0.5, photos[1]: 0.5, photos[2]: 9.0}
    with scene.catalogue.read() as tx:
        assert scores.count(tx, run) == 3


def test_each_run_has_its_own(scene, run):
    photos = scene.photos(1, "stored")
    assert record(scene, run, photos) == 1
    assert record(scene, scene.run(done=True), photos) == 1


def test_only_stored_photos_are_scored(scene, run):
    photos = scene.photos(1, "resolved") + scene.photos(1, "stored") + [99]
    assert record(scene, run, photos) == 1
    assert record(scene, run, []) == 0


@pytest.mark.parametrize("again_after", [None, 0])
def test_what_was_seen_in_another_file_is_no_score_of_the_photo(scene, run, again_after):
    """Its bytes changed while a scorer had the photo in hand."""
    changed, same = scene.photos(2, "stored")
    key = scene.scalar(f"SELECT file_key FROM photos WHERE id = {same}")
    with scene.catalogue.begin() as tx:
        said = [Scored(photo, 0.5, 1, [1.0], key) for photo in (changed, same)]
        assert scores.record(tx, run, said, Origin(1, again_after=again_after)) == 1
    assert scene.rows("SELECT photo_id FROM scores") == [(same,)]


def test_two_workers_that_score_the_same_photos_at_once_do_not_jam(scene, run):
    photos = scene.photos(200, "stored")
    at_once(*[lambda: record(scene, run, photos)] * 4)
    assert scene.scalar("SELECT count(*) FROM scores") == len(photos)


def test_a_score_says_which_job_and_which_code_it_is_of(scene, run):
    (photo,) = scene.photos(1, "stored")
    one = [Scored(photo, 0.5, 1, [0.5, 0.5])]
    with scene.catalogue.begin() as tx:
        scores.record(tx, run, one, Origin(7, "1.0+abc"))
    assert scene.rows("SELECT job_id, code FROM scores") == [(7, "1.0+abc")]
    shown = scene.rows("SELECT run_id, dataset, weights_sha256, job_id, code FROM scored_photos")
    assert shown == [(run, "d1", "beef", 7, "1.0+abc")]


def test_scores_are_written_anew_only_for_a_job_that_asks_so(scene, run):
    (photo,) = scene.photos(1, "stored")

    def write(score, **origin):
        with scene.catalogue.begin() as tx:
            return scores.record(tx, run, [Scored(photo, score, 1, [1.0])], Origin(**origin))

    assert write(1.0, job=3) == 1
    assert write(2.0, job=4) == 0
    assert write(3.0, job=4, again_after=3) == 1
    assert write(4.0, job=4, again_after=3) == 0  # it has been written by this very job
    assert scene.rows("SELECT score, job_id FROM scores") == [(3.0, 4)]


def test_scoring_all_again_ends_and_each_score_is_written_once_more(scene, run):
    photos = scene.photos(5, "stored")
    record(scene, run, photos[:3])

    def all_again(**more):
        with scene.catalogue.begin() as tx:
            only = enqueuing.again(tx, run, more)
            return enqueuing.enqueue(tx, "score", size=2, run_id=run, only=only)

    job = all_again()
    assert (job.photos, job.batches) == (5, 3)
    asked_twice = all_again()
    assert (asked_twice.job, asked_twice.photos, asked_twice.new) == (job.job, 0, False)
    missing = scene.enqueue("score", run_id=run)  # those are among them
    assert (missing.job, missing.photos, missing.widened) == (job.job, 0, False)
    with pytest.raises(BadInput, match="is active for photos again"):
        all_again(owner="0@N00")
    done = []
    while lease := scene.claim(job.job):
        ids = scene.work(lease)
        done += ids
        with scene.catalogue.begin() as tx:
            origin = Origin(lease.job, "new", lease.only["again_after"])
            scores.record(tx, run, [Scored(photo, 9.0, 1, [1.0]) for photo in ids], origin)
        scene.close(lease)
    assert done == photos
    assert scene.rows("SELECT DISTINCT score, code FROM scores") == [(9.0, "new")]
    assert scene.scalar("SELECT state FROM jobs") == "done"
    assert all_again().photos == 5


def test_only_photos_of_a_data_set_are_work_where_one_is_named(scene, run):
    photos = scene.photos(4, "stored")
    scene.dataset("two", [(photo, 1.0, 1, "val", "a.jpg") for photo in photos[1:3]])
    made = scene.enqueue("score", run_id=run, only={"dataset": "two"})
    assert scene.work(scene.claim(made.job)) == photos[1:3]
    with pytest.raises(BadInput, match="no data set 'three'"):
        scene.enqueue("score", run_id=scene.run(done=True), only={"dataset": "three"})
