"""A stored file that cannot be decoded here, and is as it was stored, stays: others can."""

from __future__ import annotations

import shutil

import pytest
from houses import quiet, stored_house
from PIL import Image, ImageFile

from popq import api

SMALL = {"arch": "resnet18", "weights": "none", "image_size": 32, "epochs": 1}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    with stored_house(tmp_path_factory.mktemp("house"), photos=24, owners=8) as home:
        run = api.new_run(home.rooms, "main", "default", SMALL)
        api.train(home.rooms, run, on_progress=quiet)
        shutil.rmtree(home.rooms.settings.data_dir / "packs")  # a packed photo is not decoded
        yield home


def without_a_codec(monkeypatch):
    monkeypatch.delitem(Image.OPEN, "JPEG")


def short_of_memory(monkeypatch):
    def load(self):
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)


def score(home):
    return api.work(home.rooms, "score", again=True, on_progress=quiet)


@pytest.mark.parametrize("spoil", [without_a_codec, short_of_memory])
@pytest.mark.parametrize("url", ["known", "unknown"])
def test_a_whole_file_that_cannot_be_decoded_here_is_kept(home, spoil, url, monkeypatch):
    photos = "SELECT id, state, reason, file_key, sha256 FROM photos ORDER BY id"
    before, files = home.sql(photos), dict(home.rooms.store.files())
    with home.rooms.catalogue.begin() as tx:
        urls = tx.exec_driver_sql("SELECT image_url, id FROM photos").all()
        if url == "unknown":
            tx.exec_driver_sql("UPDATE photos SET image_url = NULL")
    with monkeypatch.context() as spoiled:
        spoil(spoiled)
        done = score(home)
    assert (done.state, done.moved, done.exited, done.left) == ("done", 0, 0, 24)
    assert home.sql(photos) == before
    assert dict(home.rooms.store.files()) == files
    said = "SELECT outcome, message FROM failures WHERE job_id = (SELECT max(id) FROM jobs)"
    ((outcome, message), *_) = home.sql(said)
    assert outcome == "transient"
    assert "cannot be decoded here" in message or "too little memory" in message
    assert score(home).moved == 24
    with home.rooms.catalogue.begin() as tx:
        for row in urls:
            tx.exec_driver_sql("UPDATE photos SET image_url = ? WHERE id = ?", tuple(row))


def test_a_worker_short_of_memory_rejects_no_photo(home, monkeypatch):
    with home.rooms.catalogue.begin() as tx:
        lost = "state = 'resolved', file_key = NULL, sha256 = NULL"
        tx.exec_driver_sql(f"UPDATE photos SET {lost} WHERE id <= 2")
    with monkeypatch.context() as spoiled:
        short_of_memory(spoiled)
        done = api.work(home.rooms, "download", on_progress=quiet)
    assert (done.exited, done.left) == (0, 2)
    assert home.sql("SELECT DISTINCT state FROM photos WHERE id <= 2") == [("resolved",)]
    assert api.work(home.rooms, "download", on_progress=quiet).moved == 2
