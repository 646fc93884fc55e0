"""What a purge takes, and what it leaves."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from catalogue.scene import Scene, stored, wait_for_waiters
from sqlalchemy import event, text

from popq.catalogue import purge
from popq.catalogue.batches import Failed
from popq.catalogue.scores import Scored
from popq.errors import Outcome
from popq.stages.ledger import Ledger, Pace

PACE = Pace(60.0, 10.0, 1.0, 1.0, 4)


def look_up(scene, **what):
    with scene.catalogue.read() as tx:
        return purge.look_up(tx, **what)


def bury(scene, photos, reason="asked for"):
    with scene.catalogue.begin() as tx:
        return purge.bury(tx, photos, reason)


def count(scene, table):
    return scene.scalar(f"SELECT count(*) FROM {table}")


def test_a_photo_leaves_with_all_that_was_known_of_it(scene):
    ids = scene.photos(6, "stored")
    members = [(photo, 1.0, 1, "train", f"{n}.jpg") for n, photo in enumerate(ids)]
    scene.run(scene.dataset("d1", members), done=True)
    scene.do(
        "INSERT INTO scores (run_id, photo_id, score, tier, probabilities)"
        " SELECT 1, id, 1.0, 1, '[1]' FROM photos"
    )
    flickr_id = scene.scalar("SELECT flickr_id FROM photos WHERE id = :id", id=ids[2])
    doomed = look_up(scene, photo=str(flickr_id))
    assert doomed.photos == (ids[2],)
    assert doomed.keys == ("2.jpg",)
    assert doomed.fingerprints == ("f00d",)
    assert bury(scene, doomed.photos) == doomed
    assert scene.rows("SELECT flickr_id, source_key, reason FROM tombstones") == [
        (flickr_id, None, "asked for")
    ]
    for table in ("photos", "moments", "members", "scores"):
        assert count(scene, table) == 5, table
    assert look_up(scene, photo=str(flickr_id)).photos == ()


def test_all_photos_of_an_owner_leave_and_nobody_elses(scene):
    scene.photos(9)
    doomed = look_up(scene, owner="1@N00")
    assert len(doomed.photos) == 3
    bury(scene, doomed.photos)
    assert scene.rows("SELECT DISTINCT owner FROM photos ORDER BY owner") == [
        ("0@N00",),
        ("2@N00",),
    ]
    assert count(scene, "tombstones") == 3


def test_a_file_that_another_photo_shares_stays(scene):
    ids = scene.photos(3, "stored")
    scene.do("UPDATE photos SET file_key = 'same.jpg' WHERE id IN (:a, :b)", a=ids[0], b=ids[1])
    assert bury(scene, [ids[0]]).keys == ()
    assert bury(scene, ids[1:]).keys == ("2.jpg", "same.jpg")


def test_a_file_that_a_frozen_data_set_holds_for_another_photo_stays(scene):
    ids = scene.photos(2, "stored")
    scene.dataset("d1", [(ids[1], 1.0, 1, "train", "0.jpg")])
    assert bury(scene, [ids[0]]).keys == ()


def test_a_catalogue_id_is_never_taken_for_a_flickr_id(scene):
    ids = scene.photos(1)
    assert look_up(scene, photo=str(ids[0])).photos == ()


def test_a_file_of_a_folder_is_known_by_its_path(scene):
    photo = scene.photo(source_key="train/59@N75/775.jpg", page_url="file:///x/775.jpg")
    assert look_up(scene, photo="train/59@N75/775.jpg").photos == (photo,)
    bury(scene, [photo])
    assert scene.scalar("SELECT source_key FROM tombstones") == "train/59@N75/775.jpg"


def test_more_photos_than_a_statement_takes_parameters(scene):
    scene.photos(1)
    scene.do(
        "INSERT INTO photos (flickr_id, page_url, owner)"
        " WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 33000)"
        " SELECT i, 'x', 'much@N00' FROM n"
    )
    doomed = look_up(scene, owner="much@N00")
    assert len(bury(scene, doomed.photos).photos) == 33000
    assert count(scene, "photos") == 1
    assert count(scene, "tombstones") == 33000


def test_a_worker_that_holds_a_purged_photo_changes_nothing(scene):
    ids = scene.photos(3, "resolved")
    lease = scene.claim(scene.enqueue("download").job)
    bury(scene, [ids[1]])
    failures = [Failed(photo, Outcome.TRANSIENT, "no answer") for photo in ids]
    scene.settle(lease, failures=failures)
    assert count(scene, "failures") == 2
    scene.close(lease, [stored(photo) for photo in ids])
    assert scene.states() == {ids[0]: "stored", ids[2]: "stored"}
    assert count(scene, "moments") == 2


def download_moves_the_second(scene, ids):
    """Stops, while it holds the photo that it moved, at the sums of `moments`."""
    lease = scene.claim(scene.enqueue("download").job)
    return lease, stored(ids[1]), "LOCK TABLE moments IN EXCLUSIVE MODE"


def score_scores_the_second(scene, ids):
    """Stops, while it holds the photo that it scored, at the row of its batch."""
    scene.do("UPDATE photos SET state = 'stored', file_key = 'k', sha256 = 's'")
    lease = scene.claim(scene.enqueue("score", run_id=scene.run(done=True)).job)
    return lease, Scored(ids[1], 1.0, 1, None), "SELECT 1 FROM batches FOR UPDATE"


@pytest.mark.parametrize("work", [download_moves_the_second, score_scores_the_second])
def test_a_purge_and_a_settle_of_the_same_photos_do_not_wait_for_each_other(postgres, work):
    """What is written last, the failure, is of the photo that the purge locks first."""
    scene = Scene(postgres)
    ids = scene.photos(2, "resolved")
    lease, done, stop = work(scene, ids)
    ledger = Ledger(postgres, lease, PACE)
    for result in (done, Failed(ids[0], Outcome.TRANSIENT, "no answer")):
        ledger.add(result, {})
    with ThreadPoolExecutor(2) as pool:
        with postgres.begin() as tx:
            tx.execute(text(stop))
            settled = pool.submit(ledger.settle)
            wait_for_waiters(scene, 1)
            buried = pool.submit(bury, scene, ids)
            wait_for_waiters(scene, 2)
        settled.result()
        assert buried.result().photos == tuple(ids)
    assert scene.states() == {}


def test_photos_are_not_compared_with_each_of_the_files_that_are_to_go(postgres):
    """A list in a statement that is planned once is gone through for every row there is."""
    Scene(postgres).photos(500, "stored")
    asked = []
    with postgres.read() as tx:
        event.listen(tx, "before_cursor_execute", lambda *told: asked.append(told[2:4]))
        keys = [f"{n}.jpg" for n in range(300)]
        assert purge.shared(tx, keys, []) == set(keys)
        assert purge.shared(tx, [], []) == set()
        (statement, values) = asked[0]
        plan = "\n".join(tx.exec_driver_sql(f"EXPLAIN {statement}", values).scalars())
    assert " ANY " not in plan
    assert "Join" in plan
