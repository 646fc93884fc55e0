from __future__ import annotations

import threading
import time

import pytest
from houses import FIRST_ID, house, quiet, small_world

from popq import api
from popq.catalogue import batches, claims, enqueuing
from popq.errors import BadInput, Misconfigured, ServiceDown
from popq.flickr.fake.faults import Fault, Faults


@pytest.fixture
def home(tmp_path):
    with house(tmp_path, small_world(60)) as home:
        api.import_list(home.rooms, home.list_files(tmp_path))
        yield home


def enqueue(home, stage="resolve", size=25):
    with home.rooms.catalogue.begin() as tx:
        return enqueuing.enqueue(tx, stage, size=size).job


def test_stopping_keeps_what_is_finished_and_hands_the_rest_back_at_once(home):
    job = enqueue(home)
    drain = home.rooms.drain("resolve")
    drain.stop.set()
    assert drain.step(job)
    assert home.sql("SELECT count(*) FROM photos WHERE state = 'resolved'") == [(1,)]
    assert home.sql("SELECT state, worker, moved FROM batches WHERE term = 1") == [
        ("ready", None, 1)
    ]


def test_a_worker_whose_lease_was_taken_records_nothing(home):
    job = enqueue(home)
    drain = home.rooms.drain("resolve")
    stage = drain.stage("resolve", None)
    process = stage.process

    def slow(photos, permits):
        for number, result in enumerate(process(photos, permits)):
            if number == 3:
                # Another worker finds the lease run out, and claims the batch.
                with home.rooms.catalogue.begin() as tx:
                    tx.exec_driver_sql("UPDATE batches SET term = term + 1 WHERE state = 'leased'")
            yield result

    stage.process = slow
    assert drain.step(job)
    assert home.sql("SELECT DISTINCT state FROM photos") == [("listed",)]
    assert home.sql("SELECT sum(moved) FROM batches") == [(0,)]


def test_two_drains_side_by_side_ask_for_no_photo_twice(home):
    job = enqueue(home, size=5)
    drains = [home.rooms.drain("resolve") for _ in range(2)]
    threads = [threading.Thread(target=d.run_job, args=(job, 2, lambda _: None)) for d in drains]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert home.sql("SELECT DISTINCT state FROM photos") == [("resolved",)]
    assert set(home.flickr.counters()["api_calls_per_photo"].values()) == {1}


def test_results_are_settled_while_the_batch_goes_on(tmp_path):
    faults = Faults()
    faults.fail_photo(FIRST_ID + 7 * 10, Fault.SLOW, slow_s=5.0)
    with house(tmp_path, small_world(20), faults, settle_every_s=0.01, io_threads=1) as home:
        api.import_list(home.rooms, home.list_files(tmp_path))
        seen = []

        def look(stage, done, total):
            seen.append(done)

        api.work(home.rooms, "resolve", on_progress=look)
        assert any(0 < done < 20 for done in seen)
        assert seen[-1] == 20


def test_work_for_says_whether_work_is_left(home):
    job = enqueue(home)
    drain = home.rooms.drain("resolve")
    batches = []
    assert drain.work_for(0.0, job, lambda: batches.append(1))
    assert not drain.work_for(60.0, job, lambda: batches.append(1))
    assert len(batches) == 3
    assert home.sql("SELECT state FROM jobs") == [("done",)]


def test_a_worker_without_a_key_still_downloads(tmp_path):
    with house(tmp_path, small_world(5), flickr_keys=None) as home:
        source = home.list_files(tmp_path)
        photos = list(home.flickr.world.photos.values())
        urls = home.flickr.world.page_urls()
        urls[3:] = [
            f"https://live.staticflickr.com/65535/{photo.flickr_id}_{photo.secret}_z.jpg"
            for photo in photos[3:]
        ]
        source.links.write_text("\n".join(urls))
        api.import_list(home.rooms, source)
        enqueue(home)
        enqueue(home, "download")
        stop = threading.Event()
        served = threading.Thread(target=api.serve, args=(home.rooms, "io", stop))
        served.start()
        try:
            until = time.monotonic() + 60
            query = "SELECT count(*) FROM photos WHERE state = 'stored'"
            while home.sql(query) != [(2,)]:
                assert time.monotonic() < until
                time.sleep(0.05)
        finally:
            stop.set()
            served.join()
        assert home.sql("SELECT stage, state FROM jobs") == [
            ("resolve", "queued"),
            ("download", "done"),
        ]


