"""Rates: no window of an hour exceeds the budget, pauses double and are not stretched."""

from __future__ import annotations

import math
import shutil

import pytest
from catalogue.scene import Scene, at_once
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from popq.catalogue import hosts, overview
from popq.catalogue.db import Catalogue

HOUR_S = 3600.0
#: Real seconds that a test may take without its faked clock being off by more.
SLACK_S = 5.0


@pytest.fixture
def key(scene):
    with scene.catalogue.begin() as tx:
        hosts.register(tx, "flickr:1", 3600.0)
    return scene


def grant(scene, want):
    with scene.catalogue.begin() as tx:
        return hosts.grant(tx, "flickr:1", want)


def pause(scene, first_s=10.0, retry_after_s=None):
    with scene.catalogue.begin() as tx:
        return hosts.pause(tx, "flickr:1", first_s, retry_after_s, "HTTP 429")


def is_open(scene):
    with scene.catalogue.read() as tx:
        return hosts.is_open(tx, "flickr:1")


def let_pass(scene, seconds):
    """Fake the passage of time: the clock is the database's, so the row moves back instead."""
    scene.do("UPDATE hosts SET tat = tat - :s, paused_until = paused_until - :s", s=seconds)


@pytest.fixture(scope="module")
def one_file(empty_sqlite, tmp_path_factory):
    path = tmp_path_factory.mktemp("hosts") / "popq.db"
    catalogue = Catalogue(f"sqlite:///{shutil.copy(empty_sqlite, path)}")
    yield Scene(catalogue)
    catalogue.close()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    per_hour=st.sampled_from([1.0, 1.5, 2.0, 10.0, 359.0, 360.0, 3600.0, 72000.0]),
    steps=st.lists(
        st.tuples(st.floats(0, 5000) | st.floats(0, 20), st.integers(0, 500)), max_size=20
    ),
)
def test_no_window_of_an_hour_gets_more_than_the_budget(one_file, per_hour, steps):
    one_file.do("DELETE FROM hosts")
    with one_file.catalogue.begin() as tx:
        hosts.register(tx, "flickr:1", per_hour)
    granted, now = [], 0.0
    for wait_s, want in steps:
        let_pass(one_file, wait_s)
        now += wait_s
        found = grant(one_file, want)
        assert 0 <= found.permits <= want
        assert found.wait_s >= 0
        granted.append((now, found.permits))
    for start, _ in granted:
        # A grant may be spent until it is void, and real time passes beside the faked one.
        end = start + HOUR_S + hosts.GRANT_VALID_S - SLACK_S
        assert sum(permits for at, permits in granted if start <= at < end) <= per_hour


def test_the_whole_budget_is_to_be_had_by_one_that_keeps_asking(key):
    total = 0
    for _ in range(61):  # ten minutes, of which six hundred calls are the share
        total += grant(key, 100).permits
        let_pass(key, 10.0)
    assert 580 <= total <= 620


def test_the_wait_that_is_told_ends_with_half_a_burst(key):
    while (found := grant(key, 3)).permits:
        assert found.permits <= 3
    assert not is_open(key)
    let_pass(key, found.wait_s)
    assert is_open(key)
    assert grant(key, 100).permits >= 5


def test_the_host_that_was_left_alone_longest_is_asked_first(key):
    names = ["flickr:1", "flickr:2", "flickr:3"]
    with key.catalogue.begin() as tx:
        for name in names[1:]:
            hosts.register(tx, name, 3600.0)
        assert hosts.least_asked(tx, names) == names
        hosts.grant(tx, "flickr:1", 2)
        hosts.grant(tx, "flickr:2", 1)
        assert hosts.least_asked(tx, names) == ["flickr:3", "flickr:2", "flickr:1"]


def test_grants_at_the_same_moment_share_one_budget(key):
    found = at_once(*[lambda: grant(key, 100).permits] * 6)
    assert sum(found) <= 10 + SLACK_S


def test_registering_again_changes_the_rate_and_keeps_the_debt(key):
    grant(key, 100)
    debt = key.scalar("SELECT tat FROM hosts")
    with key.catalogue.begin() as tx:
        hosts.register(tx, "flickr:1", 7200.0)
    assert key.rows("SELECT per_hour, burst, tat FROM hosts") == [(7200.0, 20, debt)]


def test_registering_at_the_same_moment_makes_one_row(scene):
    def register():
        with scene.catalogue.begin() as tx:
            hosts.register(tx, "images", 10.0)

    at_once(*[register] * 5)
    assert scene.rows("SELECT name, burst FROM hosts") == [("images", 1)]


def test_a_paused_host_gives_nothing_and_says_for_how_long(key):
    assert pause(key, first_s=40.0) == 40.0
    found = grant(key, 5)
    assert found.permits == 0
    assert 40.0 - SLACK_S < found.wait_s <= 40.0
    assert not is_open(key)
    let_pass(key, 41.0)
    assert is_open(key)
    assert grant(key, 5).permits == 5


