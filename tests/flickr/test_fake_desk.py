"""The fake's own pages: counters for machines and people, and faults switched by hand."""

from __future__ import annotations

import socket
from collections import Counter
from html.parser import HTMLParser

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from popq.flickr.fake.counters import OTHERS, Counters, Limits, most_in_window
from popq.flickr.fake.faults import Fault, Host, Request
from popq.flickr.fake.server import DEMO_KEY
from popq.flickr.fake.world import Fate, Look

# counters


def ask_for(number, *, who="key", kind="flickr.photos.getInfo", host=Host.API):
    return Request(host, who, kind, number)


def test_a_hundred_thousand_requests_are_counted_one_by_one():
    counters = Counters()
    for number in range(100_000):
        counters.request(ask_for(number % 30_000, who=f"key {number % 3}"), "me/1", f"n{number}")
    counts = counters.snapshot()
    assert counts["requests"] == {"api": 100_000, "image": 0, "www": 0}
    kind = counts["kinds"]["flickr.photos.getInfo"]
    assert kind == {"requests": 100_000, "photos": 30_000, "most_per_photo": 4}
    assert sum(counts["api_calls_per_photo"].values()) == 100_000
    per_key = {who: sum(n.values()) for who, n in counts["calls_per_key_and_second"].items()}
    assert per_key == {"key 0": 33_334, "key 1": 33_333, "key 2": 33_333}
    assert counts["most_in_window"]["api"] == per_key
    assert counts["duplicate_nonces"] == 0


def test_memory_is_bounded_and_totals_stay_right():
    counters = Counters(Limits(times=100, pairs=50, nonces=20, names=5))
    for number in range(1000):
        counters.request(
            ask_for(number, who=f"key {number % 50}", kind=f"kind {number % 9}"),
            f"agent {number}",
            f"nonce {number}",
        )
    assert counters.request(ask_for(1), "agent 1", "nonce 999")
    assert not counters.request(ask_for(1), "agent 1", "nonce 900")  # long forgotten
    counts = counters.snapshot()
    assert counts["requests"]["api"] == 1002
    assert sum(kind["requests"] for kind in counts["kinds"].values()) == 1002
    assert sum(counts["user_agents"].values()) == 1002
    assert len(counts["user_agents"]) == 6
    assert OTHERS in counts["kinds"]
    assert len(counts["api_calls_per_photo"]) == 50
    times = counts["calls_per_key_and_second"]
    assert set(times) == {"key 0", "key 1", "key 2", "key 3", "key 4", OTHERS}
    assert 80 <= sum(times[OTHERS].values()) <= 100


@given(
    st.lists(st.integers(0, 200), max_size=50).map(sorted),
    st.integers(1, 60),
)
def test_most_in_window_is_that_of_every_window(times, window_s):
    starts = range(-window_s, 201)
    found = [sum(1 for t in times if start <= t < start + window_s) for start in starts]
    assert most_in_window(times, window_s) == max(found)


def test_window_of_the_counters_is_given_with_the_request(fake, session, ask):
    for _ in range(3):
        ask("flickr.test.echo")
    url = f"{fake.desk_url}counters"
    counts = session.get(url, params={"window_s": "1e9"}).json()
    assert counts["window_s"] == 1e9
    assert counts["most_in_window"]["api"] == {DEMO_KEY: 3}
    tiny = session.get(url, params={"window_s": "1e-9"}).json()
    assert tiny["most_in_window"]["api"] == {DEMO_KEY: 1}
    for wrong in ("0", "-1", "nan", "inf", "x"):
        refused = session.get(url, params={"window_s": wrong})
        assert refused.status_code == 400
        assert "window_s" in refused.json()["error"]


def test_kinds_tell_what_was_asked_for_each_photo(fake, session, ask, fetch, by_fate):
    photo = by_fate[Fate.LIVE]
    ask("flickr.photos.getInfo", photo_id=photo.flickr_id)
    ask("flickr.photos.getSizes", photo_id=photo.flickr_id)
    for size in ("z", "z", "", "n"):
        fetch(photo, size)
    session.get(f"{fake.image_url}/elsewhere")
    counts = fake.counters()
    assert {kind: row["requests"] for kind, row in counts["kinds"].items()} == {
        "flickr.photos.getInfo": 1,
        "flickr.photos.getSizes": 1,
        "size z": 2,
        "size none": 1,
        "size n": 1,
        "other": 1,
    }
    assert counts["calls_per_photo"]["size z"] == {str(photo.flickr_id): 2}


