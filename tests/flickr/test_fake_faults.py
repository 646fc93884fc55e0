"""Rules of what goes wrong: which requests, when, how often; and thousands of clients at once."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from popq.flickr.fake.faults import Fault, Faults, Host, Request, Rule
from popq.flickr.fake.world import Fate

API = Request(Host.API, "key", "flickr.photos.getInfo", 7)


class Clock:
    """A rule asked at times of one's own."""

    def __init__(self, **members):
        self.rule = Rule(faults=members.pop("faults", (Fault.ERROR_502,)), **members)
        self.rule.begin(0.0)

    def __call__(self, now, *, struck=False, **changed):
        request = API._replace(**changed)
        trouble = self.rule.strike(request, now, struck=struck)
        return None if trouble is None else trouble.fault


def strikes(rule, count, now=1.0):
    return [number for number in range(1, count + 1) if rule(now) is not None]


def test_by_host_photo_key_and_kind():
    assert Clock()(1, host=Host.IMAGE) is None
    assert Clock(host=Host.IMAGE)(1, host=Host.IMAGE) is Fault.ERROR_502
    by_photo = Clock(photos=frozenset({7}))
    assert (by_photo(1), by_photo(1, flickr_id=8), by_photo(1, flickr_id=None)) == (
        Fault.ERROR_502,
        None,
        None,
    )
    by_key = Clock(keys=frozenset({"key"}))
    assert (by_key(1), by_key(1, who="other")) == (Fault.ERROR_502, None)
    by_kind = Clock(kinds=frozenset({"flickr.photos.getSizes"}))
    assert (by_kind(1), by_kind(1, kind="flickr.photos.getSizes")) == (None, Fault.ERROR_502)


def test_by_time():
    rule = Clock(from_s=10, to_s=20)
    assert [rule(now) for now in (0, 9.9, 10, 19.9, 20)] == [
        None,
        None,
        Fault.ERROR_502,
        Fault.ERROR_502,
        None,
    ]


def test_by_number_of_call():
    assert strikes(Clock(from_call=3, to_call=5), 8) == [3, 4, 5]
    assert strikes(Clock(every=3), 10) == [3, 6, 9]
    assert strikes(Clock(every=2, from_call=4), 10) == [5, 7, 9]
    assert strikes(Clock(times=2), 5) == [1, 2]
    ours = Clock(from_call=2, photos=frozenset({7}))
    # Only requests that the rule is about are counted.
    assert [ours(1, flickr_id=8), ours(1), ours(1, flickr_id=8), ours(1)][3] is Fault.ERROR_502


def test_an_outage_begins_with_a_call_and_lasts():
    rule = Clock(from_call=3, lasts_s=30)
    assert [rule(now) for now in (1, 2, 3, 10, 32.9, 33, 34)] == [
        None,
        None,
        Fault.ERROR_502,
        Fault.ERROR_502,
        Fault.ERROR_502,
        None,
        None,
    ]


def test_faults_strike_in_turn():
    rule = Clock(faults=(Fault.ERROR_500, Fault.CODE_105, Fault.RESET), every=2)
    found = [fault for _ in range(8) if (fault := rule(1))]
    assert found == [Fault.ERROR_500, Fault.CODE_105, Fault.RESET, Fault.ERROR_500]


def test_budget_slides_and_is_per_key():
    rule = Clock(budget=2, window_s=10)
    at = [(0, "a"), (5, "a"), (9, "a"), (9, "b"), (10, "a"), (11, "a"), (15, "a")]
    assert [rule(now, who=who) is not None for now, who in at] == [
        False,
        False,
        True,
        False,
        False,
        True,
        False,
    ]


def test_budget_that_was_passed_closes_for_a_while():
    rule = Clock(budget=1, window_s=1, lasts_s=60)
    assert [rule(now) is not None for now in (0, 0.5, 30, 60.4, 60.6, 60.7)] == [
        False,
        True,
        True,
        True,
        False,
        True,
    ]


