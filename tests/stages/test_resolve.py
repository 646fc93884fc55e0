from __future__ import annotations

import pytest
from houses import FIRST_ID, house, quiet, small_world

from popq import api, doctor
from popq.errors import BadInput, Misconfigured
from popq.flickr.fake.faults import Fault, Faults, Host
from popq.flickr.fake.server import DEMO_KEY, DEMO_SECRET
from popq.flickr.fake.world import Fate


def take_in(home, tmp_path):
    api.import_list(home.rooms, home.list_files(tmp_path))


def test_photos_are_resolved_with_what_flickr_says_of_them(tmp_path):
    with house(tmp_path, small_world(3)) as home:
        take_in(home, tmp_path)
        done = api.work(home.rooms, "resolve", on_progress=quiet)
        assert (done.state, done.moved, done.exited, done.left) == ("done", 3, 0, 0)
        assert home.sql("SELECT state, server, secret, owner, title FROM photos ORDER BY id") == [
            ("resolved", "65535", f"{n:010x}", f"{10000000 + n}@N00", f"Photo {n}")
            for n in range(3)
        ]
        url = f"{home.flickr.image_url}/65535/{FIRST_ID}_0000000000_z.jpg"
        assert home.sql("SELECT image_url FROM photos WHERE id = 1") == [(url,)]


@pytest.mark.parametrize(("photos", "owners"), [(1, 1), (12, 1)])
def test_what_flickr_says_of_a_photo_is_kept_as_it_says_it(tmp_path, photos, owners):
    """Asked for by itself, and found on its owner's pages."""
    world = small_world(photos, owners=owners)
    photo = world.photos[FIRST_ID]
    photo.title, photo.tags, photo.views, photo.licence = "Ein Café", ("blue", "sky"), 18043, 4
    photo.posted_at, photo.taken_at = 1_490_376_472, "2017-02-17 09:08:07"
    with house(tmp_path, world) as home:
        take_in(home, tmp_path)
        api.work(home.rooms, "resolve", on_progress=quiet)
        columns = "title, tags, views, licence, posted_at, taken_at"
        (row,) = home.sql(f"SELECT {columns} FROM photos WHERE flickr_id = {FIRST_ID}")
        *said, posted, taken = row
        assert said == ["Ein Café", "blue sky", 18043, 4]
        assert (posted[:19], taken) == ("2017-03-24 17:27:52", "2017-02-17 09:08:07")
        by_owner = home.flickr.counters()["kinds"].get("flickr.people.getPublicPhotos")
        assert bool(by_owner) == (photos > 1)


def test_each_photo_is_asked_for_once(tmp_path):
    with house(tmp_path, small_world(60)) as home:
        take_in(home, tmp_path)
        api.work(home.rooms, "resolve", on_progress=quiet)
        asked = home.flickr.counters()["api_calls_per_photo"]
        assert set(asked.values()) == {1}
        assert len(asked) == 60


def test_photos_that_flickr_does_not_show_leave_with_their_reason(tmp_path):
    world = small_world(4, fates=(Fate.REMOVED, Fate.PRIVATE, Fate.VIDEO))
    world.private_code = 2
    with house(tmp_path, world) as home:
        take_in(home, tmp_path)
        done = api.work(home.rooms, "resolve", on_progress=quiet)
        assert (done.moved, done.exited) == (1, 3)
        assert home.sql("SELECT state, reason FROM photos ORDER BY id") == [
            ("gone", "not_found"),
            ("gone", "private"),
            ("rejected", "video"),
            ("resolved", None),
        ]
        notes = home.sql("SELECT outcome FROM failures ORDER BY photo_id")
        assert notes == [("not_found",), ("private",), ("video",)]


@pytest.mark.parametrize(
    "fault",
    [Fault.ERROR_502, Fault.CODE_105, Fault.CODE_201, Fault.HTML_200, Fault.EMPTY, Fault.RESET],
)
def test_a_fault_that_passes_costs_a_try_and_nothing_else(tmp_path, fault):
    faults = Faults()
    faults.fail_photo(FIRST_ID, fault, times=2)
    with house(tmp_path, small_world(2), faults) as home:
        take_in(home, tmp_path)
        done = api.work(home.rooms, "resolve", on_progress=quiet)
        assert (done.moved, done.failed_tries, done.left) == (2, 2, 0)


def test_an_outage_marks_no_photo_dead_and_the_next_job_takes_it_up(tmp_path):
    faults = Faults()
    for number in range(4):
        faults.fail_photo(FIRST_ID + 7 * number, Fault.ERROR_502, times=3)
    with house(tmp_path, small_world(4), faults, max_tries=3) as home:
        take_in(home, tmp_path)
        done = api.work(home.rooms, "resolve", on_progress=quiet)
        assert (done.state, done.moved, done.left, done.failed_tries) == ("done", 0, 4, 12)
        assert home.sql("SELECT DISTINCT state FROM photos") == [("listed",)]
        again = api.work(home.rooms, "resolve", on_progress=quiet)
        assert (again.moved, again.left) == (4, 0)


def test_a_429_pauses_the_host_and_counts_against_no_photo(tmp_path):
    faults = Faults()
    faults.throttle_for(0.5, after_calls=10)
    with house(tmp_path, small_world(40), faults, max_tries=1) as home:
        take_in(home, tmp_path)
        done = api.work(home.rooms, "resolve", on_progress=quiet)
        assert (done.moved, done.failed_tries, done.left) == (40, 0, 0)
        assert home.flickr.counters()["statuses"]["api"]["429"] >= 1


