"""The database itself refuses what must never be, whoever writes."""

from __future__ import annotations

import datetime as dt

import pytest
from catalogue.scene import LEASE_S
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from popq.catalogue.models import Base, Photo
from popq.catalogue.states import GONE_REASONS, REJECTED_REASONS


@pytest.fixture
def peopled(scene):
    """One row of everything: a listed photo 1, job 1, batch 1, data set 1, run 1."""
    scene.photos(1)
    scene.enqueue()
    scene.run(scene.dataset("d1", [(1, 1.0, 1, "train", "a.jpg")]))
    return scene


PHOTO = "INSERT INTO photos (flickr_id, page_url, state, reason, image_url, file_key, sha256)"

NEVER = {
    "a photo of no origin": "INSERT INTO photos (page_url) VALUES ('x')",
    "a photo of two origins": "INSERT INTO photos (flickr_id, source_key, page_url)"
    " VALUES (1, 'a', 'x')",
    "the same Flickr photo twice": "INSERT INTO photos (flickr_id, page_url)"
    " SELECT flickr_id, page_url FROM photos",
    "an unknown photo state": f"{PHOTO} VALUES (1, 'x', 'lost', NULL, NULL, NULL, NULL)",
    "a listed photo with a reason": f"{PHOTO} VALUES (1, 'x', 'listed', 'gone', NULL, NULL, NULL)",
    "a gone photo with a reason to reject": f"{PHOTO}"
    " VALUES (1, 'x', 'gone', 'video', NULL, NULL, NULL)",
    "a rejected photo with a reason to be gone": f"{PHOTO}"
    " VALUES (1, 'x', 'rejected', 'private', NULL, NULL, NULL)",
    "a reason nobody knows": f"{PHOTO} VALUES (1, 'x', 'gone', 'bored', NULL, NULL, NULL)",
    "a resolved photo without a URL": f"{PHOTO}"
    " VALUES (1, 'x', 'resolved', NULL, NULL, NULL, NULL)",
    "a stored photo without a file": f"{PHOTO} VALUES (1, 'x', 'stored', NULL, 'u', NULL, 'h')",
    "a stored photo without a hash": f"{PHOTO} VALUES (1, 'x', 'stored', NULL, 'u', 'f', NULL)",
    "a photo without a page": "INSERT INTO photos (flickr_id) VALUES (1)",
    "an unknown job state": "UPDATE jobs SET state = 'lost'",
    "an unknown stage": "INSERT INTO jobs (stage) VALUES ('dream')",
    "a score job without a run": "INSERT INTO jobs (stage) VALUES ('score')",
    "a resolve job with a run": "UPDATE jobs SET run_id = 1",
    "a finished job without an end": "UPDATE jobs SET state = 'done'",
    "an active job with an end": "UPDATE jobs SET finished_at = CURRENT_TIMESTAMP",
    "two active jobs of a stage": "INSERT INTO jobs (stage, state) VALUES ('resolve', 'paused')",
    "an unknown batch state": "UPDATE batches SET state = 'lost'",
    "a range that ends before it begins": "UPDATE batches SET hi = lo - 1",
    "a leased batch without a worker": "UPDATE batches SET state = 'leased'",
    "a ready batch with a worker": "UPDATE batches SET worker = 'w1'",
    "a batch of no job": "UPDATE batches SET job_id = 99",
    "a failure of no photo": "INSERT INTO failures (photo_id, job_id, batch_id, outcome, message)"
    " VALUES (99, 1, 1, 'transient', 'x')",
    "a tombstone of nothing": "INSERT INTO tombstones (reason) VALUES ('asked')",
    "a tombstone of two things": "INSERT INTO tombstones (flickr_id, source_key, reason)"
    " VALUES (1, 'a', 'asked')",
    "a member of an unknown split": "UPDATE members SET split = 'holdout'",
    "a member of tier zero": "UPDATE members SET tier = 0",
    "two data sets of one name": "INSERT INTO datasets (name, count, tiers, cuts, tier_labels,"
    " tie_rule, split_rule, val, test, seed, salt, mean, std, fingerprint)"
    " SELECT name, count, tiers, cuts, tier_labels, tie_rule, split_rule, val, test, seed, salt,"
    " mean, std, fingerprint FROM datasets",
    "an unknown run state": "UPDATE runs SET state = 'lost'",
    "a running run without a worker": "UPDATE runs SET state = 'running'",
    "a queued run with a worker": "UPDATE runs SET worker = 'w1'",
    "a done run without weights": "UPDATE runs SET state = 'done'",
    "a data set that vanishes under its run": "DELETE FROM datasets",
    "a score of tier zero": "INSERT INTO scores (run_id, photo_id, score, tier, probabilities)"
    " VALUES (1, 1, 0, 0, '[]')",
    "a judgement of tier zero": "INSERT INTO judgements (run_id, photo_id, score, tier)"
    " VALUES (1, 1, 0, 0)",
    "moments of no photo": "INSERT INTO moments (photo_id, pixels, sum_r, sum_g, sum_b, square_r,"
    " square_g, square_b) VALUES (99, 1, 1, 1, 1, 1, 1, 1)",
}


