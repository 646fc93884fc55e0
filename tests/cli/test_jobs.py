"""`popq jobs` and the `enqueue-` commands, as a person types them."""

from __future__ import annotations

import signal
import time

import pytest

#: A call a second, and an image in four.
RATES = {"POPQ_FLICKR_CALLS_PER_HOUR": "3600", "POPQ_IMAGES_PER_SECOND": "0.25"}


@pytest.fixture
def listed(popq):
    popq("import", "links.txt", "--labels", "labels.txt")
    return popq


def test_jobs_are_listed_shown_paused_resumed_and_cancelled_by_their_number(listed):
    job = listed.json("enqueue-resolve", "--owner", "10000002@N00")["job"]
    out, _ = listed("jobs", job)
    assert "photos of 10000002@N00" in out
    assert "queued" in out
    listed("jobs", "pause", job)
    _, err = listed("jobs", "pause", job, status=2)
    assert "paused already" in err
    told = listed.json("jobs", "resume", job)
    assert (told["state"], told["filter"]) == ("running", {"owner": "10000002@N00"})
    assert listed.json("jobs", "cancel", job)["batches_by_state"]["done"] == 1
    _, err = listed("jobs", "resume", job, status=2)
    assert "only an active job" in err
    assert [row["state"] for row in listed.json("jobs")] == ["cancelled"]
    _, err = listed("jobs", "cancel", "99", status=2)
    assert "There is no job 99" in err


def test_photos_that_a_cancelled_job_never_came_to_are_not_done(listed):
    listed("enqueue-resolve")
    listed("jobs", "cancel", "1")
    (job,) = listed.json("status")["jobs"]
    assert (job["done"], job["left"], job["photos"]) == (0, 40, 40)
    assert "1 resolve  cancelled 0 of 40 (0.0 %); 40 are left over" in listed("status")[0]


def test_a_paused_job_that_has_nothing_left_is_done_and_not_said_to_be_paused(listed):
    listed("enqueue-resolve", "--then", "download")
    listed("jobs", "pause", "2")
    listed("jobs", "cancel", "1")  # which the second has waited for
    done, _ = listed.json("jobs")
    assert (done["state"], done["message"]) == ("done", None)


def test_a_dry_run_and_the_refusal_of_two_filters_change_nothing(listed):
    out, _ = listed("enqueue-resolve", "--then", "download", "--dry-run", **RATES)
    assert "resolve: 40 photos in 2 batches: about 40 s at 60/min.\n" in out
    assert "download: 40 photos in 0 batches: about 2 min 40 s at 15/min.\n" in out
    assert listed.json("jobs") == []
    listed("enqueue-resolve", "--min-label", "3")
    _, err = listed("enqueue-resolve", "--owner", "10000002@N00", status=2)
    assert "popq jobs cancel 1" in err
    _, err = listed("enqueue-resolve")
    assert "now it is for all photos" in err


def test_a_dry_run_with_a_limit_counts_no_download_of_other_photos(listed, home):
    listed("resolve", "--limit", "12")
    asked = ("enqueue-resolve", "--limit", "5", "--then", "download")
    foreseen = listed.json(*asked, "--dry-run")["then"]
    assert (foreseen["photos"], foreseen["batches"]) == (5, 0)
    assert listed.json(*asked)["then"]["photos"] == 0  # of the twelve, and five are handed on


def test_an_active_job_that_is_asked_for_again_says_by_how_much_it_has_grown(listed):
    out, _ = listed("enqueue-resolve", "--limit", "15")
    assert out == "Job 1 is made: 15 photos in 1 batches.\n"
    out, _ = listed("enqueue-resolve", "--dry-run", **RATES)
    assert "25 photos in 1 batches, beside what job 1 has: about 25 s at 60/min.\n" in out
    out, _ = listed("enqueue-resolve")
    assert out == "Job 1 was active already and has grown: 25 photos in 1 batches.\n"
    out, _ = listed("enqueue-resolve")
    assert out == "Job 1 is active already, and nothing is new: 0 photos in 0 batches.\n"


def test_a_stream_is_followed_to_its_end_beside_a_worker(listed):
    worker = listed.start("worker")
    try:
        out, err = listed("enqueue-resolve", "--then", "download", "--follow")
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=60)
    assert "Job 1 is done: 40 done, 0 left us." in out
    assert "Job 2 is done: 40 done, 0 left us." in out
    assert "40 of 40" in err


def test_an_interrupt_ends_the_following_and_not_the_job(listed):
    follower = listed.start("enqueue-resolve", "--follow")
    until = time.monotonic() + 60
    while not listed.json("jobs"):
        assert time.monotonic() < until
    line = follower.stderr.readline()  # it follows
    while "job 1 (resolve)" not in line:
        line = follower.stderr.readline()
    follower.send_signal(signal.SIGINT)
    _, err = follower.communicate(timeout=60)
    assert (follower.returncode, "the job goes on" in err) == (130, True)
    assert listed.json("jobs")[0]["state"] == "queued"


def test_a_job_that_left_photos_is_retried(listed, home):
    down = {"POPQ_FLICKR_IMAGE_URL": "http://127.0.0.1:1", "POPQ_MAX_TRIES": "1"}
    listed("resolve", "--limit", "2")
    listed("download", status=1, **down)
    job = listed.json("jobs")[0]["job"]
    out, _ = listed("jobs", "retry", job, "--reason", "gone")
    assert "Nothing to retry" in out
    assert listed.json("jobs", "retry", job)["enqueued"]["photos"] == 2
    assert home.sql("SELECT count(*) FROM jobs") == [(3,)]
