"""`popq resolve` and `enqueue-resolve` with owners' pages, killed workers and without a key."""

from __future__ import annotations

import time

import pytest
from houses import house, small_world

from popq.flickr.fake.world import Fate

PAGES, INFOS = "flickr.people.getPublicPhotos", "flickr.photos.getInfo"
PHOTOS, OWNERS, HIDDEN = 90, 3, 30


@pytest.fixture
def home(tmp_path):
    """Three owners with thirty photos each, of which their streams do not show the first ten."""
    world = small_world(PHOTOS, owners=OWNERS, fates=(Fate.REMOVED,) * HIDDEN)
    with house(tmp_path, world) as home:
        home.list_files(tmp_path)
        yield home


def requests(home, kind):
    return home.flickr.counters()["kinds"].get(kind, {}).get("requests", 0)


def test_a_dry_run_shows_bounds_of_the_calls_and_makes_none(popq, home):
    popq("import", "links.txt")
    told = popq.json("enqueue-resolve", "--dry-run")
    assert (told["photos"], told["fewest_calls"], told["most_calls"]) == (90, 3, 93)
    assert "3 to 93 calls" in popq("enqueue-resolve", "--dry-run")[0]
    assert home.flickr.counters()["kinds"] == {}


def test_a_worker_that_is_killed_in_an_owners_batch_costs_a_page_at_most(popq, home):
    popq("import", "links.txt")
    slow = {"POPQ_FLICKR_CALLS_PER_HOUR": "3600", "POPQ_SETTLE_EVERY_S": "0.1"}
    short = {"POPQ_LEASE_S": "1", "POPQ_IO_THREADS": "1"}
    with popq.start("resolve", **slow, **short) as process:
        until = time.monotonic() + 90
        while not popq.json("status")["photos"]["gone"]:
            assert time.monotonic() < until, "it never came to a photo that is gone"
        process.kill()
        process.communicate()
    assert sum(popq.json("status")["photos"][state] for state in ("listed",)) > 0
    popq("resolve", **short)
    photos = popq.json("status")["photos"]
    assert (photos["resolved"], photos["gone"]) == (PHOTOS - HIDDEN, HIDDEN)
    assert requests(home, PAGES) <= OWNERS + 1
    assert requests(home, INFOS) <= HIDDEN + 5


def test_oembed_needs_no_key_and_workers_know_the_way(popq, home):
    popq("import", "links.txt")
    nobody = {"POPQ_FLICKR_KEYS": ""}
    _, err = popq("resolve", "--limit", "5", status=3, **nobody)
    assert "--via oembed" in err
    told = popq.json("enqueue-resolve", "--via", "oembed", "--dry-run", **nobody)
    assert told["per_second"] == 1000
    popq("enqueue-resolve", "--via", "oembed", **nobody)
    with popq.start("worker", **nobody) as worker:
        until = time.monotonic() + 90
        while popq.json("status")["photos"]["listed"]:
            assert time.monotonic() < until, "nobody does it"
        worker.terminate()
        worker.communicate()
    assert popq.json("status")["photos"]["resolved"] == PHOTOS - HIDDEN
    assert set(home.flickr.counters()["kinds"]) == {"oembed"}
    assert popq.json("jobs", "1")["via"] == "oembed"
    assert "--via" in popq("run", "--help")[0]