@pytest.mark.parametrize("what", NEVER)
def test_there_is_never(peopled, what):
    before = peopled.everything()
    with pytest.raises(IntegrityError):
        peopled.do(NEVER[what])
    assert peopled.everything() == before


@pytest.mark.parametrize("state", ["gone", "rejected"])
def test_there_is_never_a_photo_that_left_without_a_reason(peopled, state):
    with pytest.raises(IntegrityError):
        peopled.do(f"UPDATE photos SET state = '{state}'")


def test_every_reason_that_the_code_knows_may_be_written(scene):
    for state, reasons in (("gone", GONE_REASONS), ("rejected", REJECTED_REASONS)):
        for reason in reasons:
            scene.photo(state=state, reason=reason)
    query = "SELECT count(*) FROM photos WHERE reason IS NOT NULL"
    assert scene.scalar(query) == len(GONE_REASONS) + len(REJECTED_REASONS)


def test_two_runs_may_be_scored_at_once_and_one_only_once(peopled):
    peopled.run(done=True)
    peopled.do("INSERT INTO jobs (stage, run_id) VALUES ('score', 1), ('score', 2)")
    with pytest.raises(IntegrityError):
        peopled.do("INSERT INTO jobs (stage, run_id) VALUES ('score', 2)")


def test_all_that_hangs_on_a_photo_leaves_with_it(peopled):
    peopled.do(
        "INSERT INTO failures (photo_id, job_id, batch_id, outcome, message)"
        " VALUES (1, 1, 1, 'transient', 'x')"
    )
    peopled.do("DELETE FROM photos")
    for table in ("failures", "members", "moments", "scores"):
        assert peopled.scalar(f"SELECT count(*) FROM {table}") == 0


def test_ids_are_never_given_out_again(scene):
    first, second = scene.photos(2)
    scene.do("DELETE FROM photos WHERE id = :id", id=second)
    assert scene.photos(1) > [second]
    assert first < second


def test_moments_in_time_come_back_in_utc_whatever_the_database(catalogue):
    """SQLite keeps no time zone, PostgreSQL answers in that of the session."""
    there = dt.datetime(2015, 6, 1, 12, 0, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    row = {"flickr_id": 1, "page_url": "x", "posted_at": there}
    with catalogue.begin() as tx:
        if not catalogue.is_sqlite:
            tx.exec_driver_sql("SET LOCAL TIME ZONE 'Asia/Kathmandu'")
        tx.execute(insert(Photo).values(row))
        posted, imported = tx.execute(select(Photo.posted_at, Photo.imported_at)).one()
    assert posted == there
    assert posted.isoformat() == "2015-06-01T10:00:00+00:00"
    assert imported.utcoffset() == dt.timedelta(0)
    assert abs((imported - dt.datetime.now(dt.UTC)).total_seconds()) < LEASE_S


def test_what_goes_with_a_photo_is_found_by_it_not_by_passing_over_a_table():
    followers = [
        (table, key.parent)
        for table in Base.metadata.sorted_tables
        for key in table.foreign_keys
        if key.references(Photo.__table__)
    ]
    assert len(followers) >= 6
    for table, column in followers:
        keys = [table.primary_key, *table.indexes]
        assert column in [next(iter(key.columns)) for key in keys], table.name
