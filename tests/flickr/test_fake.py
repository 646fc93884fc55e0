"""The fake Flickr's world and server: folders, starting, stopping, bugs. See test_conformance_*."""

from __future__ import annotations

import http.client
import json
from urllib.parse import urlsplit

import pytest
import requests

from popq.flickr import urls
from popq.flickr.fake.faults import Fault, Host
from popq.flickr.fake.renditions import Cache
from popq.flickr.fake.server import FakeFlickr
from popq.flickr.fake.world import FakePhoto, Fate, World, folder_files, folder_world


def test_folder_becomes_a_world(tmp_path, picture, session):
    numbers = range(52000000000, 52000000020)
    for number in numbers:
        (tmp_path / f"{number}.jpg").write_bytes(picture(80, 60, quality=number % 50 + 10))
    (tmp_path / "notes.txt").write_text("no photo")
    (tmp_path / "cover.jpg").write_bytes(b"no id")
    world = folder_world(tmp_path)
    assert list(world.photos) == list(numbers)
    again = folder_world(tmp_path)
    assert world.page_urls() == again.page_urls()
    assert [photo.secret for photo in world.photos.values()] == [
        photo.secret for photo in again.photos.values()
    ]
    owners = {photo.owner for photo in world.photos.values()}
    assert 1 < len(owners) <= 10
    links = [urls.parse(url) for url in world.page_urls()]
    assert [link.flickr_id for link in links] == list(numbers)
    assert {link.owner for link in links} == owners
    with FakeFlickr(world) as fake:
        photo = world.photos[links[7].flickr_id]
        url = urls.image_url(fake.image_url, photo.server, photo.flickr_id, photo.secret, "z")
        assert session.get(url).content == (tmp_path / f"{photo.flickr_id}.jpg").read_bytes()
        session.close()


def test_other_formats_and_names_that_are_no_ids(tmp_path, session, picture):
    files = {
        "52000000001.png": picture(80, 60, "PNG"),
        "52000000001.jpg": picture(80, 60),
        "52000000002.GIF": picture(80, 60, "GIF", "P"),
        "007.jpg": b"",
        "9999999999999999999.jpg": b"",
        "x.jpeg": b"",
        "52000000003.txt": b"",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "52000000004.jpg").mkdir()
    found, strangers = folder_files(tmp_path)
    assert {number: path.name for number, path in found.items()} == {
        52000000001: "52000000001.jpg",
        52000000002: "52000000002.GIF",
    }
    assert {path.name for path in strangers} == {
        "52000000001.png",
        "007.jpg",
        "9999999999999999999.jpg",
        "x.jpeg",
    }
    world = folder_world(tmp_path)
    assert [photo.original_format for photo in world.photos.values()] == ["jpg", "gif"]


def test_owners_know_their_photos(world, by_fate):
    photo = by_fate[Fate.LIVE]
    assert world.of_owner(photo.owner) == list(world.photos.values())
    assert world.of_owner("99999999@N00") is None
    assert World(photos=dict(world.photos)).of_owner(photo.owner) == world.of_owner(photo.owner)
    del world.photos[photo.flickr_id]
    assert photo not in world.of_owner(photo.owner)


def test_empty_folder_is_an_empty_world(tmp_path):
    assert folder_world(tmp_path) == World()


def test_server_stops_with_connections_open_and_answers_pending(world, by_fate):
    fake = FakeFlickr(world)
    fake.start()
    host = urlsplit(fake.image_url).netloc
    idle = http.client.HTTPConnection(host)
    idle.request("GET", "/_popq/counters")
    assert json.loads(idle.getresponse().read())["duplicate_nonces"] == 0
    photo = by_fate[Fate.LIVE]
    fake.faults.fail_photo(photo.flickr_id, Fault.SLOW, host=Host.IMAGE, slow_s=3600)
    waiting = http.client.HTTPConnection(host)
    waiting.request("GET", f"/65535/{photo.flickr_id}_{photo.secret}_z.jpg")
    while not fake.counters()["image_calls_per_photo"]:
        pass
    fake.stop()
    with pytest.raises((http.client.HTTPException, OSError)):
        waiting.getresponse()
    idle.close()
    waiting.close()


def test_server_that_never_started_stops():
    FakeFlickr(World()).stop()


def test_client_that_hangs_up_is_ignored(fake, by_fate, ask, capfd):
    photo = by_fate[Fate.LIVE]
    fake.faults.fail_photo(photo.flickr_id, Fault.SLOW, host=Host.IMAGE, slow_s=0.05)
    hasty = http.client.HTTPConnection(urlsplit(fake.image_url).netloc)
    hasty.request("GET", f"/65535/{photo.flickr_id}_{photo.secret}_z.jpg")
    hasty.close()
    assert ask("flickr.test.echo").status_code == 200
    fake.stop()
    assert "Traceback" not in capfd.readouterr().err


def test_bug_in_a_photo_is_printed(fake, fetch, by_fate, capfd):
    def no_file():
        raise FileNotFoundError("gone.jpg")

    by_fate[Fate.LIVE].image = no_file
    with pytest.raises(requests.ConnectionError):
        fetch(by_fate[Fate.LIVE])
    fake.stop()
    assert "gone.jpg" in capfd.readouterr().err


@pytest.mark.parametrize("length", ["nonsense", "-5", "9" * 30])
def test_odd_length_of_a_request_is_no_bug(fake, capfd, length):
    connection = http.client.HTTPConnection(urlsplit(fake.image_url).netloc, timeout=30)
    connection.putrequest("GET", "/_popq/counters")
    connection.putheader("Content-Length", length)
    connection.endheaders()
    if length.isdigit():  # waits for the rest, as any server would
        connection.close()
    else:
        assert connection.getresponse().status == 200
        connection.close()
    fake.stop()
    assert "Traceback" not in capfd.readouterr().err


def test_head_has_no_body(fake, session, by_fate):
    photo = by_fate[Fate.LIVE]
    url = urls.image_url(fake.image_url, photo.server, photo.flickr_id, photo.secret, "z")
    for _ in range(2):
        answer = session.head(url)
        assert (answer.status_code, answer.content) == (200, b"")
    assert len(session.get(url).content) == int(answer.headers["x-ttdb-l"])


def test_renditions_are_kept_within_bounds_and_made_anew_when_the_photo_changes(picture):
    files = Cache(kept_bytes=20_000)
    world = World()
    photos = []
    for number in range(30):
        data = picture(700, 500 + number)
        photos.append(FakePhoto(number + 1, "1@N00", "1", "a", lambda data=data: data))
        world.add(photos[-1])
    first = [files.serve(photo, "z") for photo in photos]
    assert [files.serve(photo, "z") for photo in photos] == first
    assert files.serve(photos[3], "t").picture.width == 100
    assert files.kept_bytes() <= 20_000 + len(photos[0].image())
    photos[0].image = photos[9].image
    assert files.serve(photos[0], "z") == first[9]
    photos[0].posted_at = 0
    assert files.serve(photos[0], "z") == first[9]
    assert files.serve(photos[0], "c") is None


def test_a_kept_rendition_is_not_served_where_it_no_longer_exists(picture):
    files = Cache()
    data = picture(2100, 1400)
    photo = FakePhoto(1, "1@N00", "1", "a", lambda: data)
    assert files.serve(photo, "k") is not None
    photo.free_account = True
    assert files.serve(photo, "k") is None
    assert files.serve(photo, "o") is None
