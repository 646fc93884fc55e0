"""`popq status` as a person sees it, and as a program reads it, whatever else is down."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import termios

import pytest
from catalogue.scene import Scene, resolved
from servers import postgres_url, redis_url
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from popq.catalogue import hosts, jobs, migrate
from popq.catalogue.batches import Failed
from popq.catalogue.db import Catalogue
from popq.errors import Outcome

NOBODY = "redis://:hushhush@127.0.0.1:1/0"
WHY = "https://live.staticflickr.com/65535/14000000007_00000003e8_z.jpg: HTTP 429"


@pytest.fixture
def in_flight(home):
    """A run in flight: 100 photos to resolve, three of ten batches in hands, one of them dead."""
    return run_in_flight(Scene(home.rooms.catalogue))


def run_in_flight(scene):
    photos = scene.photos(100)
    scene.photos(5, "resolved")
    scene.photo(state="gone", reason="private")
    job = scene.enqueue("resolve", size=10).job
    now = scene.catalogue_now()
    first = scene.claim(job, "alive:1:a")
    failed = Failed(photos[9], Outcome.TRANSIENT, "HTTP 502", 502)
    scene.close(first, [resolved(photo) for photo in photos[:9]], [failed])
    scene.do("UPDATE batches SET begun = begun - 500 WHERE id = :id", id=first.batch)
    scene.claim(job, "alive:1:a")
    dead = scene.claim(job, "dead:2:b")
    scene.claim(job, "here:3:c")
    scene.do("UPDATE batches SET due = due - 100 WHERE id = :id", id=dead.batch)
    paused = scene.enqueue("download").job
    with scene.catalogue.begin() as tx:
        for name in ("flickr:1", "flickr:2", "images"):
            hosts.register(tx, name, 3600.0)
        hosts.pause(tx, "images", 600.0, None, WHY)
        hosts.disable(tx, "flickr:2", "code 100: invalid API key")
        jobs.pause(tx, paused, "the disk is full")
    for name, ago in (("alive:1:a", 1), ("dead:2:b", 300)):
        insert = "INSERT INTO workers (name, queue, threads, seen) VALUES (:n, 'io', 8, :s)"
        scene.do(insert, n=name, s=now - ago)
    return scene


def timeless(status):
    """Return what of a status does not change by the mere passage of time."""
    if isinstance(status, dict):
        moves = ("_s", "per_second", "at")
        return {k: timeless(v) for k, v in status.items() if not k.endswith(moves)}
    return [timeless(v) for v in status] if isinstance(status, list) else status


def test_a_run_in_flight_is_told_to_a_person(popq, in_flight):
    out, err = popq("status")
    assert err == ""
    assert max(map(len, out.splitlines())) <= 80
    told = " ".join(out.split())
    for words in (
        "listed 91 85.8 %",
        "gone 1 0.9 % private 1",
        "1 resolve running 10 of 100 (10.0 %), ",
        " left; 1 stay after all tries batches: 2 in work, 6 waiting, 1 whose lease ran out",
        "2 download paused 0 of 14 (0.0 %)",
        "the disk is full",
        "alive:1:a io, 8 threads, up",
        "job 1 resolve, photos 11 to 20, for ",
        "dead:2:b io, 8 threads, SILENT since",
        "; LEASE RAN OUT ",
        "here:3:c works here and now",
        "flickr:1 3,600/h, open",
        "flickr:2 3,600/h, TAKEN OUT until `popq doctor` finds it right: code 100",
        "images 3,600/h, PAUSED for another 9 min",
        WHY,
        "failures of the last hour resolve transient 1",
        "broker none set",
    ):
        assert words in told, words


def test_a_run_in_flight_is_told_to_a_program_in_seconds(popq, in_flight):
    status = popq.json("status")
    names = ["at", "photos", "reasons", "jobs", "runs", "workers", "hosts", "failures", "broker"]
    assert list(status) == names
    running = status["jobs"][1]
    assert running["per_second"] == pytest.approx(9 / 500, rel=0.2)
    assert running["left_s"] == pytest.approx(90 / running["per_second"])
    assert [(w["name"], w["alive"], len(w["work"])) for w in status["workers"]] == [
        ("alive:1:a", True, 1),
        ("dead:2:b", False, 1),
        ("here:3:c", None, 1),
    ]
    lease_s = [work["lease_s"] > 0 for w in status["workers"] for work in w["work"]]
    assert lease_s == [True, False, True]
    assert 500 < status["hosts"][2]["paused_s"] <= 600
    assert status["failures"] == [{"stage": "resolve", "outcome": "transient", "count": 1}]
    assert status["broker"] == {"url": None, "answers": None, "why": None}
    shown = popq("status", "--help")[0]
    told = [status, running, *status["workers"], status["hosts"][0], status["failures"][0]]
    for name in {name for row in told for name in row} | set(status["workers"][0]["work"][0]):
        assert name in shown, name


def test_status_is_right_when_the_broker_is_down_and_says_that_it_is(popq, in_flight):
    alone = popq.json("status")
    status = popq.json("status", POPQ_BROKER_URL=NOBODY)
    assert timeless(status) == timeless(alone) | {"broker": timeless(status["broker"])}
    assert status["broker"]["answers"] is False
    assert "refused" in status["broker"]["why"]
    out, err = popq("status", POPQ_BROKER_URL=NOBODY)
    assert "DOES NOT ANSWER" in out
    assert "hushhush" not in out + err + json.dumps(status)


def test_a_broker_that_takes_calls_and_never_speaks_holds_nobody_up(popq):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"redis://127.0.0.1:{mute.getsockname()[1]}/0"
        broker = popq.json("status", POPQ_BROKER_URL=url)["broker"]
    assert broker == {"url": url, "answers": False, "why": "no answer within 2 s"}


@pytest.mark.parametrize("url", ["redis://:hush#hush@h:1/0", "redis://:hush/hush@h:1/0"])
def test_a_broker_url_that_cannot_be_read_is_a_wrong_setting_and_no_secret_is_shown(bare, url):
    _, err = bare("status", status=3, POPQ_BROKER_URL=url)
    assert "POPQ_BROKER_URL" in err
    assert "cannot be read as a URL" in err
    assert "hush" not in err


def test_a_broker_that_answers_is_said_to(popq):
    with redis_url() as url:
        broker = popq.json("status", POPQ_BROKER_URL=url)["broker"]
        assert (broker["answers"], broker["why"]) == (True, None)
        assert "answers" in popq("status", POPQ_BROKER_URL=url)[0].splitlines()[-1]


def test_what_others_said_cannot_speak_to_the_terminal_nor_break_the_page(popq, home):
    scene = Scene(home.rooms.catalogue)
    said = "\x1b[2J\x07" + "a word of no end" * 30 + "x" * 200
    with scene.catalogue.begin() as tx:
        hosts.register(tx, "h" * 120, 1e9)
        hosts.pause(tx, "h" * 120, 1.0, 1e9, said)
    out, _ = popq("status")
    assert "\x1b" not in out
    assert "\x07" not in out
    assert max(map(len, out.splitlines())) <= 80


def test_watch_repeats_until_it_is_interrupted(popq, in_flight):
    with popq.start("status", "--watch", "0.2") as process:
        pages = []
        while len(pages) < 2:
            pages.append(list(iter(process.stdout.readline, "-" * 80 + "\n")))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert [page[1] for page in pages] == ["  listed              91  85.8 %\n"] * 2


def test_watch_with_json_prints_a_document_each_time(popq):
    with popq.start("status", "--watch", "--json") as process:
        text = ""
        while text.count("\n}\n") < 2:
            text += process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    decode = json.JSONDecoder().raw_decode
    first, end = decode(text)
    second, _ = decode(text[end:].lstrip())
    assert timeless(first) == timeless(second)


def test_watch_on_a_terminal_redraws_what_fits(popq, in_flight):
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (10, 60))
    with popq.start("status", "--watch", "0.2", stdout=theirs) as process:
        os.close(theirs)
        shown = b""
        while shown.count(b"\x1b[H") < 3:
            shown += os.read(ours, 10_000)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    os.close(ours)
    assert process.returncode == 130
    first, second, *_ = shown.decode().split("\x1b[H")[1:]
    lines = second.replace("\x1b[K", "").split("\r\n")
    assert len(lines) == 10  # nine, and the place of the cursor
    assert lines[1] == "  listed              91  85.8 %"
    assert max(map(len, lines)) <= 60
    assert "too low" in lines[8]
    assert len(first.split("\r\n")) == 10


def test_watch_goes_on_when_the_database_was_away(popq):
    with postgres_url() as url:
        catalogue = Catalogue(url)
        migrate.upgrade(catalogue)
        catalogue.close()
        admin = create_engine(make_url(url).set(database="postgres"), isolation_level="AUTOCOMMIT")
        name = make_url(url).database
        with popq.start("status", "--watch", "0.2", "--json", POPQ_DATABASE_URL=url) as process:
            read_document(process)
            with admin.connect() as tx:
                tx.exec_driver_sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
                end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
                tx.exec_driver_sql(end, (name,))
                said = process.stderr.readline()
                tx.exec_driver_sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
            read_document(process)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)
        admin.dispose()
    assert "does not answer" in said
    assert process.returncode == 130


def read_document(process):
    """Read what is printed up to the end of the next whole document, and one more."""
    for _ in range(2):
        while process.stdout.readline() != "}\n":
            assert process.poll() is None


def test_without_watch_a_database_that_is_down_is_an_error(popq):
    url = "postgresql+psycopg://popq@127.0.0.1:1/popq"
    _, err = popq("status", status=4, POPQ_DATABASE_URL=url)
    assert "does not answer" in err


def test_watching_too_often_is_refused(popq):
    _, err = popq("status", "--watch", "0", status=2)
    assert "not in the range" in err


def test_doctor_warns_of_silent_workers(popq, in_flight):
    (row,) = [row for row in popq.json("doctor")["checks"] if row["name"] == "workers"]
    assert row["state"] == "warning"
    assert "io 1 alive; silent: dead:2:b" in row["message"]
