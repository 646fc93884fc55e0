"""`popq worker`: how it ends, and how it begins."""

from __future__ import annotations

import signal
import subprocess

import pytest
from houses import FIRST_ID, house, small_world
from processes import Processes, children
from servers import postgres_url, redis_url

from popq import api, stopping
from popq.bootstrap import Rooms
from popq.catalogue import batches
from popq.flickr.fake.faults import Fault, Faults
from popq.settings import Settings

#: The issue's promise: whatever hangs, a worker that is stopped is gone after so many seconds.
PROMISED_S = 10
#: The first photo of each batch of 25 that the API does not answer for minutes.
HANGING = (2, 29)


@pytest.fixture(params=["polling", "celery"])
def broker(request):
    if request.param == "polling":
        yield {}
        return
    with redis_url() as url:
        yield {"broker_url": url}


@pytest.fixture
def hanging(tmp_path, broker):
    """Two batches in a worker's hands, each with a thread that hangs in a photo."""
    faults = Faults()
    for number in HANGING:
        faults.fail_photo(FIRST_ID + 7 * number, Fault.SLOW, slow_s=3600.0)
    slow = {"read_timeout_s": 3600, "settle_every_s": 3600}
    with house(tmp_path, small_world(50), faults, **broker, **slow) as home:
        api.import_list(home.rooms, home.list_files(tmp_path))
        with Processes(tmp_path, home.settings()) as processes:
            home.worker = processes.start("worker", "--concurrency", 2)
            home.processes = processes
            processes.run("enqueue-resolve")
            processes.wait_until(lambda: asked(home) == sum(CALLS))
            yield home


#: How many photos of each batch were asked for before the thread hung, the hanging one included.
CALLS = (HANGING[0] + 1, HANGING[1] + 1 - 25)


def asked(home):
    return sum(home.flickr.counters()["api_calls_per_photo"].values())


def count(home, query):
    return home.sql(f"SELECT count(*) FROM {query}")[0][0]


def test_a_worker_that_is_stopped_puts_down_what_hangs(hanging):
    assert count(hanging, "workers WHERE queue = 'io' AND threads = 2") == 1
    hanging.worker.send_signal(signal.SIGTERM)
    # The photos that hang would take an hour.
    assert hanging.worker.wait(60) == 0, hanging.processes.tail()
    assert stopping.LATEST_S < PROMISED_S
    assert hanging.sql("SELECT state, worker, moved FROM batches ORDER BY id") == [
        ("ready", None, calls - 1) for calls in CALLS
    ]
    assert count(hanging, "photos WHERE state = 'resolved'") == sum(CALLS) - len(CALLS)
    assert count(hanging, "workers") == 0
    with hanging.rooms.catalogue.read() as tx:
        assert batches.next_due_s(tx, 1) <= 0.0  # for another worker to take at once


def test_a_second_signal_ends_a_worker_at_once(hanging):
    hanging.worker.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        hanging.worker.wait(2)
    hanging.worker.send_signal(signal.SIGTERM)
    assert hanging.worker.wait(30) == 128 + signal.SIGTERM
    # Nothing was settled: the leases will run out.
    assert count(hanging, "batches WHERE state = 'leased'") == 2


def test_an_interrupted_command_puts_down_what_hangs(tmp_path):
    faults = Faults()
    faults.fail_photo(FIRST_ID + 7 * 2, Fault.SLOW, slow_s=3600.0)
    with house(tmp_path, small_world(10), faults, read_timeout_s=3600) as home:
        api.import_list(home.rooms, home.list_files(tmp_path))
        with Processes(tmp_path, home.settings()) as processes:
            command = processes.start("resolve")
            processes.wait_until(lambda: asked(home) == 3)
            command.send_signal(signal.SIGINT)
            assert command.wait(30) == 130
        assert home.sql("SELECT state, moved FROM batches") == [("ready", 2)]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_of_two_queues_passes_the_signal_on(tmp_path, signum):
    with (
        house(tmp_path, small_world(1)) as home,
        Processes(tmp_path, home.settings()) as processes,
    ):
        worker = processes.start("worker", "--queues", "io,gpu")
        processes.wait_until(lambda: count(home, "workers") == 2)
        below = children(worker.pid)
        assert len(below) == 2
        worker.send_signal(signum)
        assert worker.wait(30) == 0
        assert count(home, "workers") == 0


def test_a_worker_of_two_queues_ends_when_one_dies(tmp_path):
    with (
        house(tmp_path, small_world(1)) as home,
        Processes(tmp_path, home.settings()) as processes,
    ):
        worker = processes.start("worker", "--queues", "io,gpu")
        processes.wait_until(lambda: count(home, "workers") == 2)
        victim = int(home.sql("SELECT name FROM workers WHERE queue = 'io'")[0][0].split(":")[1])
        subprocess.run(["kill", "-KILL", str(victim)], check=True)
        assert worker.wait(30) == signal.SIGKILL
        assert home.sql("SELECT queue FROM workers") == [("io",)]  # it could not say goodbye


@pytest.fixture(params=["sqlite", "postgres"])
def nothing(request, tmp_path):
    """The settings of an installation that has nothing yet: no folder, no tables."""
    if request.param == "sqlite":
        yield {"data_dir": tmp_path / "new" / "popq-data"}
        return
    with postgres_url() as database, redis_url() as broker:
        yield {"data_dir": tmp_path, "database_url": database, "broker_url": broker}


def test_ten_workers_may_start_at_once_on_an_empty_database(nothing, tmp_path):
    settings = {f"POPQ_{name.upper()}": str(value) for name, value in nothing.items()}
    with Rooms(Settings(**nothing)) as rooms, Processes(tmp_path, settings) as processes:
        workers = [processes.start("worker", "--concurrency", "1") for _ in range(10)]

        def registered():
            assert all(worker.poll() is None for worker in workers), processes.tail()
            if not rooms.catalogue.exists():
                return False
            with rooms.catalogue.read() as tx:
                there = "SELECT count(*) FROM workers"
                try:
                    return tx.exec_driver_sql(there).scalar_one() == 10
                except Exception:  # noqa: BLE001 - no table yet, as each database says it
                    return False

        processes.wait_until(registered)
        with rooms.catalogue.read() as tx:
            assert tx.exec_driver_sql("SELECT count(*) FROM alembic_version").scalar_one() == 1
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
        assert [worker.wait(60) for worker in workers] == [0] * 10, processes.tail()
