from __future__ import annotations

import hashlib

import numpy as np
import pytest
from houses import FIRST_ID, house, jpeg, quiet, small_world, static_urls

from popq import api
from popq.catalogue import enqueuing
from popq.errors import Misconfigured
from popq.flickr.fake.faults import Fault, Faults, Host, Rule
from popq.flickr.fake.server import DEMO_KEY
from popq.flickr.fake.world import Fate
from popq.images.decode import crop, decode
from popq.images.fetch import HOST
from popq.stages.ingest import Source
from popq.stages.streak import FAULTS


def resolved(home, tmp_path):
    api.import_list(home.rooms, home.list_files(tmp_path))
    api.work(home.rooms, "resolve", on_progress=quiet)


def download(home):
    return api.work(home.rooms, "download", on_progress=quiet)


def test_a_photo_is_stored_whole_and_measured_exactly(tmp_path):
    with house(tmp_path, small_world(2)) as home:
        resolved(home, tmp_path)
        done = download(home)
        assert (done.state, done.moved, done.left) == ("done", 2, 0)
        columns = "state, file_key, sha256, bytes, width, height, format"
        (row,) = home.sql(f"SELECT {columns} FROM photos WHERE id = 2")
        data = jpeg(1)
        assert row == (
            "stored",
            row[1],
            hashlib.sha256(data).hexdigest(),
            len(data),
            300,
            280,
            "JPEG",
        )
        with home.rooms.store.open(row[1]) as file:
            assert file.read() == data
        with home.rooms.store.open(row[1]) as file:
            pixels = np.asarray(crop(decode(file).image), dtype=np.int64)
        sums = home.sql(
            "SELECT pixels, sum_r, sum_g, sum_b, square_r, square_g, square_b"
            " FROM moments WHERE photo_id = 2"
        )
        flat = pixels.reshape(-1, 3)
        assert sums == [(len(flat), *flat.sum(axis=0), *(flat**2).sum(axis=0))]


def test_photos_leave_with_the_reason_that_the_image_host_gives(tmp_path):
    fates = (Fate.IMAGE_GONE, Fate.IMAGE_PRIVATE, Fate.PLACEHOLDER, Fate.HTML, Fate.CORRUPT)
    with house(tmp_path, small_world(6, fates=fates)) as home:
        resolved(home, tmp_path)
        done = download(home)
        assert (done.moved, done.exited, done.left) == (1, 5, 0)
        assert home.sql("SELECT state, reason FROM photos ORDER BY id") == [
            ("gone", "gone"),
            ("gone", "private"),
            ("gone", "placeholder"),
            ("gone", "placeholder"),
            ("rejected", "corrupt"),
            ("stored", None),
        ]
        # Corrupt, and a page, are final after three tries, of which the last asks twice; gone only
        # after every size was asked for, and the one beyond them that the API knows.
        tries = home.flickr.counters()["image_calls_per_photo"]
        corrupt, page, gone = (tries[str(FIRST_ID + 7 * number)] for number in (4, 3, 0))
        assert (corrupt, page, gone) == (4, 4, 7)


def test_a_photo_without_the_preferred_size_comes_in_another(tmp_path):
    with house(tmp_path, small_world(1), image_size="b") as home:
        resolved(home, tmp_path)
        assert download(home).moved == 1
        ((url,),) = home.sql("SELECT image_url FROM photos")
        assert url.endswith("_z.jpg")


def test_passing_faults_and_a_429_of_the_image_host_lose_nothing(tmp_path):
    faults = Faults()
    for number, fault in enumerate([Fault.ERROR_502, Fault.CUT, Fault.RESET, Fault.ERROR_504]):
        faults.fail_photo(FIRST_ID + 7 * number, fault, host=Host.IMAGE)
    faults.throttle_for(0.4, host=Host.IMAGE, after_calls=12)
    with house(tmp_path, small_world(30), faults) as home:
        resolved(home, tmp_path)
        done = download(home)
        assert (done.moved, done.failed_tries, done.left) == (30, 4, 0)
        assert home.flickr.counters()["statuses"]["image"]["429"] >= 1


def test_a_store_that_refuses_pauses_the_job_and_loses_nothing(tmp_path):
    in_the_way = tmp_path / "store"
    in_the_way.write_text("a file where a folder should be")
    with house(tmp_path, small_world(3), store_url=str(in_the_way)) as home:
        resolved(home, tmp_path)
        with pytest.raises(Misconfigured, match="store"):
            download(home)
        assert home.sql("SELECT state FROM jobs WHERE stage = 'download'") == [("paused",)]
        assert home.sql("SELECT DISTINCT state FROM photos") == [("resolved",)]
        in_the_way.unlink()
        assert download(home).moved == 3


