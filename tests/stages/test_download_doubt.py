"""An image host that refuses everybody, or sends everybody the same, is not taken at its word."""

from __future__ import annotations

import pytest
from catalogue.scene import Scene
from houses import house, jpeg, quiet, small_world, static_urls
from PIL import Image

from popq import api
from popq.catalogue import scores
from popq.catalogue.batches import Move, WorkPhoto
from popq.catalogue.scores import Scored
from popq.errors import Misconfigured
from popq.flickr.fake.world import Fate, Look
from popq.images.doubt import OWNERS, REFUSALS
from popq.images.fetch import HOST
from popq.stages.ingest import Source

MANY = REFUSALS + 5


def resolved(home, tmp_path):
    api.import_list(home.rooms, home.list_files(tmp_path))
    api.work(home.rooms, "resolve", on_progress=quiet)


def download(home):
    return api.work(home.rooms, "download", on_progress=quiet)


def states(home):
    query = "SELECT state, reason, count(*) FROM photos GROUP BY state, reason ORDER BY state"
    return home.sql(query)


@pytest.mark.parametrize(
    ("fate", "key"),
    [
        (Fate.HTML, "without"),
        (Fate.PLACEHOLDER, "with a key"),
        (Fate.IMAGE_PRIVATE, "without"),
        (Fate.IMAGE_GONE, "with a key"),
    ],
)
def test_a_host_that_refuses_every_photo_marks_none(tmp_path, fate, key):
    """With a key the API still gives the same addresses, so it does not bear the host out."""
    with house(tmp_path, small_world(MANY, fates=[fate] * MANY)) as home:
        resolved(home, tmp_path)
    more = {} if key == "with a key" else {"flickr_keys": None}
    with house(tmp_path, home.flickr.world, **more) as home:
        with pytest.raises(Misconfigured, match=f"refused {REFUSALS} photos in a row"):
            download(home)
        assert states(home) == [("resolved", None, MANY)]
        assert home.sql("SELECT state FROM jobs WHERE stage = 'download'") == [("paused",)]
        for photo in home.flickr.world.photos.values():
            photo.fate = Fate.LIVE
        assert download(home).moved == MANY


def test_a_host_that_sends_a_dot_for_every_photo_marks_none(tmp_path):
    """As a filter does that puts its own picture in the place of others."""
    world = small_world(MANY)
    with house(tmp_path, world) as home:
        resolved(home, tmp_path)
        for photo in world.photos.values():
            photo.look = Look.ONE_PIXEL
        with pytest.raises(Misconfigured, match=f"refused {REFUSALS} photos in a row.*1x1 pixels"):
            download(home)
        assert states(home) == [("resolved", None, MANY)]
        for photo in list(world.photos.values())[1:]:
            photo.look = Look.PLAIN
        assert download(home).moved == MANY - 1
        assert states(home) == [("rejected", "too_small", 1), ("stored", None, MANY - 1)]


def test_small_files_of_a_folder_cast_no_doubt_on_the_host(tmp_path):
    with house(tmp_path, small_world(1)) as home:
        folder = tmp_path / "images"
        folder.mkdir()
        paths = [folder / f"{number}.png" for number in range(MANY)]
        for path in paths:
            Image.new("RGB", (1, 1)).save(path)
        links = tmp_path / "paths.txt"
        links.write_text("".join(f"{path.name}\n" for path in paths))
        api.import_list(home.rooms, Source(links, images_dir=folder))
        assert download(home).exited == MANY
        assert states(home) == [("rejected", "too_small", MANY)]


def test_a_wrong_base_url_marks_none(tmp_path):
    with house(tmp_path, small_world(MANY)) as home:
        resolved(home, tmp_path)
        wrong = f"{home.flickr.image_url}/nowhere"
        with (
            house(tmp_path, home.flickr.world, flickr_image_url=wrong) as wrongly,
            pytest.raises(Misconfigured, match="POPQ_FLICKR_IMAGE_URL"),
        ):
            download(wrongly)
        assert states(home) == [("resolved", None, MANY)]


