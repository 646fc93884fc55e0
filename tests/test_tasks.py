"""The whole chain through real Celery workers and a real Redis."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from houses import house, small_world
from processes import Processes
from redis import Redis
from servers import rabbitmq_url, redis_url

from popq import api
from popq.catalogue import migrate
from popq.stages.dataset import Spec


@pytest.fixture
def broker():
    with redis_url() as url:
        yield url


@pytest.fixture
def home(tmp_path, broker):
    with house(tmp_path, small_world(40, owners=10), broker_url=broker) as home:
        home.list_files(tmp_path)
        yield home


@pytest.fixture
def popq(home, tmp_path):
    """Start `popq ...` as a process with the house's settings; all are ended with the test."""
    with Processes(tmp_path, home.settings()) as processes:
        yield processes


def count(home, query):
    return home.sql(f"SELECT count(*) FROM {query}")[0][0]


def test_celery_workers_resolve_download_train_and_score(popq, home, tmp_path, broker):
    popq.start("worker", "--queues", "io,gpu", "--concurrency", "2")
    popq.run("import", "links.txt", "--labels", "labels.txt")
    popq.run("enqueue-resolve")
    popq.wait_until(lambda: count(home, "photos WHERE state = 'resolved'") == 40)
    popq.run("enqueue-download")
    popq.wait_until(lambda: count(home, "photos WHERE state = 'stored'") == 40)
    api.make_dataset(home.rooms, Spec("main", val=0.3))
    options = ("--arch", "resnet18", "--weights", "none", "--image-size", 32, "--epochs", 1)
    popq.run("train", "--dataset", "main", *options, "--enqueue")
    popq.wait_until(lambda: count(home, "runs WHERE state = 'done'") == 1)
    popq.run("enqueue-score")
    popq.wait_until(lambda: count(home, "scores") == 40)
    jobs = home.sql("SELECT stage, state FROM jobs ORDER BY id")
    assert jobs == [("resolve", "done"), ("download", "done"), ("score", "done")]
    with Redis.from_url(broker) as redis:  # a bell that came too late is heard, too
        popq.wait_until(lambda: redis.llen("io") == redis.llen("gpu") == 0)


def test_work_that_nobody_rang_for_is_found_by_the_sweep(popq, home, tmp_path, broker):
    popq.run("import", "links.txt", "--labels", "labels.txt")
    popq.run("enqueue-resolve")
    with Redis.from_url(broker) as redis:
        assert redis.llen("io") == 2  # a bell for each batch
        redis.flushdb()
    popq.start("worker", "--queues", "io")
    popq.wait_until(lambda: count(home, "photos WHERE state = 'resolved'") == 40)
    assert set(home.flickr.counters()["api_calls_per_photo"].values()) == {1}


def test_enqueuing_without_a_broker_that_answers_still_leaves_the_job(tmp_path):
    with house(tmp_path, small_world(3), broker_url="redis://127.0.0.1:1/0") as home:
        migrate.upgrade(home.rooms.catalogue)
        api.import_list(home.rooms, home.list_files(tmp_path))
        kept = {k: v for k, v in os.environ.items() if not k.startswith("POPQ_")}
        done = subprocess.run(
            [sys.executable, "-m", "popq", "enqueue-resolve"],
            cwd=tmp_path,
            env=kept | home.settings(),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert "3 photos in 1 batches" in done.stdout
        assert "broker does not answer" in done.stderr
        assert count(home, "batches WHERE state = 'ready'") == 1


def test_a_rabbitmq_that_refuses_us_stops_no_enqueuing_and_is_a_service_that_is_down(tmp_path):
    with (
        rabbitmq_url() as url,
        house(tmp_path, small_world(3)) as home,
        Processes(tmp_path, home.settings()) as popq,
    ):
        login = f"amqp://nobody:wrong@{url.rpartition('@')[2]}"
        api.import_list(home.rooms, home.list_files(tmp_path))
        asked = popq.start("enqueue-resolve", "--limit", 1, POPQ_BROKER_URL=login)
        assert asked.wait(600) == 0
        nowhere = f"{url}-that-is-not-there"
        assert popq.start("enqueue-resolve", POPQ_BROKER_URL=nowhere).wait(600) == 0
        assert popq.start("doctor", POPQ_BROKER_URL=login).wait(600) == 4
        told = popq.log.read_text()
        assert told.count("no bell: the broker does not answer") == 2
        assert count(home, "batches WHERE state = 'ready'") == 2
        assert "Start it, or unset POPQ_BROKER_URL." in told
        assert popq.start("worker", POPQ_BROKER_URL=login).wait(600) == 4


def test_rabbitmq_carries_the_bells_by_its_url_alone(tmp_path):
    with (
        rabbitmq_url() as url,
        house(tmp_path, small_world(30), broker_url=url) as home,
        Processes(tmp_path, home.settings()) as popq,
    ):
        popq.start("worker", "--queues", "io", "--concurrency", "2")
        api.import_list(home.rooms, home.list_files(tmp_path))
        popq.wait_until(lambda: "ready" in popq.log.read_text())
        popq.run("enqueue-resolve")
        popq.wait_until(lambda: count(home, "photos WHERE state = 'resolved'") == 30)
        # Not the sweep alone: a bell was heard.
        popq.wait_until(lambda: "Task popq.resolve[job-1-" in popq.log.read_text())
        worker = popq.start("worker", "--queues", "io")
        popq.wait_until(lambda: count(home, "workers") == 2)
        worker.terminate()
        assert worker.wait(30) == 0
