"""What Flickr's own counters say of popq's manners: budgets, pauses, keys, names."""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from houses import FIRST_ID, house, jpeg, quiet, small_world, static_urls

from popq import __version__, api, doctor
from popq.bootstrap import Rooms
from popq.catalogue import enqueuing
from popq.catalogue.hosts import BURST_S
from popq.errors import Misconfigured
from popq.flickr.client import FlickrClient
from popq.flickr.fake.faults import Fault, Faults, Host, Rule
from popq.flickr.fake.world import Fate
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


def cut(home, stage, size):
    """Return a new job of the stage in batches of so many photos."""
    with home.rooms.catalogue.begin() as tx:
        return enqueuing.enqueue(tx, stage, size=size).job


def work_side_by_side(home, stage, job=None):
    """Let workers, each with connections and permits of its own, work the stage to its end."""
    job = job or home.rooms.enqueue(stage, by="test").job

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
        calls = counters["calls_per_key_and_second"]
        took_s = seconds_of(second for key in calls.values() for second in key)
        assert photos + 16 <= len(KEYS) * per_second * (BURST_S + took_s)


def seconds_of(seconds):
    """Return how long calls took at most that came in these seconds."""
    numbers = list(map(int, seconds))
    return max(numbers) - min(numbers) + 1


def test_the_image_host_has_a_budget_of_its_own_for_the_whole_installation(tmp_path):
    """Photos that are gone are asked for in all sizes, in debt if need be: later calls wait."""
    per_second, photos, gone, window_s = 4, 46, 6, 2.0
    world = small_world(photos, fates=[Fate.IMAGE_GONE] * gone)
    with with_keys(tmp_path, world, images_per_second=per_second) as home:
        api.work(home.rooms, "resolve", on_progress=quiet)
        done = work_side_by_side(home, "download", cut(home, "download", 12))
        assert (done.moved, done.exited, done.left) == (photos - gone, gone, 0)
        counters = home.flickr.counting.snapshot(window_s)
        calls, (most,) = counters["requests"]["image"], counters["most_in_window"]["image"].values()
        assert most <= per_second * (BURST_S + window_s + WORKERS)
        assert calls >= photos + 6 * gone
        assert calls <= per_second * (BURST_S + seconds_of(counters["images_per_second"]))
        assert home.sql(f"SELECT per_hour FROM hosts WHERE name = '{HOST}'") == [(14400.0,)]


