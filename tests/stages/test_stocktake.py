"""Catalogue against store: what is missing is found and fetched again, what is left over is not."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import uuid
from pathlib import Path

import pytest
from catalogue.scene import Scene
from click.testing import CliRunner
from fsspec.implementations.memory import MemoryFileSystem
from houses import house, jpeg, quiet, small_world

from popq import api, doctor
from popq.catalogue import scores
from popq.catalogue.scores import Scored
from popq.cli.main import cli
from popq.errors import Misconfigured
from popq.images.store import key_for


@pytest.fixture(params=["folder", "memory"])
def home(request, tmp_path):
    url = str(tmp_path / "store") if request.param == "folder" else f"memory://{uuid.uuid4().hex}/s"
    with house(tmp_path, small_world(5), store_url=url) as home:
        api.import_list(home.rooms, home.list_files(tmp_path))
        api.work(home.rooms, "resolve", on_progress=quiet)
        api.work(home.rooms, "download", on_progress=quiet)
        yield home


def keys(home):
    return [key for (key,) in home.sql("SELECT file_key FROM photos ORDER BY id")]


def test_a_store_in_order_is_left_alone(home):
    stock = doctor.check_store(home.rooms, repair=True)
    assert (stock["stored"], stock["files"]) == (5, 5)
    assert (stock["missing"], stock["orphans"], stock["moved"]) == (0, 0, 0)


def test_missing_and_torn_files_are_found_and_fetched_again(home):
    gone, torn, *_ = keys(home)
    home.rooms.store.delete(gone)
    home.rooms.store.delete(torn)
    home.rooms.store.put(b"torn", torn)
    found = doctor.check_store(home.rooms, repair=False)
    assert (found["missing"], found["missing_keys"]) == (2, sorted([gone, torn]))
    assert found["moved"] == 0
    assert home.sql("SELECT DISTINCT state FROM photos") == [("stored",)]
    assert doctor.check_store(home.rooms, repair=True)["moved"] == 2
    assert home.sql("SELECT count(*) FROM photos WHERE state = 'resolved'") == [(2,)]
    sums = home.sql("SELECT * FROM moments ORDER BY photo_id")
    assert len(sums) == 5  # data sets may be frozen with them
    assert api.work(home.rooms, "download", on_progress=quiet).moved == 2
    assert keys(home)[:2] == [gone, torn]
    assert doctor.check_store(home.rooms, repair=False)["missing"] == 0
    assert home.sql("SELECT * FROM moments ORDER BY photo_id") == sums


def test_scores_stay_with_the_bytes_that_they_are_of(home):
    scene = Scene(home.rooms.catalogue)
    run = scene.run(done=True)
    with home.rooms.catalogue.begin() as tx:
        scores.record(tx, run, [Scored(photo, 0.5, 1, None) for photo in range(1, 6)])
    same, other, *_ = keys(home)
    for key in (same, other):
        home.rooms.store.delete(key)
    assert doctor.check_store(home.rooms, repair=True)["moved"] == 2
    list(home.flickr.world.photos.values())[1].image = lambda: jpeg(99)
    assert api.work(home.rooms, "download", on_progress=quiet).moved == 2
    assert keys(home)[0] == same
    assert keys(home)[1] != other
    scored = home.sql("SELECT photo_id FROM scores ORDER BY photo_id")
    assert scored == [(1,), (3,), (4,), (5,)]
    # So the photo is work of scoring again.
    assert scene.enqueue("score", run_id=run).photos == 1


def test_orphans_are_reported_and_never_deleted(home):
    home.rooms.store.put(b"whose?", "ab/somebodys.jpg")
    stock = doctor.check_store(home.rooms, repair=True)
    assert (stock["orphans"], stock["orphan_keys"]) == (1, ["ab/somebodys.jpg"])
    assert home.rooms.store.exists("ab/somebodys.jpg")


def age(home, key, days=2):
    """Let a file of the store look as if it was put days ago."""
    store = home.rooms.store
    if store.url.startswith("memory:"):
        path = f"/{store.url.removeprefix('memory://')}/{key}"
        MemoryFileSystem.store[path].modified -= dt.timedelta(days=days)
        return
    path = Path(store.url) / key
    os.utime(path, (path.stat().st_mtime - days * 86400,) * 2)


def test_what_nobody_has_named_for_a_day_is_deleted_when_a_person_asks(home):
    store = home.rooms.store
    for key in keys(home):
        age(home, key)
    part = f"ab/.{'0' * 32}.part"
    old, young = (key_for(f"{digit}" * 64, "JPEG") for digit in (1, 2))
    for key in (old, young, part, "ab/somebodys.jpg"):
        store.put(b"an orphan", key)
        if key != young:
            age(home, key)
    assert doctor.check_store(home.rooms, repair=True)["deleted"] == 0
    stock = doctor.check_store(home.rooms, repair=False, delete_orphans=True)
    assert (stock["orphans"], stock["deleted"], stock["missing"]) == (4, 2, 0)
    assert [store.exists(key) for key in (old, part)] == [False, False]
    assert store.exists(young)
    assert store.exists("ab/somebodys.jpg")


def test_a_photo_purged_while_a_worker_holds_it_leaves_nothing_for_ever(tmp_path):
    with house(tmp_path, small_world(3)) as home:
        api.import_list(home.rooms, home.list_files(tmp_path))
        api.work(home.rooms, "resolve", on_progress=quiet)
        home.rooms.enqueue("download", by="bob")
        drain = home.rooms.drain("download")
        stage = drain.stage("download", None)
        process = stage.process

        def purged_meanwhile(photos, permits):
            yield from process(photos, permits)
            asked = {"reason": "asked", "agreed": lambda _: True, "on_progress": quiet}
            api.purge(home.rooms, photo=str(photos[0].flickr_id), **asked)

        stage.process = purged_meanwhile
        assert drain.step()
        stock = doctor.check_store(home.rooms, repair=False)
        assert (stock["stored"], stock["orphans"]) == (2, 1)
        age(home, stock["orphan_keys"][0])
        assert doctor.check_store(home.rooms, repair=False, delete_orphans=True)["deleted"] == 1
        assert len(list(home.rooms.store.files())) == 2


def test_the_same_bytes_put_anew_are_young_again(tmp_path):
    with house(tmp_path, small_world(1)) as home:
        key = key_for("3" * 64, "JPEG")
        home.rooms.store.put(b"bytes", key)
        age(home, key)
        home.rooms.store.put(b"bytes", key)
        assert home.rooms.store.age_s(key) < 3600
        assert home.rooms.store.age_s(key_for("4" * 64, "JPEG")) is None


def test_a_store_that_is_not_mounted_moves_no_photo(home):
    for key in keys(home):
        home.rooms.store.delete(key)
    assert doctor.check_store(home.rooms, repair=False)["missing"] == 5
    with pytest.raises(Misconfigured, match="is it mounted"):
        doctor.check_store(home.rooms, repair=True)
    assert home.sql("SELECT DISTINCT state FROM photos") == [("stored",)]


def test_the_command_says_what_is_missing_and_how_it_comes_back(tmp_path):
    with house(tmp_path, small_world(3)) as home:
        api.import_list(home.rooms, home.list_files(tmp_path))
        api.work(home.rooms, "resolve", on_progress=quiet)
        api.work(home.rooms, "download", on_progress=quiet)
        key = keys(home)[0]
        shutil.rmtree((tmp_path / "popq-data" / "store" / key).parent)

        def doctor(*options):
            return CliRunner().invoke(cli, ["doctor", *options], env=home.settings())

        found = doctor("--store")
        assert found.exit_code == 1
        assert key in found.stdout
        assert "--repair" in found.stdout
        repaired = doctor("--store", "--repair", "--json")
        assert (repaired.exit_code, json.loads(repaired.stdout)["stock"]["moved"]) == (0, 1)
        stranger = tmp_path / "popq-data" / "store" / "notes.txt"
        stranger.write_text("not popq's")
        assert "left alone: none is popq's own" in doctor("--store", "--delete-orphans").stdout
        assert stranger.exists()
        assert doctor("--repair").exit_code == 2
        assert doctor("--delete-orphans").exit_code == 2
