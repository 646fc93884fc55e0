"""Photos of the same owners, found by the owners' pages: the same ends for far fewer calls."""

from __future__ import annotations

import pytest
from houses import FIRST_ID, house, quiet, small_world

from popq import api
from popq.flickr.fake.faults import Fault, Faults
from popq.flickr.fake.world import Dialect, Fate
from popq.stages.ingest import Source

PAGES, INFOS = "flickr.people.getPublicPhotos", "flickr.photos.getInfo"
PHOTOS, OWNERS = 300, 6
#: Two that a stream does not show, and a video.
FATES = (Fate.REMOVED, Fate.PRIVATE, Fate.VIDEO)
KEPT = "flickr_id, state, reason, server, secret, title, tags, views, posted_at, taken_at, licence"


def world():
    world = small_world(PHOTOS, owners=OWNERS)
    for number, photo in enumerate(world.photos.values()):
        photo.tags = ("sky", f"t{number}")
        photo.views, photo.licence = 3 * number, number % 7
        photo.taken_at = f"2014-05-{1 + number % 28:02d} 10:00:00"
        photo.taken_unknown = number % 5 == 0
        if number % 50 == 7:
            photo.fate = FATES[number // 50 % 3]
    return world


def hidden(world):
    return sum(photo.fate in {Fate.REMOVED, Fate.PRIVATE} for photo in world.photos.values())


def calls(home):
    kinds = home.flickr.counters()["kinds"]
    return {kind: kinds.get(kind, {}).get("requests", 0) for kind in (PAGES, INFOS)}


def ends(home):
    owner = "CASE WHEN state = 'resolved' THEN owner END"
    return home.sql(f"SELECT {KEPT}, {owner} FROM photos ORDER BY id")


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory):
    """How the photos end when no owner is known, and each is asked for by itself."""
    folder = tmp_path_factory.mktemp("one_by_one")
    with house(folder, world()) as home:
        links = folder / "ids.txt"
        links.write_text("\n".join(map(str, home.flickr.world.photos)))
        api.import_list(home.rooms, Source(links))
        api.work(home.rooms, "resolve", on_progress=quiet)
        assert calls(home) == {PAGES: 0, INFOS: PHOTOS}
        return ends(home)


@pytest.mark.parametrize("dialect", list(Dialect))
def test_six_owners_cost_six_calls_and_one_for_each_photo_that_is_not_shown(
    tmp_path, one_by_one, dialect
):
    flickr = world()
    flickr.dialect = dialect
    with house(tmp_path, flickr) as home:
        api.import_list(home.rooms, home.list_files(tmp_path))
        foreseen = api.preview(home.rooms, "resolve")
        assert (foreseen["batches"], foreseen["fewest_calls"]) == (OWNERS, OWNERS)
        assert foreseen["most_calls"] == PHOTOS + OWNERS
        assert sum(calls(home).values()) == 0
        done = api.work(home.rooms, "resolve", on_progress=quiet)
        assert calls(home) == {PAGES: OWNERS, INFOS: hidden(flickr)}
        assert ends(home) == one_by_one
        assert (done.photos, done.left) == (PHOTOS, 0)
        assert done.moved + done.exited == PHOTOS


def test_faults_on_the_way_cost_tries_and_change_no_end(tmp_path, one_by_one):
    faults = Faults()
    flickr = world()
    for number, fault in enumerate([Fault.ERROR_502, Fault.CODE_105, Fault.RESET, Fault.EMPTY]):
        faults.fail_photo(FIRST_ID + 7 * (50 * number + 7), fault, times=2)
    faults.throttle_for(0.3, after_calls=4)
    with house(tmp_path, flickr, faults) as home:
        api.import_list(home.rooms, home.list_files(tmp_path))
        done = api.work(home.rooms, "resolve", on_progress=quiet)
        assert ends(home) == one_by_one
        assert (done.photos, done.left) == (PHOTOS, 0)
        assert calls(home)[PAGES] <= 2 * OWNERS


def test_a_few_calls_at_a_time_ask_for_no_page_twice(tmp_path, one_by_one):
    """A batch goes back whenever calls run out; the next worker goes on where it was."""
    with house(tmp_path, world(), io_threads=1, flickr_calls_per_hour=36_000) as home:
        api.import_list(home.rooms, home.list_files(tmp_path))
        api.work(home.rooms, "resolve", on_progress=quiet)
        assert ends(home) == one_by_one
        assert calls(home) == {PAGES: OWNERS, INFOS: hidden(world())}


def test_an_owners_photos_that_come_back_are_found_by_pages_again(tmp_path):
    with house(tmp_path, small_world(60, owners=2), io_threads=1) as home:
        api.import_list(home.rooms, home.list_files(tmp_path))
        job, drain = home.rooms.enqueue("resolve", by="test").job, home.rooms.drain("resolve")
        assert drain.step(job)
        assert home.sql("SELECT count(*) FROM batches WHERE state = 'done'") == [(1,)]
        done = "(SELECT owner FROM batches WHERE state = 'done')"
        with home.rooms.catalogue.begin() as tx:  # as `recheck` does, while the job goes on
            tx.exec_driver_sql(f"UPDATE photos SET state = 'listed' WHERE owner = {done}")
        assert home.rooms.enqueue("resolve", by="test").photos == 30
        while drain.step(job):
            pass
        assert home.sql("SELECT DISTINCT state FROM photos") == [("resolved",)]
        assert calls(home) == {PAGES: 3, INFOS: 0}


def test_what_streams_is_downloaded_however_far_an_owners_photos_lie_apart(tmp_path):
    with house(tmp_path, small_world(24, owners=3)) as home:
        api.import_list(home.rooms, home.list_files(tmp_path))
        home.rooms.enqueue("resolve", then="download", by="test")
        drain = home.rooms.drain("resolve", "download")
        while drain.step() or home.sql("SELECT id FROM batches WHERE state <> 'done'"):
            pass
        assert home.sql("SELECT state, count(*) FROM photos GROUP BY state") == [("stored", 24)]
        assert home.sql("SELECT stage, state FROM jobs ORDER BY id") == [
            ("resolve", "done"),
            ("download", "done"),
        ]


def test_owners_with_few_photos_lie_in_plain_ranges(tmp_path):
    with house(tmp_path, small_world(12, owners=4)) as home:
        api.import_list(home.rooms, home.list_files(tmp_path))
        api.work(home.rooms, "resolve", on_progress=quiet)
        assert calls(home) == {PAGES: 0, INFOS: 12}
