"""Gone photos come back to be asked about once more, and only those."""

from __future__ import annotations

import pytest
from catalogue.scene import gone, stored, tally

from popq.catalogue import batches, recheck
from popq.catalogue.batches import Failed, Move
from popq.catalogue.states import PhotoState, exit_for
from popq.errors import Outcome

DAY = 86400.0
#: As the database writes it, in UTC.
LONG_AGO = "2020-01-02 03:04:05"


def take(scene, older_than_s=DAY, reason=None, limit=None):
    with scene.catalogue.begin() as tx:
        which = recheck.gone_since(tx, older_than_s, reason)
        counted = recheck.count(tx, which, limit)
        return counted, recheck.bring_back(tx, which, PhotoState.LISTED, limit)


def left(photo, outcome):
    note = Failed(photo, outcome, "said so", 404)
    return Move(photo, exit_for(Outcome(outcome)), outcome, note=note)


def age(scene, *photos):
    for photo in photos:
        query = f"UPDATE failures SET failed_at = '{LONG_AGO}' WHERE photo_id = :id"
        scene.do(query, id=photo)


def leave(scene, moves):
    job = scene.enqueue(size=100).job
    lease = scene.claim(job)
    with scene.catalogue.begin() as tx:
        notes = [move.note for move in moves]
        batches.settle(tx, lease, moves, notes, tally(moves, []), lease_s=60.0)
        batches.close(tx, lease, 0)
    return job


def test_only_what_has_been_gone_for_long_enough_comes_back(scene):
    old, fresh, video, listed = scene.photos(4)
    moves = [left(old, "not_found"), left(fresh, "private"), left(video, Outcome.VIDEO)]
    leave(scene, [gone(old) if move.photo == old else move for move in moves])
    age(scene, old, video)
    assert take(scene) == ({"gone": 1}, [old])
    assert scene.states() == {old: "listed", fresh: "gone", video: "rejected", listed: "listed"}
    assert scene.scalar("SELECT reason FROM photos WHERE id = :id", id=old) is None
    assert take(scene) == ({}, [])
    assert take(scene, older_than_s=0.0) == ({"private": 1}, [fresh])


def test_the_newest_note_is_the_last_word(scene):
    (photo,) = scene.photos(1)
    leave(scene, [gone(photo)])
    age(scene, photo)
    assert take(scene)[1] == [photo]
    again = scene.enqueue(size=100)
    assert (again.new, again.photos) == (True, 1)
    scene.close(scene.claim(again.job), [gone(photo)], [gone(photo).note])
    assert take(scene)[1] == []
    age(scene, photo)
    assert take(scene)[1] == [photo]


@pytest.mark.parametrize(
    ("reason", "limit", "expected"),
    [("private", None, [1, 3]), (None, 3, [0, 1, 2]), ("private", 1, [1]), ("placeholder", 5, [])],
)
def test_a_reason_and_a_limit_narrow_it(scene, reason, limit, expected):
    ids = scene.photos(4)
    leave(scene, [left(photo, ("gone", "private")[n % 2]) for n, photo in enumerate(ids)])
    age(scene, *ids)
    counted, back = take(scene, reason=reason, limit=limit)
    assert back == [ids[n] for n in expected]
    assert sum(counted.values()) == len(expected)


def test_corrupt_photos_come_back_when_asked_for(scene):
    corrupt, video, vanished = scene.photos(3)
    moves = [left(corrupt, "corrupt"), left(video, "video"), left(vanished, "gone")]
    leave(scene, moves)
    age(scene, corrupt, video, vanished)
    assert take(scene, reason="video") == ({}, [])
    assert take(scene, reason="corrupt") == ({"corrupt": 1}, [corrupt])
    assert scene.states() == {corrupt: "listed", video: "rejected", vanished: "gone"}


def test_a_photo_without_a_note_is_due_and_a_file_is_never(scene):
    values = {"state": "gone", "reason": "gone"}
    noted_nowhere = scene.photo(**values)
    scene.photo(source_key="a.jpg", **values)
    assert take(scene)[1] == [noted_nowhere]


def test_a_job_that_runs_meanwhile_takes_up_what_came_back(scene):
    first, second = scene.photos(2)
    job = scene.enqueue(size=1).job
    scene.close(scene.claim(job), [gone(first)], [gone(first).note])
    age(scene, first)
    assert take(scene)[1] == [first]
    grown = scene.enqueue(size=1)
    assert (grown.job, grown.photos) == (job, 1)
    scene.close(scene.claim(job), [gone(second)])
    scene.close(scene.claim(job), [gone(first)], [gone(first).note])
    assert scene.scalar("SELECT state FROM jobs WHERE id = :id", id=job) == "done"


def test_what_is_stored_is_left_alone(scene):
    (photo,) = scene.photos(1, "resolved")
    scene.close(scene.claim(scene.enqueue("download").job), [stored(photo)])
    assert take(scene, older_than_s=0.0) == ({}, [])
