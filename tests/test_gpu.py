"""The gpu worker: torch only in its child, which may be stopped, killed, or never be rung for."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import pytest
from celery import Celery
from houses import house, quiet, small_world
from processes import Processes, children, has_torch
from servers import redis_url

from popq import api, gpu
from popq.stages.dataset import Spec
from popq.stages.drain import SWEEP_S

#: Enough epochs that a test finds the run at work.
RUN = {"arch": "resnet18", "weights": "none", "image_size": 32, "epochs": 10}
NOBODY = "redis://127.0.0.1:1/0"
#: The same sums on a busy machine, and sooner there.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
NUMBERS = "epoch, train_loss, train_accuracy, val_loss, val_accuracy"


@pytest.fixture(scope="module")
def broker():
    with redis_url() as url:
        yield url


@pytest.fixture(scope="module")
def stored(tmp_path_factory, broker):
    """A house with photos to learn from, and what an undisturbed run comes to."""
    folder = tmp_path_factory.mktemp("house")
    with house(folder, small_world(40, owners=10), lease_s=4, broker_url=broker) as home:
        api.import_list(home.rooms, home.list_files(folder))
        for stage in ("resolve", "download"):
            api.work(home.rooms, stage, on_progress=quiet)
        # The same photos by two names: a run of the same data set would be found done.
        for name in ("undisturbed", "main"):
            api.make_dataset(home.rooms, Spec(name, val=0.3))
        with Processes(folder, home.settings() | ONE_THREAD) as processes:
            run = api.new_run(home.rooms, "undisturbed", "default", RUN)
            options = [f"--{name.replace('_', '-')}={value}" for name, value in RUN.items()]
            processes.run("train", "--dataset", "undisturbed", *options)
        home.undisturbed = numbers(home, run)
        yield home


@pytest.fixture
def run(stored):
    """A queued run, the same for each test, and not to be found done by the next."""
    run = api.new_run(stored.rooms, "main", "default", RUN)
    yield run
    with stored.rooms.catalogue.begin() as tx:
        tx.exec_driver_sql(f"UPDATE runs SET state = 'failed', worker = NULL WHERE id = {run}")


@pytest.fixture
def popq(stored, run, tmp_path):
    with Processes(tmp_path, stored.settings() | ONE_THREAD) as processes:
        yield processes


def numbers(home, run):
    rows = home.sql(f"SELECT {NUMBERS} FROM epochs WHERE run_id = {run} ORDER BY epoch")
    return rows, home.sql(f"SELECT weights_sha256 FROM runs WHERE id = {run}")


def state(home, run):
    return home.sql(f"SELECT state FROM runs WHERE id = {run}")[0][0]


def at_work(home, popq, run, epochs=2):
    """Wait until some epochs of the run are done."""
    query = f"SELECT count(*) FROM epochs WHERE run_id = {run}"
    popq.wait_until(lambda: home.sql(query)[0][0] >= epochs)


def done(home, popq, run):
    popq.wait_until(lambda: state(home, run) == "done")


def trainer(worker):
    """Return the process below the worker that has loaded torch."""
    return next((pid for pid in children(worker.pid) if has_torch(pid)), None)


@pytest.mark.parametrize("rung", ["by a bell", "by nobody"])
def test_a_child_that_is_killed_is_survived_and_changes_nothing(stored, popq, run, rung):
    broker = {} if rung == "by a bell" else {"POPQ_BROKER_URL": NOBODY}
    worker = popq.start("worker", "--queues", "gpu", **broker)
    at_work(stored, popq, run)
    victim = trainer(worker)
    os.kill(victim, signal.SIGKILL)  # as the out-of-memory killer does
    done(stored, popq, run)
    assert worker.poll() is None
    assert not has_torch(worker.pid)
    assert numbers(stored, run) == stored.undisturbed
    assert stored.sql(f"SELECT term FROM runs WHERE id = {run}") == [(2,)]


@pytest.mark.parametrize("bells", ["redis", "nobody", "none"])
def test_a_worker_that_is_stopped_hands_its_run_to_another(stored, popq, run, bells):
    urls = {"redis": {}, "nobody": {"POPQ_BROKER_URL": NOBODY}, "none": {"POPQ_BROKER_URL": None}}
    worker = popq.start("worker", "--queues", "gpu", err="gpu.log", **urls[bells])
    at_work(stored, popq, run)
    assert not has_torch(worker.pid)
    assert trainer(worker) is not None
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0, popq.tail()
    assert state(stored, run) == "queued"  # by now, not some time after
    # All is JSON, the child's lines too.
    logged = popq.lines("gpu.log")
    assert all("worker" in line for line in logged)
    (stopped,) = [line for line in logged if line["event"] == "run stopped"]
    assert (stopped["run"], stopped["worker"].split(":")[1]) == (run, str(worker.pid))
    assert stored.sql(f"SELECT worker FROM runs WHERE id = {run}") == [(None,)]
    left = f"SELECT count(*) FROM workers WHERE name LIKE '%:{worker.pid}:%'"
    assert stored.sql(left) == [(0,)]
    popq.start("worker", "--queues", "gpu", **urls[bells])
    done(stored, popq, run)
    assert numbers(stored, run) == stored.undisturbed


def test_a_worker_answers_while_its_child_trains(stored, popq, run, broker):
    popq.start("worker", "--queues", "gpu")
    at_work(stored, popq, run, epochs=1)
    with Celery(broker=broker) as app:
        answers = popq.wait_until(app.control.inspect(timeout=5, limit=1).ping, 60)
    assert list(answers.values()) == [{"ok": "pong"}]
    assert state(stored, run) == "running"
    name = stored.sql(f"SELECT worker FROM runs WHERE id = {run}")[0][0]
    assert list(answers) == [f"popq-gpu@{name}"]
    assert stored.sql("SELECT name, queue, threads FROM workers") == [(name, "gpu", 1)]


def test_a_worker_that_is_busy_rings_for_nobody(stored, popq, run):
    """Or a training of days would fill the broker with expired bells, for each run that waits."""
    popq.start("worker", "--queues", "gpu")
    done(stored, popq, run)
    long, waiting = (
        api.new_run(stored.rooms, "main", "default", RUN | {"seed": 1, "epochs": epochs})
        for epochs in (100_000, 1)
    )
    at_work(stored, popq, long, epochs=1)
    with stored.rooms.catalogue.begin() as tx:
        tx.exec_driver_sql(f"UPDATE runs SET rung = 0 WHERE id = {waiting}")
    time.sleep(3 * SWEEP_S)
    assert stored.sql(f"SELECT rung FROM runs WHERE id = {waiting}") == [(0,)]
    api.stop_run(stored.rooms, long)
    done(stored, popq, waiting)


def test_a_score_job_is_done_by_a_child_too(stored, popq, run):
    worker = popq.start("worker", "--queues", "gpu")
    done(stored, popq, run)
    popq.run("enqueue-score", "--run", run)
    job = "SELECT state FROM jobs WHERE stage = 'score'"
    popq.wait_until(lambda: stored.sql(job) == [("done",)])
    assert stored.sql("SELECT count(*) FROM scores") == [(40,)]
    assert not has_torch(worker.pid)


def test_a_score_job_that_nobody_ended_is_ended_by_who_looks_for_work(stored, popq, run):
    popq.run(
        "train", "--dataset", "main", *(f"--{k.replace('_', '-')}={v}" for k, v in RUN.items())
    )
    popq.run("score", "--run", run)
    with stored.rooms.catalogue.begin() as tx:
        tx.exec_driver_sql("UPDATE jobs SET state = 'running', finished_at = NULL")
    assert gpu.waiting(stored.rooms) == []
    assert stored.sql("SELECT DISTINCT state FROM jobs WHERE stage = 'score'") == [("done",)]


def test_a_process_that_cannot_be_started_ends_no_sweep(stored, run, popq, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    stop, asked = threading.Event(), []

    def ring(unit):
        asked.append(unit)
        return False

    sweep = threading.Thread(target=gpu.serve, args=(stored.rooms, stop, ring))
    sweep.start()
    try:
        popq.wait_until(lambda: len(asked) > 1, seconds=60)
    finally:
        stop.set()
        sweep.join()
    assert {unit.id for unit in asked} == {run}
