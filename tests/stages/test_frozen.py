"""A data set stays what it was frozen as, whatever becomes of its photos' files."""

from __future__ import annotations

import shutil

import pytest
from houses import jpeg, quiet, stored_house

from popq import api, doctor
from popq.errors import PopqError
from popq.stages.dataset import Spec

SMALL = {"arch": "resnet18", "weights": "none", "image_size": 32, "epochs": 1}
LOST = 3


@pytest.fixture
def home(tmp_path):
    with stored_house(tmp_path, photos=24, owners=8) as home:
        yield home


def train(home, seed, dataset="main"):
    run = api.new_run(home.rooms, dataset, "default", {**SMALL, "seed": seed})
    return api.train(home.rooms, run, on_progress=quiet)


def lose_a_file(home):
    """Lose a photo's file and let `doctor --store --repair` find that out; return its key."""
    ((key,),) = home.sql(f"SELECT file_key FROM photos WHERE id = {LOST}")
    home.rooms.store.delete(key)
    assert doctor.check_store(home.rooms, repair=True)["moved"] == 1
    return key


def packs(home):
    """Return the packs' files with what tells a file from another one in its place."""
    found = (home.rooms.settings.data_dir / "packs").rglob("pixels.u8")
    return {(path, path.stat().st_ino, path.read_bytes()) for path in found}


def test_a_lost_file_takes_no_photo_out_of_a_data_set_and_leaves_its_pack_alone(home):
    judged = train(home, seed=1)["metrics"]["n"]
    before = packs(home)
    assert len(before) == 1
    lose_a_file(home)
    assert train(home, seed=2)["metrics"]["n"] == judged
    assert packs(home) == before


def test_a_lost_photo_that_is_fetched_again_can_be_packed_again(home):
    key = lose_a_file(home)
    with pytest.raises(PopqError, match=rf"{key}.*popq download"):
        train(home, seed=1)
    assert api.work(home.rooms, "download", on_progress=quiet).moved == 1
    assert train(home, seed=1)["state"] == "done"


def test_a_lost_photo_that_comes_as_other_bytes_is_never_slipped_into_a_pack(home):
    assert train(home, seed=1)["state"] == "done"
    before = packs(home)
    key = lose_a_file(home)
    photo = list(home.flickr.world.photos.values())[LOST - 1]
    photo.image = lambda: jpeg(999)
    assert api.work(home.rooms, "download", on_progress=quiet).moved == 1
    assert home.sql(f"SELECT file_key FROM photos WHERE id = {LOST}") != [(key,)]
    # The pack has the pixels that the set was frozen with.
    assert train(home, seed=2)["state"] == "done"
    assert packs(home) == before
    shutil.rmtree(home.rooms.settings.data_dir / "packs")
    with pytest.raises(PopqError, match=rf"{key}.*other bytes.*make a new data set"):
        train(home, seed=3)
    api.make_dataset(home.rooms, Spec("anew", val=0.3))
    assert train(home, seed=3, dataset="anew")["state"] == "done"


def test_photos_that_ranks_leave_over_are_not_called_new(home):
    relabel(home, 1, None)
    spec = Spec("ranked", val=0.3, fit="rank", tiers=4)
    first = api.make_dataset(home.rooms, spec)
    assert first["count"] == 20
    assert api.make_dataset(home.rooms, spec)["warnings"] == first["warnings"]
    relabel(home, 1, 5.0)  # enough for one more in each tier
    assert "4 stored photos are not in it" in api.make_dataset(home.rooms, spec)["warnings"][-1]


def relabel(home, photo, label):
    with home.rooms.catalogue.begin() as tx:
        tx.exec_driver_sql("UPDATE photos SET label = ? WHERE id = ?", (label, photo))
