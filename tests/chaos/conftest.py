"""Chaos: many workers on real services, and everything dies.

This folder mirrors no room of the house: it proves what the rooms promise together. Each test
disturbs a run and compares it with an undisturbed one on the same list. `make test` runs short
forms; `make chaos` runs the same code with larger numbers (`POPQ_TEST_CHAOS=full`).
"""

from __future__ import annotations

import os
import sys
import time

import pytest
from chaos.fleet import Undisturbed
from chaos.services import OwnPostgres, OwnRedis
from servers import postgres_url, redis_url

FULL = os.environ.get("POPQ_TEST_CHAOS") == "full"


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/chaos/" in item.path.as_posix():
            item.add_marker(pytest.mark.chaos)


@pytest.fixture(scope="session")
def size():
    """Return a function that picks the number of the form that runs: short or full."""
    return lambda short, full: full if FULL else short


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    return Undisturbed(tmp_path_factory.mktemp)


@pytest.fixture
def report_home(request, record_property, capsys):
    """Return a function that prints a run's figures and keeps them beside the test's result."""
    began = time.monotonic()

    def tell(home, **figures):
        figures = {
            "photos": len(home.flickr.world.photos),
            "seconds": round(time.monotonic() - began),
        } | figures
        for name, value in figures.items():
            record_property(name, str(value))
        if FULL:
            with capsys.disabled():
                sys.stdout.write(f"\n{request.node.name}: {figures}\n")

    return tell


@pytest.fixture
def report(report_home):
    """Return a function that does so for the run of a fleet."""

    def tell(fleet, **figures):
        lost = fleet.log().count("lease lost")
        report_home(fleet.home, **{"kills": fleet.kills, "lost leases": lost} | figures)

    return tell


@pytest.fixture
def postgres():
    with postgres_url() as url:
        yield url


@pytest.fixture
def broker():
    with redis_url() as url:
        yield url


@pytest.fixture
def own_redis(tmp_path):
    with OwnRedis(tmp_path) as redis:
        yield redis


@pytest.fixture(scope="session")
def own_server():
    with OwnPostgres() as server:
        yield server


@pytest.fixture
def own_postgres(own_server):
    """Yield a server that may be restarted, and the URL of a fresh database on it."""
    with own_server.database() as url:
        yield own_server, url
