"""Questions people ask, answered with what JSON can hold."""

from __future__ import annotations

import json

import pytest
from catalogue.scene import resolved

from popq.catalogue import datasets, queries, scores
from popq.catalogue.batches import Failed
from popq.catalogue.scores import Scored
from popq.errors import BadInput, Outcome


def test_every_state_is_counted(scene):
    scene.photos(2)
    scene.photo(state="gone", reason="private")
    with scene.catalogue.read() as tx:
        assert queries.photos_by_state(tx) == {
            "listed": 2,
            "resolved": 0,
            "stored": 0,
            "gone": 1,
            "rejected": 0,
        }
        assert queries.reasons(tx) == {"private": 1}


def test_a_photos_whole_story_can_be_written_as_json(scene):
    (photo,) = scene.photos(1)
    job = scene.enqueue().job
    lease = scene.claim(job)
    scene.settle(lease, failures=[Failed(photo, Outcome.TRANSIENT, "reset", 503)])
    scene.close(lease, [resolved(photo)])
    scene.do("UPDATE photos SET state = 'stored', file_key = 'a.jpg', sha256 = 'a'")
    run = scene.run(scene.dataset("d1", [(photo, 1.0, 2, "train", "a.jpg")]), done=True)
    with scene.catalogue.begin() as tx:
        scores.record(tx, run, [Scored(photo, 0.5, 1, [0.75, 0.25])])
        story = json.loads(json.dumps(queries.photo(tx, photo)))
    assert story["state"] == "stored"
    assert story["imported_at"].endswith("+00:00")
    assert [(f["outcome"], f["http_status"]) for f in story["failures"]] == [("transient", 503)]
    assert story["scores"] == [
        {"run_id": run, "score": 0.5, "tier": 1, "probabilities": [0.75, 0.25]}
    ]
    assert [(d["tier"], d["split"]) for d in story["datasets"]] == [(2, "train")]


def test_a_photo_is_found_by_its_flickr_id_first(scene):
    first = scene.photo(flickr_id=100)
    second = scene.photo(flickr_id=first)
    with scene.catalogue.read() as tx:
        assert queries.photo(tx, 100)["id"] == first
        assert queries.photo(tx, first)["id"] == second
        assert queries.photo(tx, second)["id"] == second


@pytest.mark.parametrize("unknown", [0, -1, 2**63 - 1, 2**63, -(10**30)])
def test_a_photo_that_nobody_knows_is_bad_input(catalogue, unknown):
    with pytest.raises(BadInput, match=f"catalogue id {unknown}"), catalogue.read() as tx:
        queries.photo(tx, unknown)


def test_the_newest_failures_come_first(scene):
    photos = scene.photos(3)
    lease = scene.claim(scene.enqueue().job)
    scene.settle(lease, failures=[Failed(photo, Outcome.TRANSIENT, "reset") for photo in photos])
    with scene.catalogue.read() as tx:
        found = queries.failures(tx, 2)
    assert len(found) == 2
    assert found[0]["flickr_id"] > found[1]["flickr_id"]
    assert json.loads(json.dumps(found))[0]["message"] == "reset"


def test_the_newest_run_is_one_that_is_done(scene):
    with scene.catalogue.read() as tx:
        assert queries.newest_run(tx) is None
    done = scene.run(done=True)
    scene.run()
    with scene.catalogue.read() as tx:
        assert queries.newest_run(tx) == done


def test_any_row_becomes_a_dict_for_json(scene):
    scene.dataset()
    with scene.catalogue.read() as tx:
        (row,) = queries.rows_of(datasets.list_all(tx))
    assert json.loads(json.dumps(row))["cuts"] == [0.5]


def test_all_failures_are_told_oldest_first_and_narrowed_by_job_and_outcome(scene):
    first, second = scene.photos(2)
    one = scene.enqueue(size=100).job
    lease = scene.claim(one)
    scene.settle(lease, failures=[Failed(second, Outcome.TRANSIENT, "reset", 503)])
    scene.close(lease, [resolved(first)], [Failed(second, Outcome.CORRUPT, "short")])

    def told(**narrowed):
        with scene.catalogue.read() as tx:
            return [row for rows in queries.all_failures(tx, **narrowed) for row in rows]

    rows = told()
    assert [row["message"] for row in rows] == ["reset", "short"]
    assert all(tuple(row) == queries.FAILURE_COLUMNS for row in rows)
    assert [row["http_status"] for row in told(outcome="transient", job=one)] == [503]
    assert told(job=one + 1) == []
    with scene.catalogue.read() as tx:
        (newest,) = queries.failures(tx, 5, outcome="corrupt")
        assert newest["message"] == "short"
        assert queries.failures(tx, 5, job=one + 1) == []
