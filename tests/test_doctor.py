"""What `popq doctor` says where something is missing, late or wrong, and what to do about it."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import time

import pytest
from catalogue.scene import Scene
from houses import house, small_world
from servers import postgres_url

from popq import api, doctor
from popq.bootstrap import Rooms
from popq.settings import Settings

NOBODY = "127.0.0.1:1"


@contextlib.contextmanager
def opened(folder, **settings):
    """Open rooms that ask nobody outside, with a catalogue if they can have one."""
    values = {"data_dir": folder / "popq-data", "flickr_image_url": f"http://{NOBODY}"} | settings
    with Rooms(Settings(**values)) as rooms:
        yield rooms


def looked(rooms):
    """Return what the doctor says, by the names of its lines."""
    return {row["name"]: row for row in doctor.check(rooms)}


def test_a_disk_too_small_for_what_is_to_come_is_told(tmp_path):
    with house(tmp_path, small_world(0)) as home:
        scene = Scene(home.rooms.catalogue)
        assert looked(home.rooms)["disk"]["state"] == "ok"
        scene.photos(1, "stored")
        scene.photos(4)
        scene.do("UPDATE photos SET bytes = 250000000000000 WHERE state = 'stored'")
        disk = looked(home.rooms)["disk"]
    assert (disk["state"], disk["status"]) == ("warning", 0)
    assert "1,000,000.0 GB of photos are still to come" in disk["message"]
    assert "free some, or set POPQ_STORE_URL to another place" in disk["message"]


@pytest.mark.parametrize(("off", "told"), [(0, None), (90, "-"), (-90, "+")])
def test_clocks_that_are_apart_are_told(tmp_path, monkeypatch, off, told):
    ours = time.time
    with postgres_url() as url, opened(tmp_path, database_url=url) as rooms:
        api.init(rooms)
        monkeypatch.setattr(time, "time", lambda: ours() + off)  # this machine's clock is set so
        clock = looked(rooms)["clock"]
        monkeypatch.undo()
    assert clock["state"] == ("warning" if told else "ok"), clock
    if told:
        off_by = rf"the database's clock is \{told}(89|90)\.\d s off this machine's"
        assert re.search(off_by, clock["message"])
        assert "set both by NTP" in clock["message"]


def test_an_older_catalogue_is_wrong_until_init(tmp_path):
    with opened(tmp_path) as rooms:
        head = api.init(rooms)["version"]
    with contextlib.closing(sqlite3.connect(tmp_path / "popq-data" / "popq.db")) as file, file:
        file.execute("UPDATE alembic_version SET version_num = '0007'")
    with opened(tmp_path) as rooms:
        rows = looked(rooms)
    wrong = rows["migrations"]
    assert (wrong["state"], wrong["status"]) == ("wrong", 3)
    assert f"is at version 0007, popq at {head}; run `popq init`" in wrong["message"]
    assert rows["workers"]["state"] == "warning"


#: A setting that cannot work, its line, the exit status that it asks for, and the next step.
WRONG = [
    ({"database_url": f"postgresql://u:hush@{NOBODY}/x"}, "database", 4, "correct POPQ_DATABASE"),
    ({"database_url": "sqlite:///FOLDER/notes.db"}, "database", 3, "POPQ_DATABASE_URL"),
    ({"database_url": "sqlite:///FOLDER/newer.db"}, "database", 3, "upgrade popq"),
    ({"flickr_keys": "wrong:hush"}, "key", 3, "Correct POPQ_FLICKR_KEYS"),
    (
        {"flickr_keys": "a:b", "flickr_api_url": f"http://{NOBODY}/"},
        "key",
        4,
        "look at the network",
    ),
    ({"store_url": "FOLDER/file"}, "store", 3, "POPQ_STORE_URL"),
    ({"device": "cuda:99"}, "torch", 3, "POPQ_DEVICE"),
    ({"device": "cuda:99"}, "gpu", 3, "POPQ_DEVICE"),
    ({"device": "toaster"}, "gpu", 3, "say auto, cpu, cuda"),
]


@pytest.mark.parametrize(
    ("settings", "name", "status", "step"), WRONG, ids=[f"{w[1]} {w[2]} {w[3]}" for w in WRONG]
)
def test_what_is_wrong_says_what_to_do(tmp_path, settings, name, status, step):
    (tmp_path / "file").write_text("no folder")
    with contextlib.closing(sqlite3.connect(tmp_path / "notes.db")) as notes:
        notes.execute("CREATE TABLE notes (text)")
    with contextlib.closing(sqlite3.connect(tmp_path / "newer.db")) as newer:
        newer.executescript(
            "CREATE TABLE photos (id); CREATE TABLE batches (id);"
            "CREATE TABLE alembic_version (version_num); INSERT INTO alembic_version VALUES (9999)"
        )
    given = {key: value.replace("FOLDER", str(tmp_path)) for key, value in settings.items()}
    with house(tmp_path / "house", small_world(1)) as home:
        asks = {"flickr_api_url": home.flickr.api_url, "flickr_image_url": home.flickr.image_url}
        with opened(tmp_path, **(asks | given)) as rooms:
            row = looked(rooms)[name]
    assert (row["state"], row["status"]) == ("wrong", status), row
    assert step in row["message"], row
    assert "hush" not in row["message"]


def test_a_database_that_is_down_is_told_once(tmp_path):
    with house(tmp_path / "house", small_world(1)) as home:
        asks = {
            "flickr_api_url": home.flickr.api_url,
            "flickr_keys": home.rooms.settings.flickr_keys,
        }
        with opened(tmp_path, database_url=f"postgresql://u:x@{NOBODY}/x", **asks) as rooms:
            rows = looked(rooms)
    told = [name for name, row in rows.items() if "does not answer" in row["message"]]
    assert told == ["database", "images"]
    assert [rows[name]["state"] for name in ("key", "disk")] == ["ok", "ok"]
    assert "only the database knows" in rows["images"]["message"]


def test_a_silent_image_host_is_wrong_where_photos_wait_for_it(tmp_path):
    with opened(tmp_path) as rooms:
        api.init(rooms)
        assert looked(rooms)["images"]["state"] == "warning"
        Scene(rooms.catalogue).photos(3, "resolved")
        row = looked(rooms)["images"]
    assert (row["state"], row["status"]) == ("wrong", 4)
    assert "look at the network and at POPQ_FLICKR_IMAGE_URL. 3 photos wait" in row["message"]
