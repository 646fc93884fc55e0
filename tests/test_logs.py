"""A worker's log: one JSON object a line, named by batch or run, and never a secret."""

from __future__ import annotations

import pytest
from houses import house, small_world
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
            processes.start("worker", "--concurrency", "2")
            processes.run("enqueue-resolve")
            over = "SELECT state FROM jobs WHERE stage = 'resolve'"
            processes.wait_until(lambda: home.sql(over) == [("done",)])
            lines = processes.wait_until(
                lambda: [line for line in processes.lines() if line["event"] == "batch closed"]
            )
        text = processes.log.read_text()
    for line in lines:
        assert line["stage"] == "resolve"
        assert {"job", "batch", "term", "worker", "level", "timestamp"} <= set(line)
    keys = [part for pair in home.rooms.settings.api_keys() for part in pair]
    for hidden in (*keys, *SECRETS):
        assert hidden not in text
    if broker:
        assert any(line.get("logger", "").startswith("celery") for line in processes.lines())


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
        database_url="postgresql+psycopg://me:p%40ss@db/popq",
        broker_url="redis://:r@dis@host:6379/0",
        store_url="s3://id:st0re@bucket",
        flower_password="fl0wer",
    )
    found = settings.secrets()
    for secret in ("key1", "secret1", "key2", "p%40ss", "p@ss", "r@dis", "st0re", "fl0wer"):
        assert secret in found
