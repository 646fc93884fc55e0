from __future__ import annotations

import json
import signal
import sqlite3
import time

from cli.conftest import Here
from houses import FIRST_ID, jpeg

from popq.flickr.fake.faults import Fault

TRAIN = ("--arch", "resnet18", "--weights", "none", "--image-size", "32", "--epochs", "1")


def take_in(popq):
    return popq.json("import", "links.txt", "--labels", "labels.txt")


def test_import_prints_its_counts(popq):
    first, again = take_in(popq), take_in(popq)
    names = ("read", "new", "updated", "unchanged", "rejected")
    assert [first[name] for name in names] == [40, 40, 0, 0, 0]
    assert [again[name] for name in names] == [40, 0, 0, 40, 0]
    out, _ = popq("import", "links.txt", "--labels", "labels.txt")
    assert "Nothing changed" in out


def test_import_lists_rejected_rows_with_line_and_reason(popq):
    with (popq.folder / "bad.txt").open("w") as file:
        file.write("https://www.flickr.com/photos/x/123456789\nhttps://example.org\n")
    _, err = popq("import", "bad.txt")
    assert ", line 2: rejected (not_flickr)" in err
    _, err = popq("import", "bad.txt", "--strict", status=2)
    assert "nothing imported" in err


def test_import_refuses_unequal_counts_with_2(popq):
    (popq.folder / "short.txt").write_text("1\n2\n")
    _, err = popq("import", "links.txt", "--labels", "short.txt", status=2)
    assert "40" in err
    assert "2" in err
    assert popq.json("status")["photos"]["listed"] == 0


def test_import_makes_the_catalogue_where_there_is_none(bare):
    (bare.folder / "one.txt").write_text("https://www.flickr.com/photos/x/123456789\n")
    assert bare.json("import", "one.txt")["new"] == 1


def test_the_chain_by_its_commands(popq, home):
    take_in(popq)
    assert popq.json("resolve")["moved"] == 40
    assert popq.json("download")["moved"] == 40
    made = popq.json("dataset", "create", "main", "--val", "0.3")
    assert set(made) >= {"dataset", "count", "tiers", "cuts", "mean", "std", "splits"}
    assert popq.json("dataset", "show", "main") == made
    assert [row["name"] for row in popq.json("dataset", "list")] == ["main"]
    run = popq.json("train", "--dataset", "main", *TRAIN)
    assert popq.json("runs", run["id"])["metrics"] == run["metrics"]
    assert len(popq.json("runs", run["id"])["epochs"]) == 1
    assert popq.json("score", "--run", run["id"])["moved"] == 40
    status = popq.json("status")
    assert status["photos"]["stored"] == 40
    assert [job["stage"] for job in status["jobs"]] == ["score", "download", "resolve"]
    story = popq.json("photo", FIRST_ID)
    assert story["state"] == "stored"
    assert len(story["scores"]) == 1
    with sqlite3.connect(home.rooms.catalogue.path) as connection:
        query = "SELECT id, url, label, state, tier, score FROM scored_photos"
        assert len(connection.execute(query).fetchall()) == 40
    connection.close()
    # The same for a person.
    for command in ("status", "runs", "jobs", "failures", "doctor"):
        out, _ = popq(command)
        assert out.strip()
    assert "Predictors that see no pixel" in popq("runs", run["id"])[0]
    compared = popq.json("runs", "compare", run["id"], run["id"])
    assert compared["photos"] == run["metrics"]["n"]
    assert compared["metrics"]["accuracy"]["difference"] == 0
    out, _ = popq("runs", "compare", run["id"], run["id"])
    assert max(map(len, out.splitlines())) <= 80
    assert "Both were asked to do the same." in out
    assert "no run 99" in popq("runs", "compare", run["id"], "99", status=2)[1]
    assert popq.json("report", "--compare", run["id"])["run"] == run["id"]
    assert "cut at" in popq("dataset", "show", "main")[0]
    assert "Nothing to score" in popq("score")[0]
    assert str(FIRST_ID) in popq("photo", "1")[0]


def test_enqueue_says_what_a_worker_will_find_and_joins_what_is_there(popq):
    take_in(popq)
    first = popq.json("enqueue-resolve", "--limit", "30")
    assert (first["photos"], first["batches"], first["new"]) == (30, 2, True)
    again = popq.json("enqueue-resolve")
    assert (again["job"], again["photos"], again["new"]) == (first["job"], 10, False)
    out, _ = popq("jobs", first["job"])
    assert "resolve" in out
    _, err = popq("jobs", "99", status=2)
    assert "no job 99" in err


def test_photos_left_after_all_tries_exit_with_1(popq, home):
    home.flickr.faults.fail_photo(FIRST_ID, Fault.ERROR_502, times=2)
    take_in(popq)
    _, err = popq("resolve", status=1, POPQ_MAX_TRIES="2")
    assert "1 left after all tries" in err
    failures = popq.json("failures")
    assert [row["outcome"] for row in failures] == ["transient", "transient"]
    assert failures[0]["http_status"] == 502


