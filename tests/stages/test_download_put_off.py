"""Refused photos that wait for the API: kept in mind, counted once, and in nobody's way."""

from __future__ import annotations

import time

import pytest
from houses import house, jpeg, small_world, static_urls

from popq import api
from popq.flickr.fake.world import Fate
from popq.images.doubt import REFUSALS

SIZES = 6  # that are asked for by rule


def waiting_for_the_api(home, tmp_path):
    """Import image URLs while no key has a call to give; return the download job and its drain."""
    source = home.list_files(tmp_path)
    source.links.write_text("\n".join(static_urls(home.flickr.world)))
    api.import_list(home.rooms, source)
    drain, job = home.rooms.drain("download"), home.rooms.enqueue("download", by="test").job
    drain.stage("download", None)
    with home.rooms.catalogue.begin() as tx:
        until = time.time() + 3600
        tx.exec_driver_sql(f"UPDATE hosts SET paused_until = {until} WHERE name LIKE 'flickr-api%'")
    return job, drain


def rounds(home, drain, job, count):
    """Work the job so many times, with the image host's budget full each time."""
    for _ in range(count):
        with home.rooms.catalogue.begin() as tx:
            tx.exec_driver_sql("UPDATE hosts SET tat = 0")
            tx.exec_driver_sql("UPDATE batches SET due = 0")
        while drain.step(job):
            pass


def states(home):
    query = "SELECT state, reason, count(*) FROM photos GROUP BY state, reason ORDER BY state"
    return home.sql(query)


def calls(home):
    """Return how often the image host was asked for each photo, in the order of the list."""
    asked = home.flickr.counters()["image_calls_per_photo"]
    return [asked[str(flickr_id)] for flickr_id in home.flickr.world.photos]


def test_they_do_not_hold_up_those_behind_them_at_a_low_rate(tmp_path):
    """The sizes of one dead photo are more calls than the host's budget has at a time."""
    dead, live = 4, 4
    world = small_world(dead + live, fates=[Fate.IMAGE_GONE] * dead)
    with house(tmp_path, world, images_per_second=0.3, io_threads=1) as home:
        job, drain = waiting_for_the_api(home, tmp_path)
        rounds(home, drain, job, dead + live)
        assert states(home) == [("resolved", None, dead), ("stored", None, live)]
        assert calls(home) == [SIZES] * dead + [1] * live
        home.let_pass()
        rounds(home, drain, job, 2 * dead)
        assert states(home) == [("gone", "gone", dead), ("stored", None, live)]
        # Once more, since the API shows them, and the size that it named.
        assert calls(home) == [2 * SIZES + 1] * dead + [1] * live


def test_the_same_few_are_not_taken_for_many_in_a_row(tmp_path):
    """Nothing is served between them, and after three tries a page's verdict would tell."""
    few = 15
    assert few + 3 < REFUSALS < 3 * few
    world = small_world(few + 1, fates=[Fate.IMAGE_GONE] * few + [Fate.HTML])
    with house(tmp_path, world, io_threads=1) as home:
        job, drain = waiting_for_the_api(home, tmp_path)
        rounds(home, drain, job, 3)
        assert states(home) == [("gone", "placeholder", 1), ("resolved", None, few)]
        assert home.sql("SELECT state FROM jobs") == [("running",)]


@pytest.mark.parametrize("fate", [Fate.IMAGE_GONE, Fate.IMAGE_PRIVATE])
def test_a_host_that_was_in_trouble_is_asked_once_more_for_those_that_it_refused(tmp_path, fate):
    """What it said then is no longer so: they neither are gone nor come as thumbnails."""
    world = small_world(4, fates=[fate] * 3)
    for photo in world.photos.values():
        photo.image = lambda number=photo.flickr_id: jpeg(number, size=(1200, 900))
    with house(tmp_path, world, io_threads=1) as home:
        job, drain = waiting_for_the_api(home, tmp_path)
        rounds(home, drain, job, 1)
        assert states(home) == [("resolved", None, 3), ("stored", None, 1)]
        for photo in world.photos.values():
            photo.fate = Fate.LIVE
        home.let_pass()
        rounds(home, drain, job, 1)
        assert home.sql("SELECT state, max(width, height) FROM photos") == [("stored", 640)] * 4