def test_each_new_pause_is_twice_as_long_up_to_half_an_hour(key):
    waits = []
    for _ in range(10):
        waits.append(pause(key, first_s=10.0))
        let_pass(key, waits[-1] + 1)
    assert waits == [10, 20, 40, 80, 160, 320, 640, 1280, 1800, 1800]


def test_calls_that_were_under_way_do_not_lengthen_the_pause(key):
    pause(key, first_s=40.0)
    until = key.scalar("SELECT paused_until FROM hosts")
    again = at_once(*[lambda: pause(key, first_s=40.0, retry_after_s=20.0)] * 4)
    assert all(wait_s <= 40.0 for wait_s in again)
    assert key.scalar("SELECT paused_until FROM hosts") == until


def test_calls_that_were_under_way_lengthen_a_pause_to_what_the_server_asks_for(key):
    pause(key, first_s=40.0)
    assert pause(key, first_s=40.0, retry_after_s=500.0) == 500.0
    assert 500.0 - SLACK_S < pause(key, first_s=40.0, retry_after_s=300.0) <= 500.0
    assert 500.0 - SLACK_S < grant(key, 5).wait_s <= 500.0
    assert pause(key, first_s=40.0, retry_after_s=math.inf) == 86_400.0
    let_pass(key, 86_401.0)
    assert pause(key, first_s=40.0) == 80.0  # twice the first


def test_the_server_is_given_the_time_that_it_asked_for(key):
    assert pause(key, first_s=10.0, retry_after_s=7000.0) == 7000.0


@pytest.mark.parametrize("asked_s", [1e11, math.inf])
def test_a_server_that_asks_for_ages_is_asked_again_after_a_day(key, asked_s):
    assert pause(key, first_s=10.0, retry_after_s=asked_s) == 86_400.0
    let_pass(key, 86_401.0)
    assert is_open(key)


def test_a_clock_that_was_ahead_leaves_no_rest_behind(key):
    days_ahead_s = 30 * 86_400.0
    pause(key, first_s=40.0)
    let_pass(key, -days_ahead_s)
    assert is_open(key)
    with key.catalogue.read() as tx:
        (shown,) = overview.hosts(tx)
    assert (shown["paused_s"], shown["opens_at"], shown["paused_why"]) == (0.0, None, None)
    assert grant(key, 5).permits == 5
    let_pass(key, -days_ahead_s)
    assert is_open(key)
    assert grant(key, 5).permits == 5
    assert 5 <= grant(key, 100).permits <= 5 + SLACK_S
    assert not is_open(key)  # now it has a debt, of its own time
    with key.catalogue.begin() as tx:
        hosts.calm(tx, "flickr:1")
    assert pause(key, first_s=40.0) == 40.0
    assert 40.0 - SLACK_S < grant(key, 5).wait_s <= 40.0


@pytest.mark.parametrize("per_hour", [1.0, 60.0, 3600.0])
def test_no_debt_that_can_be_is_taken_for_a_wrong_clocks(scene, per_hour):
    with scene.catalogue.begin() as tx:
        hosts.register(tx, "flickr:1", per_hour)
    for _ in range(grant(scene, 100).permits):  # all other sizes of each photo, say
        with scene.catalogue.begin() as tx:
            assert all(hosts.owe(tx, "flickr:1") for _ in range(6))
    assert not is_open(scene)
    wait_s = grant(scene, 1).wait_s
    assert wait_s >= 60.0 - SLACK_S
    let_pass(scene, wait_s - SLACK_S)
    assert not is_open(scene)
    let_pass(scene, SLACK_S)
    assert is_open(scene)


def test_a_host_that_answers_again_starts_with_a_short_pause(key):
    pause(key)
    with key.catalogue.begin() as tx:
        hosts.calm(tx, "flickr:1")
    assert key.scalar("SELECT pause_s FROM hosts") == 10.0  # still paused: no answer counts
    let_pass(key, 11.0)
    with key.catalogue.begin() as tx:
        hosts.calm(tx, "flickr:1")
    assert pause(key) == 10.0


def test_a_disabled_key_gives_nothing_until_it_is_enabled(key):
    with key.catalogue.begin() as tx:
        hosts.register(tx, "flickr:2", 3600.0)
        hosts.disable(tx, "flickr:1", "code 100: invalid key")
    assert grant(key, 5).permits == 0
    assert math.isfinite(grant(key, 5).wait_s)
    assert not is_open(key)
    with key.catalogue.begin() as tx:
        assert hosts.disabled(tx, ["flickr:1"]) == "code 100: invalid key"
        assert hosts.disabled(tx, ["flickr:1", "flickr:2"]) is None
        assert hosts.disabled(tx, []) is None
        hosts.enable(tx, "flickr:1")
    assert grant(key, 5).permits == 5
