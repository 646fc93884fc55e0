"""A photo that has none of the sizes that are tried by rule: one more call says which it has."""

from __future__ import annotations

import pytest
from houses import house, jpeg, quiet, small_world, static_urls

from popq import api
from popq.errors import Outcome, Permanent
from popq.flickr.fake.world import Fate
from popq.stages.download import AskAgain, Download
from popq.stages.drain import Drain

INFO, SIZES = "flickr.photos.getInfo", "flickr.photos.getSizes"
BY_RULE = ("_z", "_c", "_b", "", "_w", "_n")


class WithoutSizes:
    """An image client whose host lacks all the sizes that are tried by rule."""

    def __init__(self, client):
        self.client = client
        self.asked = []

    def fetch(self, url, *spend):
        self.asked.append(url)
        secret = url.rpartition("/")[2].removesuffix(".jpg").partition("_")[2]
        if secret.partition("_")[2] in {size.removeprefix("_") for size in BY_RULE}:
            raise Permanent("HTTP 404", outcome=Outcome.GONE, http_status=404)
        return self.client.fetch(url, *spend)


def downloaded(home):
    """Download everything from a host without those sizes; return what was asked of it."""
    rooms, settings = home.rooms, home.rooms.settings
    images = WithoutSizes(rooms.image_client)
    base, calls = settings.flickr_image_url, settings.flickr_calls_per_hour
    stage = Download(
        rooms.catalogue,
        images,
        rooms.store,
        images_per_second=1000,
        image_base=base,
        image_size="z",
        ask_again=AskAgain(rooms.catalogue, rooms.flickr_clients, calls, base),
    )
    job = rooms.enqueue("download", by="test").job
    drain = Drain(rooms.catalogue, {"download": lambda run_id: stage}, rooms.pace, "w")
    drain.run_job(job, 1, lambda progress: None)
    return images.asked


@pytest.mark.parametrize(("free_account", "kept", "width"), [(False, "o", 250), (True, "m", 240)])
def test_a_tiny_photo_comes_as_its_original_or_the_largest_there_is(
    tmp_path, free_account, kept, width
):
    world = small_world(2)
    for number, photo in enumerate(world.photos.values()):
        photo.image = lambda number=number: jpeg(number, size=(250, 200))
        photo.free_account = free_account
    with house(tmp_path, world) as home:
        api.import_list(home.rooms, home.list_files(tmp_path))
        api.work(home.rooms, "resolve", on_progress=quiet)
        asked = downloaded(home)
        rows = home.sql("SELECT state, width, image_url FROM photos")
        assert [(state, size) for state, size, _ in rows] == [("stored", width)] * 2
        assert all(f"_{kept}." in url for *_, url in rows)
        assert len(asked) == 2 * (len(BY_RULE) + 1)
        kinds = home.flickr.counters()["kinds"]
        assert (kinds[INFO]["requests"], kinds[SIZES]["requests"]) == (4, 2)


def test_a_photo_of_ordinary_size_is_not_fetched_as_its_huge_original(tmp_path):
    with house(tmp_path, small_world(1)) as home:
        next(iter(home.flickr.world.photos.values())).image = lambda: jpeg(1, size=(1600, 1200))
        api.import_list(home.rooms, home.list_files(tmp_path))
        api.work(home.rooms, "resolve", on_progress=quiet)
        assert [url[-6:] for url in downloaded(home)][len(BY_RULE) :] == ["_m.jpg"]
        assert home.sql("SELECT state, width FROM photos") == [("stored", 240)]