def test_a_paused_host_says_why_until_it_answers_again(tmp_path):
    faults = Faults()
    faults.throttle_for(0.5, after_calls=3)
    with house(tmp_path, small_world(9), faults) as home:
        take_in(home, tmp_path)
        job = home.rooms.enqueue("resolve", run_id=None, limit=None, by="test").job
        home.rooms.drain("resolve").step(job)
        ((why,),) = home.sql("SELECT paused_why FROM hosts")
        assert "HTTP 429: too many requests" in why
        api.work(home.rooms, "resolve", on_progress=quiet)
        assert home.sql("SELECT paused_why FROM hosts") == [(None,)]


def test_a_refused_key_pauses_the_job_and_loses_nothing(tmp_path):
    with house(tmp_path, small_world(5)) as home:
        take_in(home, tmp_path)
        home.flickr.faults.disable_key(DEMO_KEY)
        with pytest.raises(Misconfigured, match="expired"):
            api.work(home.rooms, "resolve", on_progress=quiet)
        assert home.sql("SELECT state FROM jobs") == [("paused",)]
        assert home.sql("SELECT DISTINCT state FROM photos") == [("listed",)]
        home.flickr.faults.enable_key(DEMO_KEY)
        doctor.check(home.rooms)  # a key that answers is taken in again
        assert api.work(home.rooms, "resolve", on_progress=quiet).moved == 5
        assert home.sql("SELECT count(*) FROM jobs") == [(1,)]


def test_other_keys_go_on_when_one_is_refused(tmp_path):
    keys = f"deadbeefdeadbeefdeadbeefdeadbeef:x,{DEMO_KEY}:{DEMO_SECRET}"
    with house(tmp_path, small_world(5), flickr_keys=keys) as home:
        take_in(home, tmp_path)
        assert api.work(home.rooms, "resolve", on_progress=quiet).moved == 5
        assert home.sql("SELECT count(*) FROM hosts WHERE disabled_why IS NOT NULL") == [(1,)]


def test_without_a_key_the_error_says_what_to_set(tmp_path):
    with house(tmp_path, small_world(1), flickr_keys=None) as home:
        take_in(home, tmp_path)
        with pytest.raises(Misconfigured, match="POPQ_FLICKR_KEYS"):
            api.work(home.rooms, "resolve", on_progress=quiet)


def test_limit_takes_the_first_photos_only(tmp_path):
    with house(tmp_path, small_world(9)) as home:
        take_in(home, tmp_path)
        assert api.work(home.rooms, "resolve", limit=4, on_progress=quiet).moved == 4
        states = home.sql("SELECT state, count(*) FROM photos GROUP BY state ORDER BY state")
        assert states == [("listed", 5), ("resolved", 4)]


def test_oembed_resolves_without_a_key_and_ends_photos_for_the_same_reasons(tmp_path):
    world = small_world(4, fates=(Fate.REMOVED, Fate.PRIVATE, Fate.VIDEO))
    world.photos[FIRST_ID + 21].licence = 4
    with house(tmp_path, world, flickr_keys=None) as home:
        take_in(home, tmp_path)
        done = api.work(home.rooms, "resolve", via="oembed", on_progress=quiet)
        assert (done.moved, done.exited) == (1, 3)
        query = (
            "SELECT state, reason, server, secret, title, licence, owner FROM photos ORDER BY id"
        )
        *left, found = home.sql(query)
        assert [row[:2] for row in left] == [
            ("gone", "not_found"),
            ("gone", "private"),
            ("rejected", "video"),
        ]
        owner = world.photos[FIRST_ID + 21].owner  # from the list: oEmbed does not say
        assert found == ("resolved", None, "65535", f"{3:010x}", "Photo 3", 4, owner)
        assert home.sql("SELECT name, per_hour FROM hosts") == [("flickr-oembed", 3_600_000)]
        assert api.show_job(home.rooms, done.job)["via"] == "oembed"
        assert api.work(home.rooms, "download", on_progress=quiet).moved == 1


def test_a_job_that_asks_one_way_is_not_joined_by_another(tmp_path):
    with house(tmp_path, small_world(3)) as home:
        take_in(home, tmp_path)
        made = home.rooms.enqueue("resolve", via="oembed", by="test")
        with pytest.raises(BadInput, match="asks by oembed, so it cannot ask by the API"):
            home.rooms.enqueue("resolve", by="test")
        assert home.rooms.enqueue("resolve", via="oembed", by="test").job == made.job
        while home.rooms.drain("resolve", "download").step():
            pass
        assert home.sql("SELECT state, via FROM jobs") == [("done", "oembed")]
        assert set(home.flickr.counters()["kinds"]) == {"oembed"}


def test_a_429_of_oembed_pauses_it_alone(tmp_path):
    faults = Faults()
    faults.throttle_for(0.3, host=Host.WWW, after_calls=2)
    with house(tmp_path, small_world(6), faults, max_tries=1) as home:
        take_in(home, tmp_path)
        done = api.work(home.rooms, "resolve", via="oembed", on_progress=quiet)
        assert (done.moved, done.failed_tries, done.left) == (6, 0, 0)
        assert home.flickr.counters()["statuses"]["www"]["429"] >= 1
