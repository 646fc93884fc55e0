"""What `popq status` tells: rates and time left, who works at what, what waits and what failed."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass

import pytest
from catalogue.scene import resolved, stored
from sqlalchemy import event

from popq.catalogue import hosts, jobs, overview
from popq.catalogue import runs as training
from popq.catalogue.batches import Failed
from popq.errors import Outcome

#: Real time that a test may take, as a share of the shortest faked one (100 s).
SLACK = 0.05
#: A moment from epoch seconds, as SQLite (True) or PostgreSQL says it.
AT = {True: "datetime(:s, 'unixepoch')", False: "to_timestamp(:s)"}


@dataclass
class Epoch:
    epoch: int
    train_loss: float = 1.0
    train_accuracy: float = 0.5
    val_loss: float = 1.0
    val_accuracy: float = 0.5
    lr: float = 0.1
    seconds: float = 2.0
    images_per_second: float = 100.0


@pytest.fixture
def job(scene):
    """A resolve job of ten batches of ten photos."""
    scene.photos(100)
    return scene.enqueue(size=10).job


def took(scene, batch, *, begun, settled, moved=10, exited=0):
    """Let a batch have been worked between so many seconds ago and so many seconds ago."""
    now = scene.catalogue_now()
    values = {"b": now - begun, "s": now - settled, "m": moved, "e": exited, "id": batch}
    scene.do(
        "UPDATE batches SET begun = :b, claimed = :b, settled = :s, moved = :m, exited = :e,"
        " state = 'done' WHERE id = :id",
        **values,
    )


def rates(scene, *jobs):
    with scene.catalogue.read() as tx:
        return overview.rates(tx, jobs)


def about(value):
    return pytest.approx(value, rel=SLACK)


def test_a_job_that_has_done_nothing_has_no_rate(scene, job):
    scene.claim(job)
    assert rates(scene, job) == {}
    assert rates(scene) == {}


def test_a_young_jobs_rate_is_by_the_time_since_its_first_claim(scene, job):
    took(scene, 1, begun=100, settled=50)
    took(scene, 2, begun=50, settled=0, moved=7, exited=3)
    assert rates(scene, job) == {job: about(20 / 100)}


def test_of_a_batch_that_began_before_the_ten_minutes_only_its_share_counts(scene, job):
    took(scene, 1, begun=5000, settled=700)
    took(scene, 2, begun=900, settled=300)
    took(scene, 3, begun=300, settled=100)
    assert rates(scene, job) == {job: about((5 + 10) / 600)}


def test_a_rate_falls_when_nothing_moves_and_ends_after_ten_minutes(scene, job):
    took(scene, 1, begun=400, settled=300)
    assert rates(scene, job) == {job: about(10 / 400)}
    scene.do("UPDATE batches SET begun = begun - 400, settled = settled - 400")
    assert rates(scene, job) == {}


def test_a_batch_that_was_in_work_before_begins_were_kept_is_left_out(scene, job):
    took(scene, 1, begun=100, settled=0)
    scene.do("UPDATE batches SET begun = NULL, claimed = NULL")
    assert rates(scene, job) == {}
    took(scene, 2, begun=100, settled=0)
    assert rates(scene, job) == {job: about(0.1)}


def test_claims_and_settles_leave_the_moments_that_rates_need(scene, job):
    first = scene.claim(job, "w1")
    begun, claimed, settled = moments_of(scene, first)
    assert 0 <= claimed - begun < 1
    assert settled is None
    scene.settle(first, failures=[])
    assert moments_of(scene, first)[2] is None  # renewed, and nothing came of it yet
    scene.settle(first, [resolved(photo) for photo in scene.work(first)[:4]])
    assert moments_of(scene, first)[2] >= claimed
    scene.expire(first)
    again = scene.claim(job, "w2")
    assert again.batch == first.batch
    assert moments_of(scene, again)[0] == begun
    assert moments_of(scene, again)[1] > claimed
    assert 0 < rates(scene, job)[job] <= 4


def moments_of(scene, lease):
    query = "SELECT begun, claimed, settled FROM batches WHERE id = :id"
    return scene.rows(query, id=lease.batch)[0]


def test_rates_are_told_job_by_job(scene, job):
    scene.photos(10, "resolved")
    other = scene.enqueue("download", size=10).job
    took(scene, 1, begun=100, settled=0)
    took(scene, 11, begun=200, settled=0)
    assert rates(scene, job, other) == {job: about(0.1), other: about(0.05)}
    assert set(rates(scene, other)) == {other}


@pytest.mark.parametrize(
    ("photos", "per_second", "seconds"),
    [(100, 0.5, 200.0), (100, 0.0, None), (0, 0.0, 0.0), (-3, 1.0, 0.0)],
)
def test_time_left_is_told_where_it_can_be(photos, per_second, seconds):
    assert overview.left_s(photos, per_second) == seconds


def asked(scene, question):
    with scene.catalogue.read() as tx:
        return question(tx)


def test_the_funnel_counts_states_and_reasons(scene):
    scene.photos(3)
    for reason in ("private", "private", "not_found"):
        scene.photo(state="gone", reason=reason)
    photos, reasons = asked(scene, overview.funnel)
    assert photos == {"listed": 3, "resolved": 0, "stored": 0, "gone": 3, "rejected": 0}
    assert reasons == {"not_found": 1, "private": 2}


def test_a_job_is_told_with_its_batches_rate_and_time_left(scene, job):
    took(scene, 1, begun=100, settled=0, moved=8, exited=1)
    scene.do('UPDATE batches SET "left" = 1 WHERE id = 1')
    lost, held = scene.claim(job), scene.claim(job)
    scene.expire(lost)
    scene.do("UPDATE batches SET due = due + 40 WHERE state = 'ready'")
    (told,) = asked(scene, overview.jobs)
    assert told.pop("per_second") == about(0.09)
    assert told.pop("left_s") == about(90 / 0.09)
    assert 30 < told.pop("due_s") <= 40
    assert told == {
        "job": job,
        "stage": "resolve",
        "run": None,
        "state": "running",
        "message": None,
        "fed_by": None,
        "done": 10,
        "photos": 100,
        "moved": 8,
        "exited": 1,
        "left": 1,
        "failed_tries": 0,
        "batches": 10,
        "open_batches": 9,
        "leased": 1,
        "lost": 1,
    }
    assert held.batch == 3


def test_a_paused_job_says_why_and_has_no_time_left(scene, job):
    took(scene, 1, begun=100, settled=0)
    with scene.catalogue.begin() as tx:
        jobs.pause(tx, job, "all keys are refused")
    (told,) = asked(scene, overview.jobs)
    assert (told["state"], told["message"]) == ("paused", "all keys are refused")
    assert told["left_s"] is None


def test_a_job_that_another_feeds_says_by_which(scene, job):
    scene.photos(1, "resolved")
    fed = scene.enqueue("download").job
    scene.do("UPDATE jobs SET then_id = :fed WHERE id = :job", fed=fed, job=job)
    assert [told["fed_by"] for told in asked(scene, overview.jobs)] == [job, None]


def test_of_ended_jobs_only_the_newest_are_told(scene, job):
    for _ in range(overview.NEWEST_JOBS + 2):
        (photo,) = scene.photos(1, "resolved")
        ended = scene.enqueue("download").job
        scene.close(scene.claim(ended), [stored(photo)])
    told = asked(scene, overview.jobs)
    assert [row["job"] for row in told] == [*range(ended, ended - 5, -1), job]
    assert [row["per_second"] for row in told] == [None] * 5 + [0.0]
    assert (told[0]["photos"], told[0]["done"], told[0]["left_s"]) == (1, 1, None)


def test_workers_are_told_with_what_they_hold_and_silent_ones_as_such(scene, job):
    first, second, third = scene.claim(job, "alive"), scene.claim(job, "dead"), scene.claim(job)
    scene.do("UPDATE batches SET claimed = claimed - 100, due = due - 90 WHERE worker = 'dead'")
    now = scene.catalogue_now()
    for name, ago in (("dead", 200), ("alive", 10), ("idle", 30)):
        scene.do(
            "INSERT INTO workers (name, queue, threads, seen) VALUES (:n, 'io', 8, :s)",
            n=name,
            s=now - ago,
        )
    told = asked(scene, overview.workers)
    assert [(w["name"], w["queue"], w["threads"], w["alive"]) for w in told] == [
        ("alive", "io", 8, True),
        ("idle", "io", 8, True),
        ("dead", "io", 8, False),
        ("w1", None, None, None),
    ]
    assert [[work["batch"] for work in w["work"]] for w in told] == [
        [first.batch],
        [],
        [second.batch],
        [third.batch],
    ]
    assert 200 <= told[2]["seen_s"] < 205
    (dead,) = told[2]["work"]
    assert (dead["stage"], dead["job"], dead["lo"], dead["hi"]) == ("resolve", job, 11, 20)
    assert 100 <= dead["since_s"] < 105
    assert -35 < dead["lease_s"] <= -30


def test_runs_are_told_with_their_epochs_and_who_trains_them(scene):
    run = scene.run()
    scene.run(done=True)
    assert asked(scene, overview.runs) == [{"run": run, "state": "queued", "done": 0, "epochs": 2}]
    with scene.catalogue.begin() as tx:
        term = training.claim(tx, run, "trainer", 60.0)
        training.add_epoch(tx, run, term, Epoch(1), 60.0)
    assert asked(scene, overview.runs) == [{"run": run, "state": "running", "done": 1, "epochs": 2}]
    (worker,) = asked(scene, overview.workers)
    assert (worker["name"], worker["alive"]) == ("trainer", None)
    assert (worker["work"][0]["stage"], worker["work"][0]["run"]) == ("train", run)


def test_hosts_are_told_with_their_pause_and_why(scene):
    with scene.catalogue.begin() as tx:
        for name in ("a", "b", "c"):
            hosts.register(tx, name, 3600.0)
        hosts.pause(tx, "b", 40.0, None, "HTTP 429")
        hosts.disable(tx, "c", "invalid key")
    calm, paused, out = asked(scene, overview.hosts)
    quiet = {"per_hour": 3600, "paused_s": 0, "opens_at": None}
    assert calm == {"name": "a", **quiet, "paused_why": None, "disabled_why": None}
    assert out == {"name": "c", **quiet, "paused_why": None, "disabled_why": "invalid key"}
    assert (paused["name"], paused["paused_why"]) == ("b", "HTTP 429")
    assert 35 < paused["paused_s"] <= 40
    opens = dt.datetime.fromisoformat(paused["opens_at"])
    assert abs(opens.timestamp() - scene.catalogue_now() - 40) < 10


def test_a_pause_that_is_over_is_told_no_more_and_forgotten_with_the_next_answer(scene):
    with scene.catalogue.begin() as tx:
        hosts.register(tx, "a", 3600.0)
        hosts.pause(tx, "a", 40.0, None, "HTTP 429")
    scene.do("UPDATE hosts SET paused_until = paused_until - 41")
    (host,) = asked(scene, overview.hosts)
    assert (host["paused_s"], host["opens_at"], host["paused_why"]) == (0, None, None)
    with scene.catalogue.begin() as tx:
        hosts.calm(tx, "a")
    assert scene.scalar("SELECT paused_why FROM hosts") is None


def test_failures_of_the_last_hour_are_counted_by_stage_and_outcome(scene, job):
    photos = scene.photos(4, "resolved")
    download = scene.enqueue("download").job
    lease = scene.claim(download)
    scene.settle(lease, failures=[Failed(p, Outcome.TRANSIENT, "502", 502) for p in photos])
    lease = scene.claim(job)
    outcomes = (Outcome.NOT_FOUND, Outcome.TRANSIENT, Outcome.NOT_FOUND)
    ids = scene.work(lease)
    pairs = zip(ids, outcomes, strict=False)
    scene.settle(lease, failures=[Failed(photo, outcome, "no") for photo, outcome in pairs])
    old = scene.catalogue_now() - overview.FAILURES_S - 60
    scene.do(f"UPDATE failures SET failed_at = {AT[scene.catalogue.is_sqlite]} WHERE id = 1", s=old)
    assert asked(scene, overview.failures) == [
        {"stage": "download", "outcome": "transient", "count": 3},
        {"stage": "resolve", "outcome": "not_found", "count": 2},
        {"stage": "resolve", "outcome": "transient", "count": 1},
    ]


def test_the_status_of_an_empty_and_of_a_busy_catalogue_is_json(scene):
    empty = json.loads(json.dumps(asked(scene, overview.status)))
    assert set(empty["photos"].values()) == {0}
    assert [empty[name] for name in ("jobs", "runs", "workers", "hosts", "failures")] == [[]] * 5
    scene.photos(20)
    scene.claim(scene.enqueue().job)
    busy = json.loads(json.dumps(asked(scene, overview.status)))
    assert busy["jobs"][0]["leased"] == 1
    assert abs(dt.datetime.fromisoformat(busy["at"]).timestamp() - scene.catalogue_now()) < 10


def test_the_questions_do_not_grow_with_the_jobs_and_photos_are_passed_through_once(scene, job):
    few = questions(scene)
    for _ in range(20):
        (photo,) = scene.photos(1, "resolved")
        ended = scene.enqueue("download").job
        scene.close(scene.claim(ended), [stored(photo)])
    many = questions(scene)
    assert len(many) == len(few) <= 20
    assert sum("FROM photos" in statement for statement in many) == 1


def questions(scene):
    """Return the statements of one status."""
    asked = []
    with scene.catalogue.read() as tx:
        event.listen(tx, "before_cursor_execute", lambda *call: asked.append(call[2]))
        overview.status(tx)
    return asked