def test_a_polling_worker_does_all_that_is_enqueued(popq):
    take_in(popq)
    popq("enqueue-resolve")
    with popq.start("worker", "--queues", "io", "--concurrency", "2") as worker:
        wait_until(lambda: popq.json("status")["photos"]["resolved"] == 40)
        popq("enqueue-download")
        wait_until(lambda: popq.json("status")["photos"]["stored"] == 40)
        worker.send_signal(signal.SIGTERM)
        _, err = worker.communicate(timeout=30)
    assert worker.returncode == 0, err
    popq("dataset", "create", "main", "--val", "0.3")
    run = popq.json("train", "--dataset", "main", *TRAIN, "--enqueue")
    assert run["state"] == "queued"
    with popq.start("worker", "--queues", "gpu,io") as worker:
        wait_until(lambda: popq.json("runs", run["id"])["state"] == "done")
        popq("enqueue-score", "--run", run["id"])
        wait_until(lambda: popq.json("jobs")[0]["moved"] == 40)
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=30)


def wait_until(true, seconds=90):
    """Wait for what another process does; the limit only ends a test that has failed."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.1)


def test_an_interrupted_command_keeps_what_is_finished_and_exits_with_130(popq):
    take_in(popq)
    # 360 calls an hour come one at a time: the command is still at it when the signal comes.
    with popq.start("resolve", POPQ_FLICKR_CALLS_PER_HOUR="3600") as process:
        wait_until(lambda: popq.json("status")["photos"]["resolved"] > 0)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert popq.json("resolve")["left"] == 0
    assert popq.json("status")["photos"]["resolved"] == 40


def test_fake_flickr_serves_a_folder_and_prints_where(popq, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        (photos / f"{FIRST_ID + number}.jpg").write_bytes(jpeg(number))
    with popq.start("fake-flickr", "--photos", photos, "--links", "own.txt", "--json") as server:
        text = ""
        while not text.rstrip().endswith("}"):
            text += server.stdout.readline()
        settings = json.loads(text)
        assert popq.json("import", "own.txt")["new"] == 3
        assert popq.json("resolve", **settings)["moved"] == 3
        assert popq.json("download", **settings)["moved"] == 3
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=30)
    assert server.returncode == 0
    (tmp_path / "none").mkdir()
    _, err = popq("fake-flickr", "--photos", tmp_path / "none", status=2)
    assert "holds no" in err


def test_doctor_says_what_works_and_what_does_not(popq, tmp_path):
    checks = {row["name"]: row for row in popq.json("doctor")["checks"]}
    assert [checks[name]["state"] for name in ("database", "store", "key", "torch")] == ["ok"] * 4
    assert checks["broker"]["state"] == "warning"
    assert (checks["workers"]["state"], checks["workers"]["message"]) == ("ok", "none")
    for name in ("migrations", "clock", "images", "disk"):
        assert checks[name]["state"] == "ok", checks[name]
    (tmp_path / "file").write_text("")
    shown = popq.json(
        "doctor",
        status=3,
        POPQ_STORE_URL=str(tmp_path / "file" / "store"),
        POPQ_FLICKR_KEYS="0000:0000",
        POPQ_BROKER_URL="redis://127.0.0.1:1/0",
    )
    wrong = {row["name"] for row in shown["checks"] if row["state"] == "wrong"}
    assert wrong == {"store", "key", "broker"}


def test_an_image_host_that_is_silent_is_wrong_only_where_photos_wait_for_it(
    home, tmp_path, monkeypatch
):
    """A machine without a network and without a key may look at its catalogue in peace."""
    popq = Here(tmp_path, home.settings(), monkeypatch)  # in this process: each look loads torch

    def images(status=0, **settings):
        for name, value in ({"FLICKR_IMAGE_URL": "http://127.0.0.1:1"} | settings).items():
            monkeypatch.setenv(f"POPQ_{name}", value)
        checks = json.loads(popq("doctor", "--json", status=status)[0])["checks"]
        return next(row for row in checks if row["name"] == "images")

    key = home.settings()["POPQ_FLICKR_KEYS"]
    assert images()["state"] == "warning"
    popq("import", "links.txt", "--labels", "labels.txt")
    silent = images(FLICKR_KEYS="")  # a listed photo waits for a key first
    assert silent["state"] == "warning"
    assert "does not answer" in silent["message"]
    assert "No photo waits for it" in silent["message"]
    assert "40 photos wait for it" in images(status=4, FLICKR_KEYS=key)["message"]
    popq("resolve", "--limit", "30")
    assert "30 photos wait for it" in images(status=4, FLICKR_KEYS="")["message"]