def test_a_photo_that_kills_its_worker_is_found_and_the_others_go_on(tmp_path):
    """The worker's death is played by leases that run out: see tests/catalogue for the halving."""
    with house(tmp_path, small_world(6), lease_s=0.05, io_threads=1) as home:
        api.import_list(home.rooms, home.list_files(tmp_path))
        job = enqueue(home)
        drain = home.rooms.drain("resolve")
        stage = drain.stage("resolve", None)
        process = stage.process

        class Dead(BaseException):
            """What a SIGKILL looks like from inside: nobody handles it."""

        def deadly(photos, permits):
            for photo in photos:
                if photo.flickr_id == FIRST_ID + 7 * 4:
                    raise Dead
                yield from process([photo], permits)

        stage.process = deadly
        pause = threading.Event()
        for _ in range(60):
            try:
                drain.step(job)
            except Dead:
                pause.wait(0.06)
        assert home.sql("SELECT flickr_id, reason FROM photos WHERE state = 'rejected'") == [
            (FIRST_ID + 7 * 4, "kills_worker")
        ]
        assert home.sql("SELECT count(*) FROM photos WHERE state = 'resolved'") == [(5,)]
        assert home.sql("SELECT state FROM jobs") == [("done",)]


def test_a_service_that_is_down_costs_no_photo_anything(tmp_path):
    with house(tmp_path, small_world(4), lease_s=0.05, retry_wait_s=0) as home:
        api.import_list(home.rooms, home.list_files(tmp_path))
        job = enqueue(home)
        drain = home.rooms.drain("resolve")
        stage = drain.stage("resolve", None)
        process = stage.process

        def down(photos, permits):
            yield from process(photos[:1], permits)
            raise ServiceDown("the store does not answer")

        stage.process = down
        for _ in range(3):
            with pytest.raises(ServiceDown):
                drain.step(job)
        assert home.sql("SELECT state, expiries, moved FROM batches") == [("ready", 0, 3)]
        assert home.sql("SELECT DISTINCT state FROM photos ORDER BY 1") == [
            ("listed",),
            ("resolved",),
        ]
        stage.process = process
        assert drain.step(job)
        assert home.sql("SELECT DISTINCT state FROM photos") == [("resolved",)]


def test_a_photo_slower_than_the_lease_is_worked_once(tmp_path):
    faults = Faults()
    faults.fail_photo(FIRST_ID, Fault.SLOW, slow_s=5.0)
    with house(tmp_path, small_world(3), faults, lease_s=2) as home:
        api.import_list(home.rooms, home.list_files(tmp_path))
        done = api.work(home.rooms, "resolve", on_progress=quiet)
        assert (done.moved, done.left) == (3, 0)
        assert home.sql("SELECT term, expiries FROM batches") == [(1, 0)]
        assert set(home.flickr.counters()["api_calls_per_photo"].values()) == {1}


def test_a_mistake_in_one_stage_does_not_end_a_worker(home):
    job = enqueue(home)
    drain = home.rooms.drain("resolve")
    stage = drain.stage("resolve", None)
    process = stage.process
    calls = []

    def mistaken(photos, permits):
        calls.append(1)
        if len(calls) < 3:
            raise RuntimeError("nobody foresaw this")
        yield from process(photos, permits)

    stage.process = mistaken
    served = threading.Thread(target=drain.serve, args=(1,))
    served.start()
    try:
        until = time.monotonic() + 60
        while home.sql(f"SELECT state FROM jobs WHERE id = {job}") != [("done",)]:
            assert time.monotonic() < until
            time.sleep(0.05)
    finally:
        drain.stop.set()
        served.join()
    assert home.sql("SELECT DISTINCT state FROM photos") == [("resolved",)]


