"""Outages: a host that is down rests, and when it is back every photo has its true end."""

from __future__ import annotations

import random

import pytest
from houses import FIRST_ID, house, quiet, small_world, static_urls
from hypothesis import given
from hypothesis import strategies as st
from outages import AS_SEEN

from popq import api
from popq.catalogue.states import JobState
from popq.catalogue.work import used_up
from popq.errors import Outcome
from popq.flickr.fake.faults import Fault, Faults, Host, Rule
from popq.flickr.fake.world import Fate
from popq.stages.streak import FAULTS, Streak

HASTE = {"throttle_pause_s": 0.1, "retry_wait_s": 0.02, "max_tries": 3, "settle_every_s": 0.1}


def some_dead(photos, share, seed=1):
    rng = random.Random(seed)
    return [Fate.REMOVED if rng.random() < share else Fate.LIVE for _ in range(photos)]


def take_in(home, tmp_path):
    api.import_list(home.rooms, home.list_files(tmp_path))


def truth(fates):
    """Return (state, reason) of each photo as it must be, whatever went wrong on the way."""
    ends = {Fate.LIVE: ("resolved", None), Fate.REMOVED: ("gone", "not_found")}
    return [ends[fate] for fate in fates]


def ends(home):
    return home.sql("SELECT state, reason FROM photos ORDER BY id")


@pytest.mark.parametrize(("owners", "from_call"), [(100, 150), (20, 12)])
def test_the_outage_of_a_list_leaves_every_photo_with_its_true_end(tmp_path, owners, from_call):
    """As in the list of 2021 of which 17 % were dead, and 1,193 of 1,200 failed in an outage."""
    fates = some_dead(400, 0.17)
    outage = Rule(faults=AS_SEEN, name="outage", from_call=from_call, lasts_s=3.0)
    faults = Faults([outage])
    with house(tmp_path, small_world(400, owners=owners, fates=fates), faults, **HASTE) as home:
        take_in(home, tmp_path)
        done = api.work(home.rooms, "resolve", on_progress=quiet)
        assert (done.state, done.left) == (JobState.DONE, 0)
        assert ends(home) == truth(fates)
        assert outage.strikes >= FAULTS
        assert home.sql("SELECT count(*) FROM failures WHERE outcome = 'host_down'")[0][0] > 0
        # It rests instead of asking again and again: three threads would, a thousand times.
        assert outage.strikes < 150


def test_calls_that_never_end_are_an_outage_too(tmp_path):
    fates = some_dead(60, 0.2)
    slow = Rule(faults=(Fault.SLOW,), from_call=10, to_call=30, slow_s=1.0)
    patience = {"read_timeout_s": 0.2, **HASTE}
    with house(tmp_path, small_world(60, fates=fates), Faults([slow]), **patience) as home:
        take_in(home, tmp_path)
        assert api.work(home.rooms, "resolve", on_progress=quiet).left == 0
        assert ends(home) == truth(fates)


def test_an_image_host_that_is_down_costs_no_photo_its_tries(tmp_path):
    down = Rule(faults=(Fault.ERROR_502, Fault.RESET), host=Host.IMAGE, lasts_s=2.0, from_call=20)
    with house(tmp_path, small_world(80), Faults([down]), **HASTE) as home:
        take_in(home, tmp_path)
        for stage in ("resolve", "download"):
            assert api.work(home.rooms, stage, on_progress=quiet).left == 0
        assert home.sql("SELECT DISTINCT state FROM photos") == [("stored",)]


@pytest.mark.parametrize("faults", [(Fault.HTML_200, Fault.SHORT_LENGTH), (Fault.HTML_200,)])
def test_an_image_host_that_sends_pages_and_halves_for_a_while_ends_no_photo(tmp_path, faults):
    """Three such answers end a photo, unless what the host served before comes so, too."""
    outage = Rule(faults=faults, host=Host.IMAGE, from_call=6, lasts_s=2.0)
    pace = HASTE | {"max_tries": 5}
    with house(tmp_path, small_world(30), Faults([outage]), **pace) as home:
        take_in(home, tmp_path)
        for stage in ("resolve", "download"):
            assert api.work(home.rooms, stage, on_progress=quiet).left == 0
        assert home.sql("SELECT DISTINCT state, reason FROM photos") == [("stored", None)]
        assert outage.strikes > 30
        assert outage.strikes < 150