def test_a_photo_whose_secret_changed_is_found_again(tmp_path):
    with house(tmp_path, small_world(3)) as home:
        resolved(home, tmp_path)
        for photo in home.flickr.world.photos.values():
            photo.secret = f"f{photo.secret[1:]}"
        done = download(home)
        assert (done.moved, done.exited) == (3, 0)
        assert home.sql("SELECT secret, state FROM photos WHERE id = 1") == [
            ("f000000000", "stored")
        ]


def test_an_image_that_is_forbidden_is_asked_for_once_more(tmp_path):
    faults = Faults()
    faults.fail_photo(FIRST_ID, Fault.FORBIDDEN, host=Host.IMAGE)
    with house(tmp_path, small_world(1), faults) as home:
        resolved(home, tmp_path)
        home.flickr.world.photos[FIRST_ID].secret = "f000000000"
        home.flickr.counting.reset()
        assert download(home).moved == 1
        counters = home.flickr.counters()
        assert {kind: asked["requests"] for kind, asked in counters["kinds"].items()} == {
            "size z": 2,
            "flickr.photos.getInfo": 1,
        }
        assert home.sql("SELECT state, secret FROM photos") == [("stored", "f000000000")]


def test_an_image_that_must_not_be_learnt_from_is_left_alone(tmp_path):
    """The API could say nothing else of it, so it is not asked."""
    with house(tmp_path, small_world(2)) as home:
        resolved(home, tmp_path)
        home.flickr.world.photos[FIRST_ID].robots = "noai"
        home.flickr.counting.reset()
        done = download(home)
        assert (done.moved, done.exited, done.left) == (1, 1, 0)
        assert home.sql("SELECT state, reason, file_key FROM photos WHERE id = 1") == [
            ("gone", "private", None)
        ]
        assert home.sql("SELECT photo_id FROM moments") == [(2,)]
        files = [path for path in (tmp_path / "popq-data" / "store").rglob("*.*") if path.is_file()]
        assert len(files) == 1
        assert home.flickr.counters()["requests"]["api"] == 0


def steps(home):
    """Work the download job until there is nothing to claim for now."""
    job = home.rooms.enqueue("download", by="test").job
    drain = home.rooms.drain("download")
    while drain.step(job):
        pass


def rests(home):
    """Return whether the image host and whether the API rest."""
    query = f"SELECT paused_until > 0 FROM hosts ORDER BY name <> '{HOST}'"
    return [bool(paused) for (paused,) in home.sql(query)]


def test_an_api_that_rests_costs_a_refused_photo_no_try_and_holds_up_no_other(tmp_path):
    world = small_world(12, fates=(Fate.IMAGE_GONE,))
    with house(tmp_path, world, max_tries=1, throttle_pause_s=60) as home:
        resolved(home, tmp_path)
        home.flickr.faults.throttle_for(3600)
        steps(home)
        states = "SELECT state, count(*) FROM photos GROUP BY state ORDER BY state"
        assert home.sql(states) == [("resolved", 1), ("stored", 11)]
        assert home.sql("SELECT count(*) FROM failures") == [(0,)]
        assert rests(home) == [False, True]
        assert home.flickr.counters()["statuses"]["api"]["429"] == 1
        home.flickr.faults.clear()
        home.let_pass()
        assert download(home).exited == 1


def test_faults_of_the_api_are_not_blamed_on_the_image_host(tmp_path):
    refused = FAULTS + 2
    world = small_world(refused + 2, fates=[Fate.IMAGE_PRIVATE] * refused)
    with house(tmp_path, world, max_tries=1, throttle_pause_s=60) as home:
        resolved(home, tmp_path)
        home.flickr.faults.add(Rule(faults=(Fault.ERROR_502,)))
        steps(home)
        states = "SELECT state, count(*) FROM photos GROUP BY state ORDER BY state"
        assert home.sql(states) == [("resolved", refused), ("stored", 2)]
        outcomes = home.sql("SELECT outcome, count(*) FROM failures GROUP BY outcome")
        assert outcomes == [("host_down", FAULTS - 1)]
        assert rests(home) == [False, True]
        home.flickr.faults.clear()
        home.let_pass()
        done = download(home)
        assert (done.moved, done.exited, done.left) == (2, refused, 0)


def test_the_api_has_the_last_word_on_an_image_that_is_refused(tmp_path):
    with house(tmp_path, small_world(2)) as home:
        resolved(home, tmp_path)
        removed, _ = home.flickr.world.photos.values()
        removed.fate = Fate.REMOVED
        assert (download(home).moved, download(home)) == (1, None)
        assert home.sql("SELECT state, reason FROM photos ORDER BY id") == [
            ("gone", "not_found"),
            ("stored", None),
        ]