def test_counters_are_reset(fake, session, ask):
    ask("flickr.test.echo")
    assert session.delete(f"{fake.desk_url}counters").json() == {"reset": True}
    counts = fake.counters()
    assert counts["requests"] == {"api": 0, "image": 0, "www": 0}
    assert counts["max_concurrency"] == {"api": 0, "image": 0, "www": 0}
    assert (counts["kinds"], counts["user_agents"], counts["statuses"]["api"]) == ({}, {}, {})


def test_one_request_after_the_other_is_never_two_at_once(fake, by_fate):
    photo = by_fate[Fate.LIVE]
    url = f"{fake.image_url}/65535/{photo.flickr_id}_{photo.secret}_z.jpg"
    for _ in range(100):
        requests.get(url, timeout=30)  # each on a connection of its own
    assert fake.counters()["max_concurrency"]["image"] == 1


def test_requests_that_wait_are_under_way_at_once(fake, by_fate):
    photo = by_fate[Fate.LIVE]
    fake.faults.fail_photo(photo.flickr_id, Fault.DRIP, host=Host.IMAGE, slow_s=3600, times=5)
    waiting = [socket.create_connection(("127.0.0.1", fake.port)) for _ in range(5)]
    for connection in waiting:
        path = f"/65535/{photo.flickr_id}_{photo.secret}_z.jpg"
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    for connection in waiting:
        assert connection.recv(1) == b"H"
    assert fake.counters()["max_concurrency"]["image"] == 5
    fake.stop()
    for connection in waiting:
        connection.close()


class _Cells(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.cells, self.inside = Counter(), [], False

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        if tag == "td":
            self.cells.append("")
            self.inside = True

    def handle_endtag(self, tag):
        self.inside = self.inside and tag != "td"

    def handle_data(self, data):
        if self.inside:
            self.cells[-1] += data


def test_page_for_people(fake, session, ask):
    agent = "<script>alert('ü')</script>"
    for number in range(30):
        session.headers["User-Agent"] = f"{agent.encode().decode('latin-1')} {number}"
        ask("flickr.test.echo")
    fake.faults.throttle_for(0)
    answer = session.get(fake.desk_url)
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    page = _Cells()
    page.feed(answer.text)
    assert page.tags["script"] == 0
    assert page.tags["table"] == 5
    assert {"flickr.test.echo", DEMO_KEY, "throttle of api", "… and 5 more"} <= set(page.cells)
    assert "<script>" in "".join(page.cells)
    assert session.get(fake.desk_url.rstrip("/")).status_code == 200


# faults by hand


def test_photos_change_while_they_are_served(fake, session, fetch, ask, by_fate):
    photo = by_fate[Fate.LIVE]
    url = f"{fake.desk_url}faults"
    change = {"photos": [photo.flickr_id], "secret": "abc", "look": "grey"}
    assert session.post(url, json={"photo": [change]}).json() == {"rules": []}
    assert (photo.secret, photo.look) == ("abc", Look.GREY)
    assert fetch(photo, secret="0123456789").status_code == 404
    assert fetch(photo).status_code == 200
    session.post(url, json={"world": {"gone_status": 404}, "keys": {"other": ""}})
    assert fetch(by_fate[Fate.IMAGE_GONE]).status_code == 404
    assert ask("flickr.test.echo", key="other").json()["stat"] == "ok"


def test_one_delete_ends_all_faults(fake, session, ask):
    url = f"{fake.desk_url}faults"
    rules = [{"fault": "502", "times": 9}, {"name": "my rule", "fault": "empty"}]
    assert len(session.post(url, json={"rule": rules}).json()["rules"]) == 2
    assert ask("flickr.test.echo").status_code == 502
    assert len(session.delete(f"{url}/my%20rule").json()["rules"]) == 1
    assert session.delete(url).json() == {"rules": []}
    assert ask("flickr.test.echo").status_code == 200


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("nonsense", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "no JSON object"),
        ('{"rule": [{"fault": "x"}]}', "the plan: rule 1 fault 1"),
        ('{"rule": [{"fault": "502", "photos": [7]}]}', "photo 7, which is not served"),
        ('{"outcomes": {"file": "/etc/passwd"}}', "only a file at the server's start"),
    ],
)
def test_bad_plans_are_refused_with_a_line(fake, session, body, words):
    answer = session.post(f"{fake.desk_url}faults", data=body)
    assert answer.status_code == 400
    assert words in answer.json()["error"]


@pytest.mark.parametrize(
    ("verb", "page", "status"),
    [
        ("GET", "nowhere", 404),
        ("POST", "counters", 404),
        ("GET", "counters/more", 404),
        ("DELETE", "faults/none", 400),
    ],
)
def test_pages_that_are_not_there(fake, session, verb, page, status):
    answer = session.request(verb, f"{fake.desk_url}{page}")
    assert answer.status_code == status
    assert "_popq" in answer.json()["error"]