@pytest.mark.parametrize("fault", [Fault.HTML_200, Fault.SHORT_LENGTH])
def test_an_outage_that_ends_with_a_photos_last_try_does_not_end_the_photo(tmp_path, fault):
    """What the host served before comes whole again a moment later; so does the photo."""
    faults = Faults()
    faults.fail_photo(FIRST_ID, fault, host=Host.IMAGE, times=3)
    with house(tmp_path, small_world(9), faults, **HASTE) as home:
        take_in(home, tmp_path)
        for stage in ("resolve", "download"):
            assert api.work(home.rooms, stage, on_progress=quiet).left == 0
        assert home.sql("SELECT DISTINCT state, reason FROM photos") == [("stored", None)]
        assert home.flickr.counters()["image_calls_per_photo"][str(FIRST_ID)] == 4


def test_a_paused_host_is_told_with_its_reason(tmp_path):
    faults = Faults([Rule(faults=(Fault.ERROR_502,))])
    with house(tmp_path, small_world(40), faults, throttle_pause_s=600) as home:
        take_in(home, tmp_path)
        drain = home.rooms.drain("resolve")
        home.rooms.enqueue("resolve", by="bob")
        while drain.step():
            pass
        ((why, paused),) = home.sql("SELECT paused_why, paused_until - 600 > 0 FROM hosts")
        assert "8 photos in a row failed, the last: " in why
        assert "HTTP 502" in why
        assert paused
        assert home.sql("SELECT DISTINCT state FROM photos") == [("listed",)]


def test_a_few_photos_that_always_fail_are_no_outage(tmp_path):
    faults, count = Faults(), FAULTS - 2
    for number in range(count):
        faults.fail_photo(FIRST_ID + 7 * number, Fault.ERROR_502, times=100)
    with house(tmp_path, small_world(30), faults, **HASTE) as home:
        take_in(home, tmp_path)
        done = api.work(home.rooms, "resolve", on_progress=quiet)
        assert (done.state, done.moved, done.left) == (JobState.DONE, 30 - count, count)


def test_faults_among_dead_photos_are_no_outage(tmp_path):
    """What the host said of the dead ones is held back until it serves another; it answered."""
    faults, count = Faults(), FAULTS + 2
    fates = [Fate.LIVE, Fate.IMAGE_GONE] * count
    for number in range(count):
        faults.fail_photo(FIRST_ID + 14 * number, Fault.ERROR_502, host=Host.IMAGE)
    settings = {"flickr_keys": None, "throttle_pause_s": 600}
    with house(tmp_path, small_world(len(fates), fates=fates), faults, **settings) as home:
        source = home.list_files(tmp_path)
        source.links.write_text("\n".join(static_urls(home.flickr.world)))
        api.import_list(home.rooms, source)
        job = home.rooms.enqueue("download", by="test").job
        home.rooms.drain("download").step(job)
        outcomes = home.sql("SELECT outcome, count(*) FROM failures GROUP BY outcome")
        assert sorted(outcomes) == [("gone", count), ("transient", count)]
        assert home.sql("SELECT count(*) FROM hosts WHERE paused_until > 0") == [(0,)]


@given(st.integers(0, 9), st.integers(0, 200))
def test_a_host_that_was_down_costs_a_photo_next_to_nothing_and_yet_an_end(tries, down):
    tried = {Outcome.TRANSIENT: tries, Outcome.HOST_DOWN: down}
    assert used_up(tried, 5) == (tries + down // 10 >= 5)


@pytest.mark.parametrize("photos", [range(FAULTS - 1), [1] * 100])
def test_a_streak_is_of_different_photos(photos):
    streak = Streak()
    assert not any(streak.failed(photo) for photo in photos)


def test_an_answer_ends_a_streak():
    streak = Streak()
    assert [streak.failed(photo) for photo in range(FAULTS + 1)][-2:] == [True, True]
    streak.answered()
    assert not streak.failed(99)
