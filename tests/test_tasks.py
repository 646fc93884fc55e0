"""The whole chain through real Celery workers and a real Redis."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest
from houses import house, small_world
from redis import Redis
from servers import redis_url

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
    kept = {k: v for k, v in os.environ.items() if not k.startswith("POPQ_")}
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((tmp_path / "processes.log").open("w"))

        def start(*arguments):
            process = subprocess.Popen(
                [sys.executable, "-m", "popq", *map(str, arguments)],
                cwd=tmp_path,
                env=kept | home.settings(),
                stdout=log,
                stderr=log,
            )
            stack.callback(end, process)
            return process

        yield start


def end(process):
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(20)
    if process.poll() is None:
        process.kill()
        process.wait()


def wait_until(true, tmp_path, seconds=120):
    """Wait for what workers do; the limit only ends a test that has failed, with their log."""
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            pytest.fail((tmp_path / "processes.log").read_text()[-8000:])
        time.sleep(0.1)


def count(home, query):
    return home.sql(f"SELECT count(*) FROM {query}")[0][0]


def run(process):
    assert process.wait(60) == 0


def test_celery_workers_resolve_download_train_and_score(popq, home, tmp_path, broker):
    popq("worker", "--queues", "io,gpu", "--concurrency", "2")
    run(popq("import", "links.txt", "--labels", "labels.txt"))
    run(popq("enqueue-resolve"))
    wait_until(lambda: count(home, "photos WHERE state = 'resolved'") == 40, tmp_path)
    run(popq("enqueue-download"))
    wait_until(lambda: count(home, "photos WHERE state = 'stored'") == 40, tmp_path)
    api.make_dataset(home.rooms, Spec("main", val=0.3))
    options = ("--arch", "resnet18", "--weights", "none", "--image-size", 32, "--epochs", 1)
    run(popq("train", "--dataset", "main", *options, "--enqueue"))
    wait_until(lambda: count(home, "runs WHERE state = 'done'") == 1, tmp_path)
    run(popq("enqueue-score"))
    wait_until(lambda: count(home, "scores") == 40, tmp_path)
    jobs = home.sql("SELECT stage, state FROM jobs ORDER BY id")
    assert jobs == [("resolve", "done"), ("download", "done"), ("score", "done")]
    with Redis.from_url(broker) as redis:
        assert redis.llen("io") == redis.llen("gpu") == 0


def test_work_that_nobody_rang_for_is_found_by_the_sweep(popq, home, tmp_path, broker):
    run(popq("import", "links.txt", "--labels", "labels.txt"))
    run(popq("enqueue-resolve"))
    with Redis.from_url(broker) as redis:
        assert redis.llen("io") == 2  # a bell for each batch
        redis.flushdb()
    popq("worker", "--queues", "io")
    wait_until(lambda: count(home, "photos WHERE state = 'resolved'") == 40, tmp_path)
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
