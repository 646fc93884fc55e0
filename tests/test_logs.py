"""A worker's log: one JSON object a line, named by batch or run, and never a secret."""

from __future__ import annotations

import signal

import pytest
from houses import FIRST_ID, house, small_world
from hypothesis import given
from hypothesis import strategies as st
from processes import Processes
from redis import Redis
from servers import redis_url

from popq import api, logs
from popq.flickr.fake.faults import Fault, Faults
from popq.flickr.fake.world import Fate
from popq.settings import Settings

PASSWORD = "hush-hush-broker"
#: What is logged inside of a batch.
INSIDE = {"batch closed", "batch handed back", "host paused", "hosts rest", "lease lost"}
SECRETS = (PASSWORD, "hush-hush-database", "hush-hush-flower", "hush-hush-store")


@pytest.fixture(params=["polling", "celery", "broker away"])
def broker(request):
    if request.param == "polling":
        yield {}
    elif request.param == "broker away":
        yield {"broker_url": f"redis://:{PASSWORD}@127.0.0.1:1/0"}
    else:
        with redis_url() as url, Redis.from_url(url) as redis:
            redis.config_set("requirepass", PASSWORD)
            yield {"broker_url": url.replace("://", f"://:{PASSWORD}@")}
            redis.config_set("requirepass", "")


def test_a_worker_logs_json_with_its_batches_names_and_no_secret(tmp_path, broker):
    faults = Faults()
    for number in range(4):
        faults.fail_photo(14_000_000_000 + 7 * number, list(Fault)[number], times=2)
    world = small_world(40, fates=(Fate.LIVE,) * 10 + (Fate.REMOVED, Fate.VIDEO))
    secret = {"flower_password": SECRETS[2], "log_level": "debug"}
    with house(tmp_path, world, faults, **broker, **secret) as home:
        api.import_list(home.rooms, home.list_files(tmp_path))
        with Processes(tmp_path, home.settings()) as processes:
            worker = processes.start("worker", "--concurrency", "2", err="worker.log")
            processes.run("enqueue-resolve")
            over = "SELECT state FROM jobs WHERE stage = 'resolve'"
            processes.wait_until(lambda: home.sql(over) == [("done",)])
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(30) == 0
        lines = processes.lines("worker.log")
        text = processes.log.read_text() + (tmp_path / "worker.log").read_text()
        name = f"{home.rooms.machine}:{worker.pid}:"
    for line in lines:
        assert line["worker"].startswith(name), line
        assert {"event", "level", "timestamp"} <= set(line)
    assert {"batch closed", "batch handed back", "host paused"} <= of_batches(lines)
    keys = [part for pair in home.rooms.settings.api_keys() for part in pair]
    for hidden in (*keys, *SECRETS):
        assert hidden not in text
    if broker:
        assert any(line.get("logger", "").startswith("celery") for line in lines)


def of_batches(lines):
    """Return the events inside of a batch, each of which must name it."""
    inside = [line for line in lines if line["event"] in INSIDE]
    for line in inside:
        assert (line["stage"], line["job"]) == ("resolve", 1), line
        assert {"batch", "term"} <= set(line), line
    return {line["event"] for line in inside}


def test_a_worker_that_lost_its_lease_says_which(tmp_path):
    faults = Faults()
    faults.fail_photo(FIRST_ID + 7 * 2, Fault.SLOW, slow_s=3.0)
    with house(tmp_path, small_world(10), faults, settle_every_s=3600) as home:
        api.import_list(home.rooms, home.list_files(tmp_path))
        with Processes(tmp_path, home.settings()) as processes:
            processes.start("worker", "--concurrency", "1", err="worker.log")
            processes.run("enqueue-resolve")
            calls = home.flickr.counters
            processes.wait_until(lambda: sum(calls()["api_calls_per_photo"].values()) == 3)
            with home.rooms.catalogue.begin() as tx:
                taken = "UPDATE batches SET term = term + 1, worker = 'another', due = 9e9"
                tx.exec_driver_sql(taken)
            processes.wait_until(lambda: "lease lost" in of_batches(lines(processes)))
        (line,) = [line for line in lines(processes) if line["event"] == "lease lost"]
        assert home.sql("SELECT id, term FROM batches") == [(line["batch"], line["term"] + 1)]


def lines(processes):
    return processes.lines("worker.log")


def test_a_commands_log_holds_no_secret(tmp_path):
    """Whatever is a password: here, words of the very line that is logged."""
    secret = {"flower_password": "workers will sweep", "broker_url": "redis://127.0.0.1:1/0"}
    with house(tmp_path, small_world(3), **secret) as home:
        api.import_list(home.rooms, home.list_files(tmp_path))
        for command in (["enqueue-resolve", "--limit", 1], ["-vv", "enqueue-resolve"]):
            with Processes(tmp_path, home.settings()) as processes:
                processes.run(*command)
                text = processes.log.read_text()
            assert "no bell: the broker does not answer; ***" in text
            assert "sweep" not in text


def test_a_worker_that_cannot_reach_its_database_keeps_its_password(tmp_path):
    settings = {
        "POPQ_DATA_DIR": str(tmp_path),
        "POPQ_DATABASE_URL": f"postgresql+psycopg://me:{SECRETS[1]}@127.0.0.1:1/popq",
        "POPQ_LOG_LEVEL": "debug",
    }
    with Processes(tmp_path, settings) as processes:
        assert processes.start("worker").wait(60) == 4
        assert SECRETS[1] not in processes.log.read_text()


@given(st.text("abc '\"\\\n/@é", min_size=8, max_size=30))
def test_no_part_of_a_line_holds_a_secret(hidden):
    masked = logs._Masked([hidden, ""])
    event = {
        "event": f"x{hidden}y",
        "deep": {"list": [hidden]},
        "error": ValueError(f"no {hidden}"),
        "number": 7,
    }
    assert masked(None, "info", event) == {
        "event": "x***y",
        "deep": {"list": ["***"]},
        "error": "no ***",
        "number": 7,
    }


def test_all_secrets_of_the_settings_are_known():
    settings = Settings(
        flickr_keys="key1:secret1,key2",
        database_url="postgresql+psycopg://me:p%40ss@db/popq?sslpassword=k%25y",
        broker_url="redis://:r@dis@host:6379/0",
        store_url="s3://id:st0re@bucket",
        flower_password="fl0wer",
    )
    found = settings.secrets()
    for secret in (
        "key1",
        "secret1",
        "key2",
        "p%40ss",
        "p@ss",
        "k%25y",
        "k%y",
        "r@dis",
        "st0re",
        "fl0wer",
    ):
        assert secret in found
