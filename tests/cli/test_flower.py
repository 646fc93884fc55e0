"""`popq flower` shows workers and doorbells of jobs, to whoever has the password."""

from __future__ import annotations

import re
import socket
import struct
from pathlib import Path

import pytest
import requests
from houses import house, small_world
from processes import Processes
from servers import free_port, redis_url

from popq import api

PASSWORD = "correct-horse"


@pytest.fixture
def popq(tmp_path):
    with (
        redis_url() as broker,
        house(tmp_path, small_world(30), broker_url=broker) as home,
        Processes(tmp_path, home.settings()) as processes,
    ):
        api.import_list(home.rooms, home.list_files(tmp_path))
        yield processes


def status(url, **options):
    try:
        return requests.get(url, timeout=10, **options).status_code
    except (requests.ConnectionError, requests.Timeout):
        return None


def listening(port):
    """Return the addresses at which this machine listens to a port."""
    found = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            address, _, at = local.partition(":")
            if state == "0A" and int(at, 16) == port:
                words = struct.iter_unpack(">I", bytes.fromhex(address))
                packed = b"".join(struct.pack("=I", word) for (word,) in words)
                found.add(socket.inet_ntop(family, packed))
    return found


def started(popq, *options, **settings):
    """Start Flower and return its address, once it answers."""
    port = free_port()
    popq.start("flower", "--port", port, *options, **settings)
    url = f"http://127.0.0.1:{port}"
    popq.wait_until(lambda: status(f"{url}/healthcheck") == 200)
    assert listening(port) == {"127.0.0.1"}  # and nobody on another machine is heard
    return url


def test_it_shows_workers_and_bells_with_the_jobs_names_to_who_has_the_password(popq):
    url = started(popq, POPQ_FLOWER_PASSWORD=PASSWORD)
    login = ("popq", PASSWORD)
    for page in ("/", "/workers", "/api/tasks", "/api/workers"):
        assert status(url + page) == 401
        assert status(url + page, auth=("popq", "wrong")) == 401
    assert status(f"{url}/workers", auth=login) == 200
    popq.start("worker", "--queues", "io")

    def read(path):
        return requests.get(url + path, auth=login, timeout=30).json()

    popq.wait_until(lambda: any("popq-io@" in name for name in read("/api/workers?refresh=1")))
    popq.run("enqueue-resolve")
    tasks = popq.wait_until(lambda: read("/api/tasks"))
    name, task = next(iter(tasks.items()))
    assert re.fullmatch(r"job-1-[0-9a-f]{8}", name)
    assert task["name"] == "popq.resolve"
    assert task["args"] == "(job 1)"
    assert PASSWORD not in popq.log.read_text()


@pytest.mark.parametrize("loud", [(), ("--quiet",)])
def test_without_a_password_one_is_made_and_shown_once(popq, loud):
    url = started(popq, *loud)
    (password,) = re.findall(r"password (\S+)", popq.log.read_text())
    assert status(url, auth=("popq", "")) == 401
    assert status(f"{url}/workers", auth=("popq", password)) == 200


def test_without_a_broker_it_says_what_shows_the_jobs(popq):
    assert popq.start("flower", POPQ_BROKER_URL=None).wait(60) == 3
    assert "popq status" in popq.tail()


def test_a_port_that_is_taken_is_told(popq):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert popq.start("flower", "--port", port).wait(60) == 4
    assert f"127.0.0.1 port {port} cannot be served" in popq.tail()
    assert "give another --port" in popq.tail()