def test_a_host_that_leads_on_is_paid_for_each_request(tmp_path):
    """Each address of this mirror leads to another: two requests a photo, and two calls paid."""
    asked = []

    class Mirror(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            there = self.path.startswith("/there/")
            self.send_response(200 if there else 302)
            self.send_header("Content-Type" if there else "Location", self.answer_with(there))
            self.end_headers()
            self.wfile.write(jpeg(len(asked)) if there else b"")

        def answer_with(self, there):
            return "image/jpeg" if there else f"/there{self.path}"

        def log_message(self, *_):
            pass

    photos, per_second = 4, 1
    with ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as mirror:
        thread = threading.Thread(target=mirror.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        options = {
            "flickr_image_url": f"http://127.0.0.1:{mirror.server_port}",
            "images_per_second": per_second,
        }
        with house(tmp_path, small_world(photos), **options) as home:
            source = home.list_files(tmp_path)
            source.links.write_text("\n".join(static_urls(home.flickr.world)))
            api.import_list(home.rooms, source)
            began = time.time()
            assert api.work(home.rooms, "download", on_progress=quiet).moved == photos
            # Whatever was granted, and when: so late the next call is due at the earliest.
            ((paid_until,),) = home.sql("SELECT tat FROM hosts WHERE name = :name", name=HOST)
        mirror.shutdown()
        thread.join()
    assert len(asked) == 2 * photos
    assert paid_until - began >= len(asked) / per_second


def test_images_that_are_refused_take_no_key_beyond_its_budget(tmp_path):
    """What is asked again comes out of the budget of all keys; what must wait holds up nobody."""
    per_second, photos, window_s = 2, 200, 2.0
    world = small_world(photos)
    for photo in list(world.photos.values())[::2]:
        photo.fate = Fate.IMAGE_PRIVATE
    settings = {"flickr_calls_per_hour": per_second * 3600, "retry_wait_s": 0.2, "max_tries": 1}
    with house(tmp_path, world, flickr_keys=SETTING, **settings) as home:
        home.flickr.keys.update(KEYS)
        source = home.list_files(tmp_path)
        source.links.write_text("\n".join(static_urls(world)))
        api.import_list(home.rooms, source)
        done = work_side_by_side(home, "download", cut(home, "download", 20))
        assert (done.moved, done.exited, done.left) == (photos / 2, photos / 2, 0)
        counters = home.flickr.counting.snapshot(window_s)
        assert counters["kinds"]["flickr.photos.getInfo"]["most_per_photo"] == 1
        most = counters["most_in_window"]["api"]
        assert set(most) == set(KEYS)
        assert max(most.values()) <= per_second * (BURST_S + window_s) + 1
        assert home.sql("SELECT DISTINCT outcome FROM failures") == [("private",)]


def test_a_small_batch_takes_no_more_calls_than_it_has_photos(tmp_path):
    """Half a burst is fifty calls: forty batches of one photo find the host open, one by one."""
    with house(tmp_path, small_world(40), flickr_calls_per_hour=36_000) as home:
        api.import_list(home.rooms, home.list_files(tmp_path))
        job, drain = cut(home, "resolve", 1), home.rooms.drain("resolve")
        assert [drain.step(job) for _ in range(40)] == [True] * 40
        assert home.sql("SELECT DISTINCT state FROM photos") == [("resolved",)]
        assert home.flickr.counters()["requests"]["api"] == 40


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


def test_a_429_pauses_all_keys_for_all_workers_ever_longer(tmp_path):
    """The pause is a row: whoever asks next finds it, whatever process it lives in."""
    with with_keys(tmp_path, small_world(12), throttle_pause_s=60) as home:
        job = home.rooms.enqueue("resolve", by="test").job
        home.flickr.faults.throttle_for(3600)
        pauses = []
        for _ in range(3):
            home.let_pass()
            for _ in range(8):
                with Rooms(home.rooms.settings) as rooms:
                    rooms.drain("resolve").step(job)
            pauses.append(home.sql("SELECT pause_s FROM hosts"))
        assert pauses == [[(60.0,)] * 3, [(120.0,)] * 3, [(240.0,)] * 3]
        assert home.flickr.counters()["statuses"]["api"] == {"429": 3}
        assert home.sql("SELECT count(*) FROM failures") == [(0,)]
        assert home.sql("SELECT DISTINCT state FROM photos") == [("listed",)]


@pytest.mark.parametrize(
    ("column", "fault"), [("paused_until", Fault.RATE_LIMITED), ("disabled_why", Fault.KEY_EXPIRED)]
)
def test_what_was_answered_is_kept_when_a_pause_cannot_be_written(tmp_path, column, fault):
    """A database that writes nothing of a host costs no photo its answer, nor its batch a life."""
    refused = Faults([Rule(faults=(fault,), from_call=21)])
    with house(tmp_path, small_world(25), refused) as home:
        api.import_list(home.rooms, home.list_files(tmp_path))
        with home.rooms.catalogue.begin() as tx:
            fails = "BEGIN SELECT RAISE(ABORT, 'no room for it'); END"
            tx.exec_driver_sql(f"CREATE TRIGGER no BEFORE UPDATE OF {column} ON hosts {fails}")
        job = home.rooms.enqueue("resolve", by="test").job
        with pytest.raises(Exception, match="no room for it"):
            home.rooms.drain("resolve").step(job)
        assert home.sql("SELECT state, expiries, moved FROM batches") == [("ready", 0, 20)]
        assert home.sql("SELECT count(*) FROM photos WHERE state = 'resolved'") == [(20,)]


def test_a_key_that_is_throttled_alone_rests_ever_longer_and_the_others_work(tmp_path):
    """What they are answered says nothing of that key; it does say that theirs is a short rest."""
    throttled, secret = next(iter(KEYS.items()))
    only = Rule(faults=(Fault.RATE_LIMITED,), keys=frozenset({throttled}))
    with with_keys(tmp_path, small_world(48), Faults([only]), throttle_pause_s=60) as home:
        times = {"connect_timeout_s": 1, "read_timeout_s": 1}
        with FlickrClient(throttled, secret, api_url=home.flickr.api_url, **times) as client:
            name = client.host
        job, drain = cut(home, "resolve", 4), home.rooms.drain("resolve")
        pauses, others = [], []
        for number in range(1, 4):
            while only.strikes < number:
                home.let_pass()
                drain.step(job)
            pauses += home.sql(f"SELECT pause_s FROM hosts WHERE name = '{name}'")
            others += home.sql(f"SELECT max(pause_s) FROM hosts WHERE name <> '{name}'")
            home.let_pass()
            with home.rooms.catalogue.begin() as tx:  # its budget is used up for now
                tx.exec_driver_sql(f"UPDATE hosts SET tat = tat + 1000 WHERE name = '{name}'")
            assert drain.step(job)
            with home.rooms.catalogue.begin() as tx:
                tx.exec_driver_sql(f"UPDATE hosts SET tat = 0 WHERE name = '{name}'")
        assert pauses == [(60.0,), (120.0,), (240.0,)]
        assert others[-1] <= (120.0,)
        assert home.sql("SELECT count(*) FROM photos WHERE state = 'resolved'")[0][0] >= 12


def test_the_image_host_rests_ever_longer_and_the_api_does_not(tmp_path):
    with house(tmp_path, small_world(3), throttle_pause_s=60) as home:
        api.import_list(home.rooms, home.list_files(tmp_path))
        api.work(home.rooms, "resolve", on_progress=quiet)
        home.flickr.faults.throttle_for(3600, host=Host.IMAGE)
        job, drain = cut(home, "download", 25), home.rooms.drain("download")
        pauses = []
        for _ in range(2):
            home.let_pass()
            while drain.step(job):
                pass
            pauses += home.sql(f"SELECT pause_s FROM hosts WHERE name = '{HOST}'")
        assert pauses == [(60.0,), (120.0,)]
        assert home.sql(f"SELECT pause_s FROM hosts WHERE name <> '{HOST}'") == [(0.0,)]
        assert home.flickr.counters()["statuses"]["image"] == {"429": 2}
        home.flickr.faults.clear()
        home.let_pass()
        assert drain.step(job)
        assert home.sql("SELECT DISTINCT state FROM photos") == [("stored",)]
        assert home.sql(f"SELECT pause_s FROM hosts WHERE name = '{HOST}'") == [(0.0,)]


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