def test_photos_that_the_api_knows_no_more_are_gone_however_many(tmp_path):
    with house(tmp_path, small_world(MANY)) as home:
        resolved(home, tmp_path)
        for photo in home.flickr.world.photos.values():
            photo.fate = Fate.REMOVED
        assert download(home).exited == MANY
        assert states(home) == [("gone", "not_found", MANY)]


def test_a_host_that_still_serves_what_it_served_is_believed(tmp_path):
    with house(tmp_path, small_world(MANY + 1)) as home:
        resolved(home, tmp_path)
        _, *others = home.flickr.world.photos.values()
        assert api.work(home.rooms, "download", limit=1, on_progress=quiet).moved == 1
        for photo in others:
            photo.fate = Fate.PLACEHOLDER
        assert download(home).exited == MANY
        assert states(home) == [("gone", "placeholder", MANY), ("stored", None, 1)]


def test_a_host_bears_witness_in_the_sizes_that_it_has(tmp_path):
    """Photos from before March 2012 have no size c, however often it is asked for."""
    world = small_world(MANY + 3)
    for photo in world.photos.values():
        photo.posted_at = 1_300_000_000
    with house(tmp_path, world, image_size="c", io_threads=1) as home:
        resolved(home, tmp_path)
        assert api.work(home.rooms, "download", limit=3, on_progress=quiet).moved == 3
        for photo in list(world.photos.values())[3:]:
            photo.fate = Fate.IMAGE_GONE
        assert download(home).exited == MANY
        assert states(home) == [("gone", "gone", MANY), ("stored", None, 3)]


@pytest.mark.parametrize("key", ["without", "with a key"])
def test_who_has_a_key_is_not_told_to_get_one(tmp_path, key):
    with house(tmp_path, small_world(MANY, fates=[Fate.IMAGE_PRIVATE] * MANY)) as home:
        resolved(home, tmp_path)
    more = {} if key == "with a key" else {"flickr_keys": None}
    with house(tmp_path, home.flickr.world, **more) as home:
        with pytest.raises(Misconfigured, match="at the proxy") as stopped:
            download(home)
        assert ("set POPQ_FLICKR_KEYS" in str(stopped.value)) == (key == "without")


def test_a_host_that_refuses_what_it_served_is_not_believed(tmp_path):
    with house(tmp_path, small_world(MANY + 1)) as home:
        resolved(home, tmp_path)
        api.work(home.rooms, "download", limit=1, on_progress=quiet)
        for photo in home.flickr.world.photos.values():
            photo.fate = Fate.IMAGE_PRIVATE
        with pytest.raises(Misconfigured, match="what it served before too"):
            download(home)
        assert states(home) == [("resolved", None, MANY), ("stored", None, 1)]


def test_a_few_refusals_are_believed(tmp_path):
    few = REFUSALS - 1
    world = small_world(few, fates=[Fate.IMAGE_GONE] * few)
    with house(tmp_path, world, io_threads=1) as home:
        resolved(home, tmp_path)
        assert download(home).exited == few
        assert states(home) == [("gone", "gone", few)]


def same_picture(world, count):
    for photo in list(world.photos.values())[:count]:
        photo.image = lambda: jpeg(0)
    return world


def test_the_same_bytes_for_many_owners_are_no_photos(tmp_path):
    """Those that were stored before it was noticed are taken back; others are stored."""
    same = OWNERS + 4
    world = same_picture(small_world(same + 6, owners=same + 6), same)
    with house(tmp_path, world, max_tries=2) as home:
        resolved(home, tmp_path)
        done = download(home)
        assert states(home) == [("resolved", None, same), ("stored", None, 6)]
        assert (done.state, done.exited) == ("done", 0)
        assert home.sql("SELECT DISTINCT outcome FROM failures") == [("stand_in",)]
        ((message,),) = home.sql("SELECT message FROM failures LIMIT 1")
        assert f"photos of {OWNERS} owners or more" in message
        for number, photo in enumerate(world.photos.values()):
            photo.image = lambda number=number: jpeg(number)
        assert download(home).moved == same