def test_a_limit_beside_an_active_job_is_refused(home):
    enqueue(home)
    with pytest.raises(BadInput, match="a limit would not hold"):
        api.work(home.rooms, "resolve", limit=2, on_progress=quiet)


def test_nothing_to_do_makes_no_job(home):
    assert api.work(home.rooms, "download", on_progress=quiet) is None
    assert home.sql("SELECT count(*) FROM jobs") == [(0,)]


# Orders, filters and streams, as workers meet them.


def in_the_middle(drain, stage, after, action):
    """Let `action` happen when the stage has finished so many photos of a batch."""
    worked = drain.stage(stage, None)
    process = worked.process

    def disturbed(photos, permits):
        for number, result in enumerate(process(photos, permits)):
            if number == after:
                action()
            yield result

    worked.process = disturbed


@pytest.mark.parametrize("order", [api.pause_job, api.cancel_job])
def test_a_worker_notices_an_order_at_its_next_settle_and_keeps_what_is_finished(tmp_path, order):
    with house(tmp_path, small_world(20), settle_every_s=1e-9) as home:
        api.import_list(home.rooms, home.list_files(tmp_path))
        job = enqueue(home)
        drain = home.rooms.drain("resolve")
        in_the_middle(drain, "resolve", 4, lambda: order(home.rooms, job))
        assert drain.step(job)
        assert not drain.step(job)
        told = api.show_job(home.rooms, job)
        assert (told["moved"], told["batches_by_state"]["leased"]) == (5, 0)
        if order is api.cancel_job:
            assert (told["state"], told["open_batches"], told["left"]) == ("cancelled", 0, 15)
            assert api.work(home.rooms, "resolve", on_progress=quiet).photos == 15
        else:
            assert (told["state"], told["open_batches"], told["photos"]) == ("paused", 1, 20)
            api.resume_job(home.rooms, job)
            assert api.work(home.rooms, "resolve", on_progress=quiet).moved == 20
        assert home.sql("SELECT DISTINCT state FROM photos") == [("resolved",)]
        assert set(home.flickr.counters()["api_calls_per_photo"].values()) == {1}


def test_photos_imported_in_the_middle_of_a_job_join_it_when_they_are_enqueued(home, tmp_path):
    """Import, pause and resume while a job runs: each photo is asked for once."""
    job = enqueue(home, size=10)
    drain = home.rooms.drain("resolve")
    more = tmp_path / "more"
    more.mkdir()
    world = small_world(70)

    def import_more():
        for photo in list(world.photos.values())[60:]:
            home.flickr.world.add(photo)
        api.import_list(home.rooms, home.list_files(more))
        assert home.rooms.enqueue("resolve", by="bob").photos == 10

    in_the_middle(drain, "resolve", 3, import_more)
    assert drain.step(job)
    done = api.work(home.rooms, "resolve", on_progress=quiet)
    assert (done.job, done.photos, done.moved, done.left) == (job, 70, 70, 0)
    assert set(home.flickr.counters()["api_calls_per_photo"].values()) == {1}


def test_a_stage_that_passes_over_a_photo_uses_up_its_tries(tmp_path):
    with house(tmp_path, small_world(3), retry_wait_s=0, max_tries=2, io_threads=1) as home:
        api.import_list(home.rooms, home.list_files(tmp_path))
        job = enqueue(home)
        drain = home.rooms.drain("resolve")
        stage = drain.stage("resolve", None)
        process = stage.process
        stage.process = lambda photos, permits: process(photos[1:], permits)
        while drain.step(job):
            pass
        told = api.show_job(home.rooms, job)
        assert (told["state"], told["moved"], told["left"]) == ("done", 2, 1)
        assert told["outcomes"] == {"transient": 2}