def test_a_refused_key_leaves_the_doubtful_photos_and_stores_the_others(tmp_path):
    """And the image host, which answered, is not taken for down."""
    doubtful = FAULTS + 1
    world = small_world(doubtful + 2, fates=[Fate.IMAGE_GONE] * doubtful)
    with house(tmp_path, world, max_tries=2, throttle_pause_s=600) as home:
        resolved(home, tmp_path)
        home.flickr.faults.disable_key(DEMO_KEY)
        done = download(home)
        assert (done.state, done.moved, done.exited, done.left) == ("done", 2, 0, doubtful)
        assert home.sql("SELECT state FROM photos WHERE id = 1") == [("resolved",)]
        disabled = home.sql("SELECT count(*) FROM hosts WHERE disabled_why IS NOT NULL")
        assert disabled == [(1,)]
        assert home.sql("SELECT DISTINCT outcome FROM failures") == [("auth",)]


def test_without_a_key_the_image_hosts_word_is_final(tmp_path):
    with house(tmp_path, small_world(2, fates=(Fate.IMAGE_GONE,))) as home:
        resolved(home, tmp_path)
    with house(tmp_path, home.flickr.world, flickr_keys=None) as home:
        assert download(home).exited == 1


def test_a_missing_photo_ends_also_at_a_rate_below_its_sizes(tmp_path):
    """Six sizes are asked for, and the host's burst is one call: it must not begin for ever."""
    world = small_world(2, fates=(Fate.IMAGE_GONE,))
    with house(tmp_path, world, images_per_second=0.3, flickr_keys=None, io_threads=1) as home:
        source = home.list_files(tmp_path)
        source.links.write_text("\n".join(static_urls(world)))
        api.import_list(home.rooms, source)
        with home.rooms.catalogue.begin() as tx:
            job = enqueuing.enqueue(tx, "download", size=25).job
        home.rooms.drain("download").step(job)
        assert home.sql("SELECT state FROM photos WHERE id = 1") == [("gone",)]


def test_no_unfinished_files_are_left_behind(tmp_path):
    with house(tmp_path, small_world(4, fates=(Fate.CORRUPT, Fate.HTML))) as home:
        resolved(home, tmp_path)
        download(home)
        folder = tmp_path / "popq-data" / "store"
        found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*"))
        stored = home.sql("SELECT file_key FROM photos WHERE state = 'stored' ORDER BY file_key")
        assert found == [key for (key,) in stored]


def test_downloading_again_fetches_nothing(tmp_path):
    with house(tmp_path, small_world(3)) as home:
        resolved(home, tmp_path)
        download(home)
        again = download(home)
        assert again is None
        assert sum(home.flickr.counters()["images_per_second"].values()) == 3


def test_files_of_a_folder_are_checked_measured_and_stored_without_any_host(tmp_path):
    """At a rate at which the image host would give one image an hour."""
    images = tmp_path / "images" / "train" / "59@N75"
    images.mkdir(parents=True)
    pictures = {"775.jpg": jpeg(1), "776.jpg": jpeg(2), "777 #%.jpg": jpeg(3), "778.jpg": b"no"}
    for name, data in pictures.items():
        (images / name).write_bytes(data)
    (tmp_path / "list").write_text("\n".join(f"train/59@N75/{name}" for name in pictures))
    with house(tmp_path, small_world(1), images_per_second=0.001, flickr_keys=None) as home:
        api.import_list(home.rooms, Source(tmp_path / "list", images_dir=tmp_path / "images"))
        done = download(home)
        assert (done.moved, done.exited, done.left) == (3, 1, 0)
        columns = "source_key, state, reason, sha256, phash IS NULL"
        found = home.sql(f"SELECT {columns} FROM photos ORDER BY id")
        assert found[2:] == [
            (
                "train/59@N75/777 #%.jpg",
                "stored",
                None,
                hashlib.sha256(jpeg(3)).hexdigest(),
                0,
            ),
            ("train/59@N75/778.jpg", "rejected", "corrupt", None, 1),
        ]
        assert home.sql("SELECT count(*) FROM moments") == [(3,)]
        assert all(path.exists() for path in images.iterdir())
        assert sum(home.flickr.counters()["images_per_second"].values()) == 0


def test_a_folder_that_is_not_mounted_marks_no_photo_dead(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    (images / "1.jpg").write_bytes(jpeg(1))
    (tmp_path / "list").write_text("1.jpg")
    with house(tmp_path, small_world(1), max_tries=2) as home:
        api.import_list(home.rooms, Source(tmp_path / "list", images_dir=images))
        images.rename(tmp_path / "elsewhere")
        assert download(home).left == 1
        assert home.sql("SELECT state FROM photos") == [("resolved",)]
        assert home.sql("SELECT DISTINCT outcome FROM failures") == [("file_missing",)]
        (tmp_path / "elsewhere").rename(images)
        assert download(home).moved == 1