def test_what_was_said_of_a_stand_in_is_taken_back_with_it(tmp_path):
    same = 2 * OWNERS
    world = same_picture(small_world(same, owners=same), same)
    with house(tmp_path, world, max_tries=2) as home:
        resolved(home, tmp_path)
        first = OWNERS - 1
        assert api.work(home.rooms, "download", limit=first, on_progress=quiet).moved == first
        run = Scene(home.rooms.catalogue).run(done=True)
        with home.rooms.catalogue.begin() as tx:
            said = [Scored(photo, 0.5, 1, None) for photo in range(1, same + 1)]
            assert scores.record(tx, run, said) == first
        download(home)
        assert home.sql("SELECT state, count(*) FROM photos GROUP BY state") == [("resolved", same)]
        assert home.sql("SELECT count(*) FROM scores") == [(0,)]


class Free:
    """Permits without end, which need no catalogue."""

    def take(self):
        return HOST

    def owe(self, host):
        pass


def photos_of(home):
    columns = "id, flickr_id, page_url, owner, server, secret, image_url"
    rows = home.sql(f"SELECT {columns} FROM photos ORDER BY id")
    return [WorkPhoto(*row, None, None, {}) for row in rows]


def test_a_stand_in_of_which_nothing_was_stored_waits_for_no_writer(tmp_path):
    same = OWNERS + 2
    with house(tmp_path, same_picture(small_world(same, owners=same), same)) as home:
        resolved(home, tmp_path)
        photos = photos_of(home)
        stage = home.rooms.drain("download").stage("download", None)
        with home.rooms.catalogue.begin():  # the one writer of SQLite
            results = list(stage.process(photos, Free()))
        assert [isinstance(result, Move) for result in results].count(True) == OWNERS - 1


def test_one_owner_may_show_a_picture_often(tmp_path):
    world = same_picture(small_world(OWNERS + 4, owners=1), OWNERS + 4)
    with house(tmp_path, world) as home:
        resolved(home, tmp_path)
        assert download(home).moved == OWNERS + 4


def test_a_job_that_is_resumed_goes_on_in_the_same_process(tmp_path):
    """As a worker does that runs on while a person sets the proxy right."""
    dead = 10
    world = small_world(MANY, fates=[Fate.IMAGE_PRIVATE] * MANY)
    with house(tmp_path, world, io_threads=1) as home:
        resolved(home, tmp_path)
        job, drain = home.rooms.enqueue("download", by="test").job, home.rooms.drain("download")
        with pytest.raises(Misconfigured, match="POPQ_FLICKR_IMAGE_URL"):
            drain.step(job)
        for photo in list(world.photos.values())[dead:]:
            photo.fate = Fate.LIVE
        api.resume_job(home.rooms, job)
        drain.step(job)
        assert states(home) == [("gone", "private", dead), ("stored", None, MANY - dead)]


def test_what_another_thread_holds_is_not_let_go_when_the_job_is_paused(tmp_path):
    """Two threads work a batch each; the host refuses both until it is set right for a third."""
    held = REFUSALS // 2
    fates = [Fate.IMAGE_PRIVATE] * held + [Fate.HTML] + [Fate.IMAGE_PRIVATE] * REFUSALS
    world = small_world(len(fates) + 1, fates=fates)
    with house(tmp_path, world, flickr_keys=None) as home:
        source = home.list_files(tmp_path)
        source.links.write_text("\n".join(static_urls(world)))
        api.import_list(home.rooms, source)
        photos = photos_of(home)
        stage = home.rooms.drain("download").stage("download", None)
        first = stage.process([*photos[: held + 1], photos[-2]], Free())
        assert next(first).outcome == "placeholder"  # the page; those before it are held
        with pytest.raises(Misconfigured):
            list(stage.process(photos[held + 1 : -2], Free()))
        assert isinstance(next(stage.process(photos[-1:], Free())), Move)
        with pytest.raises(Misconfigured):
            list(first)
