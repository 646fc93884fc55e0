"""What Flickr's own counters say of popq's manners: budgets, pauses, keys, names."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from houses import FIRST_ID, house, quiet, small_world

from popq import __version__, api, doctor
from popq.bootstrap import Rooms
from popq.catalogue.hosts import BURST_S
from popq.errors import Misconfigured
from popq.flickr.fake.faults import Fault, Faults
from popq.images.fetch import HOST

KEYS = {f"{n}" * 32: f"{n}" * 16 for n in (1, 2, 3)}
SETTING = ",".join(f"{key}:{secret}" for key, secret in KEYS.items())
WORKERS = 8


@contextlib.contextmanager
def with_keys(folder, world, faults=None, **settings):
    with house(folder, world, faults, flickr_keys=SETTING, **settings) as home:
        home.flickr.keys.update(KEYS)
        api.import_list(home.rooms, home.list_files(folder))
        yield home


def work_side_by_side(home, stage):
    """Let workers, each with connections and permits of its own, work the stage to its end."""
    job = home.rooms.enqueue(stage, by="test").job

    def worker(_):
        with Rooms(home.rooms.settings) as rooms:
            return rooms.drain(stage).run_job(job, 1, lambda progress: None)

    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(worker, range(WORKERS)))[-1]


def test_no_key_passes_its_budget_in_any_window_retries_included(tmp_path):
    """In a window of w seconds a key gets a burst, what w seconds bring, and what workers held.

    Each worker holds a grant of a second's worth at most when the window begins.
    """
    per_second, photos, window_s = 2, 156, 2.0
    faults = Faults()
    for number in range(0, photos, 10):
        faults.fail_photo(FIRST_ID + 7 * number, Fault.ERROR_502)
    settings = {"flickr_calls_per_hour": per_second * 3600, "retry_wait_s": 0.2}
    with with_keys(tmp_path, small_world(photos), faults, **settings) as home:
        done = work_side_by_side(home, "resolve")
        assert (done.moved, done.left, done.failed_tries) == (photos, 0, 16)
        counters = home.flickr.counting.snapshot(window_s)
        assert counters["requests"]["api"] == photos + 16
        allowed = per_second * (BURST_S + window_s + WORKERS)
        assert set(counters["most_in_window"]["api"]) == set(KEYS)
        for key, most in counters["most_in_window"]["api"].items():
            assert most <= allowed, key


def test_the_image_host_has_a_budget_of_its_own_for_the_whole_installation(tmp_path):
    per_second, photos, window_s = 2, 60, 2.0
    with with_keys(tmp_path, small_world(photos), images_per_second=per_second) as home:
        api.work(home.rooms, "resolve", on_progress=quiet)
        done = work_side_by_side(home, "download")
        assert (done.moved, done.left) == (photos, 0)
        (most,) = home.flickr.counting.snapshot(window_s)["most_in_window"]["image"].values()
        assert most <= per_second * (BURST_S + window_s + WORKERS)
        assert home.sql(f"SELECT per_hour FROM hosts WHERE name = '{HOST}'") == [(7200.0,)]


def test_disabled_keys_are_taken_out_and_the_last_one_stops_the_stage(tmp_path):
    first, second, third = KEYS
    with with_keys(tmp_path, small_world(40)) as home:
        for key in (first, second):
            home.flickr.faults.disable_key(key)
        assert api.work(home.rooms, "resolve", limit=20, on_progress=quiet).moved == 20
        assert home.sql("SELECT count(*) FROM hosts WHERE disabled_why IS NOT NULL") == [(2,)]
        home.flickr.faults.disable_key(third)
        with pytest.raises(Misconfigured, match="expired") as stopped:
            api.work(home.rooms, "resolve", on_progress=quiet)
        assert stopped.value.exit_code == 3
        states = home.sql("SELECT state, count(*) FROM photos GROUP BY state ORDER BY state")
        assert states == [("listed", 20), ("resolved", 20)]
        assert home.sql("SELECT count(*) FROM failures") == [(0,)]
        for key in KEYS:
            home.flickr.faults.enable_key(key)
        doctor.check(home.rooms)
        assert api.work(home.rooms, "resolve", on_progress=quiet).moved == 20


def test_a_429_pauses_the_key_that_got_it_for_all_workers_ever_longer(tmp_path):
    """The pause is a row: whoever asks next finds it, whatever process it lives in."""
    with house(tmp_path, small_world(12), throttle_pause_s=60, flickr_keys=SETTING) as home:
        home.flickr.keys.update(KEYS)
        api.import_list(home.rooms, home.list_files(tmp_path))
        job = home.rooms.enqueue("resolve", by="test").job
        home.flickr.faults.throttle_for(3600)
        pauses = []
        for _ in range(3):
            with home.rooms.catalogue.begin() as tx:
                tx.exec_driver_sql("UPDATE hosts SET paused_until = 0")
                tx.exec_driver_sql("UPDATE batches SET due = 0")
            for _ in range(8):
                with Rooms(home.rooms.settings) as rooms:
                    rooms.drain("resolve").step(job)
            pauses.append(home.sql("SELECT pause_s FROM hosts"))
        assert pauses == [[(60.0,)] * 3, [(120.0,)] * 3, [(240.0,)] * 3]
        assert home.flickr.counters()["statuses"]["api"] == {"429": 9}
        assert home.sql("SELECT count(*) FROM failures") == [(0,)]
        assert home.sql("SELECT DISTINCT state FROM photos") == [("listed",)]


def test_every_host_is_told_who_asks(tmp_path):
    with with_keys(tmp_path, small_world(6)) as home:
        api.work(home.rooms, "resolve", limit=3, on_progress=quiet)
        api.work(home.rooms, "resolve", via="oembed", on_progress=quiet)
        api.work(home.rooms, "download", on_progress=quiet)
        counters = home.flickr.counters()
        assert all(counters["requests"][host] >= 3 for host in ("api", "www", "image"))
        names = list(counters["user_agents"])
        assert len(names) == 2  # of the images', and of the others
        assert all(name.startswith(f"popq/{__version__} (") for name in names)