def test_only_an_owners_photos_are_worked(home):
    done = api.work(home.rooms, "resolve", only={"owner": "10000002@N00"}, on_progress=quiet)
    assert (done.photos, done.moved) == (4, 4)
    asked = home.flickr.counters()["api_calls_per_photo"]
    assert {(int(photo) - FIRST_ID) // 7 % 15 for photo in asked} == {2}


def test_a_stream_downloads_what_is_resolved_while_it_resolves(home):
    made = home.rooms.enqueue("resolve", then="download", by="bob")
    stop = threading.Event()
    served = threading.Thread(target=api.serve, args=(home.rooms, "io", stop))
    served.start()
    try:
        ended = [
            api.follow(home.rooms, job, on_progress=quiet) for job in (made.job, made.then.job)
        ]
    finally:
        stop.set()
        served.join()
    assert [(job.state, job.moved, job.left) for job in ended] == [("done", 60, 0)] * 2
    assert [job.photos for job in ended] == [60, 60]
    assert home.sql("SELECT DISTINCT state FROM photos") == [("stored",)]
    counters = home.flickr.counters()
    assert set(counters["api_calls_per_photo"].values()) == {1}


def test_a_batch_of_a_cancelled_job_whose_worker_died_is_closed_by_the_sweep(home):
    job = enqueue(home, size=60)
    with home.rooms.catalogue.begin() as tx:
        claims.claim(tx, job, "dead", 0.0)
    api.cancel_job(home.rooms, job)
    assert not home.rooms.drain("resolve").step()
    told = api.show_job(home.rooms, job)
    assert (told["batches_by_state"]["done"], told["photos"], told["left"]) == (1, 60, 60)


def test_a_preview_says_how_long_and_changes_nothing(home):
    told = api.preview(home.rooms, "resolve", only={"owner": "10000002@N00"})
    assert (told["photos"], told["batches"], told["seconds"]) == (4, 1, pytest.approx(0.004))
    assert api.preview(home.rooms, "download", after=60)["seconds"] == pytest.approx(0.06)
    assert home.sql("SELECT count(*) FROM jobs") == [(0,)]
    assert home.flickr.counters()["api_calls_per_photo"] == {}


def test_a_download_that_waits_for_a_paused_job_says_so_instead_of_hanging(home):
    made = home.rooms.enqueue("resolve", then="download", by="bob")
    api.pause_job(home.rooms, made.job)
    with pytest.raises(Misconfigured, match=f"waits for job {made.job}, which is paused"):
        api.work(home.rooms, "download", on_progress=quiet)
    assert home.sql("SELECT state FROM jobs ORDER BY id") == [("paused",), ("queued",)]


def test_leases_at_a_time_are_bounded_by_the_keys_and_their_calls(tmp_path):
    keys = "one:secret,two:secret"
    with house(tmp_path, small_world(30), flickr_keys=keys, flickr_calls_per_hour=900) as home:
        api.import_list(home.rooms, home.list_files(tmp_path))
        job = enqueue(home, size=10)
        drain = home.rooms.drain("resolve")
        drain.stop.set()  # a step takes a batch, asks for one photo, and hands the batch back
        with home.rooms.catalogue.begin() as tx:
            first, _ = (claims.claim(tx, job, "another", 600) for _ in range(2))
        assert not drain.step(job)
        with home.rooms.catalogue.begin() as tx:
            batches.hand_back(tx, first, 0.0, 5)
        assert drain.step(job)


#: What a job is that two workers left: each closed one of its last batches, and took the other's
#: for open.
LEFT_OPEN = "UPDATE jobs SET state = 'running', finished_at = NULL"


def test_who_closes_the_last_batch_looks_whether_its_job_is_over(home):
    job = enqueue(home)
    closed = []

    def after_each():
        closed.append(job)
        with home.rooms.catalogue.begin() as tx:
            tx.exec_driver_sql(LEFT_OPEN)

    assert not home.rooms.drain("resolve").work_for(60.0, job, after_each)
    assert len(closed) == 3
    assert home.sql("SELECT state FROM jobs") == [("done",)]


def test_a_job_whose_last_batches_were_closed_at_once_ends_while_its_host_rests(home):
    job = enqueue(home)
    drain = home.rooms.drain("resolve")
    while drain.step(job):
        pass
    with home.rooms.catalogue.begin() as tx:
        tx.exec_driver_sql(LEFT_OPEN)
        tx.exec_driver_sql(f"UPDATE hosts SET paused_until = {time.time() + 3600}")
    assert not drain.step(job)
    assert home.sql("SELECT state FROM jobs") == [("done",)]