@given(
    times=st.lists(st.floats(0, 100), max_size=60).map(sorted),
    budget=st.integers(0, 5),
    window_s=st.floats(0.1, 50),
)
def test_no_window_ever_serves_more_than_its_budget(times, budget, window_s):
    rule = Clock(budget=budget, window_s=window_s)
    served = [now for now in times if rule(now) is None]
    for start in served:
        # As the rule itself decides: half-open windows, ends compared by addition's inverse.
        inside = [now for now in served if start <= now and start > now - window_s]
        assert len(inside) <= budget
    refused = [now for now in times if now not in served]
    for now in refused:
        assert sum(1 for then in served if now - window_s < then <= now) >= budget


def test_the_first_rule_strikes_and_all_count():
    faults = Faults(
        [
            Rule(faults=(Fault.ERROR_500,), name="first", times=1),
            Rule(faults=(Fault.ERROR_502,), name="second", from_call=2, to_call=2),
        ]
    )
    faults.fail_photo(7, Fault.EMPTY)
    found = [faults.strike(API) for _ in range(4)]
    assert [trouble and trouble.fault for trouble in found] == [
        Fault.ERROR_500,
        Fault.ERROR_502,
        Fault.EMPTY,
        None,
    ]
    assert faults.rules() == [("first", 4, 1), ("second", 4, 1)]


def test_rules_are_replaced_and_removed_by_name():
    faults = Faults([Rule(faults=(Fault.ERROR_500,))])
    faults.add(Rule(faults=(Fault.ERROR_502,), name="mine"))
    faults.add(Rule(faults=(Fault.ERROR_504,), name="mine"))
    assert [name for name, _, _ in faults.rules()] == ["rule 1", "mine"]
    assert faults.remove("rule 1")
    assert not faults.remove("rule 1")
    assert faults.strike(API).fault is Fault.ERROR_504
    faults.disable_key("key")
    faults.clear()
    assert faults.strike(API) is None
    assert not faults.is_disabled("key")


def test_times_of_a_rule_count_from_the_server_s_start():
    now = [0.0]
    faults = Faults([Rule(faults=(Fault.ERROR_500,), from_s=10, to_s=20)], clock=lambda: now[0])

    def struck(seconds):
        now[0] = seconds
        return faults.strike(API) is not None

    assert [struck(5), struck(15), struck(25)] == [False, True, False]
    faults.begin()
    assert [struck(30), struck(40), struck(46)] == [False, True, False]


@pytest.mark.parametrize("fault", [Fault.CODE_105, Fault.KEY_EXPIRED])
def test_codes_at_a_host_that_has_none_are_its_own_trouble(fake, fetch, session, by_fate, fault):
    photo = by_fate[Fate.LIVE]
    fake.faults.fail_photo(photo.flickr_id, fault, host=Host.IMAGE)
    fake.faults.fail_photo(photo.flickr_id, fault, host=Host.WWW)
    url = f"https://www.flickr.com/photos/x/{photo.flickr_id}"
    asked = session.get(fake.oembed_url, params={"url": url, "format": "json"})
    assert (fetch(photo).status_code, asked.status_code) == (503, 503)


def test_many_clients_meet_each_strike_once(fake, by_fate):
    photo = by_fate[Fate.LIVE]
    fake.faults.add(Rule(faults=(Fault.ERROR_502,), host=Host.IMAGE, every=5))
    url = f"{fake.image_url}/65535/{photo.flickr_id}_{photo.secret}_t.jpg"
    found = Counter()
    lock = threading.Lock()

    def client():
        with requests.Session() as session:
            session.trust_env = False
            for _ in range(50):
                status = session.get(url).status_code
                with lock:
                    found[status] += 1

    threads = [threading.Thread(target=client) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {200: 320, 502: 80}
    counts = fake.counters()
    assert counts["statuses"]["image"] == {"200": 320, "502": 80}
    assert 1 <= counts["max_concurrency"]["image"] <= 8