def test_a_photo_that_moved_and_has_none_of_the_usual_sizes_is_found(tmp_path):
    """The API names the new address; only its sizes say what lies there."""
    with house(tmp_path, small_world(2)) as home:
        api.import_list(home.rooms, home.list_files(tmp_path))
        api.work(home.rooms, "resolve", on_progress=quiet)
        moved, _ = home.flickr.world.photos.values()
        moved.secret = "f000000000"
        home.flickr.counting.reset()
        downloaded(home)
        assert home.sql("SELECT state, secret, width FROM photos ORDER BY id") == [
            ("stored", "f000000000", 300),
            ("stored", "0000000001", 300),
        ]
        asked = home.flickr.counters()["api_calls_per_photo"]
        assert set(asked.values()) == {2}  # whatever moved: where it is, and in which sizes


SUFFIXES = [size.removeprefix("_") for size in BY_RULE]


@pytest.mark.parametrize(
    ("missing", "moved", "kept"),
    [
        (["z"], False, 320),
        (SUFFIXES, False, 240),
        (SUFFIXES, True, 240),
    ],
)
def test_a_stand_in_for_one_size_says_nothing_of_the_others(tmp_path, missing, moved, kept):
    with house(tmp_path, small_world(1)) as home:
        (photo,) = home.flickr.world.photos.values()
        photo.image, photo.free_account = lambda: jpeg(1, size=(330, 300)), True
        api.import_list(home.rooms, home.list_files(tmp_path))
        api.work(home.rooms, "resolve", on_progress=quiet)
        photo.missing_sizes = frozenset(missing)
        if moved:
            photo.secret = "f000000000"
        api.work(home.rooms, "download", on_progress=quiet)
        assert home.sql("SELECT state, width FROM photos") == [("stored", kept)]


def test_a_stand_in_for_every_size_ends_a_photo_that_the_api_still_shows(tmp_path):
    with house(tmp_path, small_world(1, fates=(Fate.PLACEHOLDER,))) as home:
        api.import_list(home.rooms, home.list_files(tmp_path))
        api.work(home.rooms, "resolve", on_progress=quiet)
        home.flickr.counting.reset()
        api.work(home.rooms, "download", on_progress=quiet)
        assert home.sql("SELECT state, reason FROM photos") == [("gone", "placeholder")]
        kinds = home.flickr.counters()["kinds"]
        assert (kinds[INFO]["requests"], kinds[SIZES]["requests"]) == (1, 1)


def test_nobody_asks_for_sizes_before_a_404_nor_after_the_api_said_that_it_is_gone(tmp_path):
    world = small_world(2)
    with house(tmp_path, world) as home:
        api.import_list(home.rooms, home.list_files(tmp_path))
        api.work(home.rooms, "resolve", on_progress=quiet)
        first, _ = world.photos.values()
        first.fate = Fate.REMOVED
        api.work(home.rooms, "download", on_progress=quiet)
        states = home.sql("SELECT state, reason FROM photos ORDER BY id")
        assert states == [("gone", "not_found"), ("stored", None)]
        assert SIZES not in home.flickr.counters()["kinds"]


@pytest.mark.parametrize("moved", [False, True])
def test_a_missing_photo_ends_also_with_a_key_that_gives_one_call_at_a_time(tmp_path, moved):
    """Two calls are needed; what the first one said is not asked for again."""
    world = small_world(2, fates=(Fate.IMAGE_GONE,))
    with house(tmp_path, world, flickr_calls_per_hour=360) as home:
        source = home.list_files(tmp_path)
        source.links.write_text("\n".join(static_urls(world)))
        api.import_list(home.rooms, source)
        if moved:
            next(iter(world.photos.values())).secret = "f000000000"
        job, drain = home.rooms.enqueue("download", by="test").job, home.rooms.drain("download")
        for _ in range(2):
            home.let_pass()
            with home.rooms.catalogue.begin() as tx:
                tx.exec_driver_sql("UPDATE hosts SET tat = 0")
            while drain.step(job):
                pass
        assert home.sql("SELECT state FROM photos ORDER BY id") == [("gone",), ("stored",)]
        kinds = home.flickr.counters()["kinds"]
        assert (kinds[INFO]["requests"], kinds[SIZES]["requests"]) == (1, 1)
