"""Purging stored photos: their files, crops and rows, and what others keep."""

from __future__ import annotations

import pytest
from houses import FIRST_ID, quiet, stored_house

from popq import api
from popq.errors import BadInput
from popq.stages import purge

TRAIN = {"arch": "resnet18", "weights": "none", "image_size": 32, "epochs": 1}


@pytest.fixture
def home(tmp_path):
    with stored_house(tmp_path, 40, owners=10) as home:
        yield home


def files(home):
    store = home.rooms.settings.data_dir / "store"
    return {path.name for path in store.rglob("*.jpg")}


def take_out(home, **what):
    return api.purge(home.rooms, reason="test", agreed=lambda _: True, on_progress=quiet, **what)


def test_files_and_packs_go_and_a_later_run_does_without(home):
    run = api.new_run(home.rooms, "main", "default", TRAIN)
    api.train(home.rooms, run, on_progress=quiet)
    packs = home.rooms.settings.data_dir / "packs"
    assert len(list(packs.iterdir())) == 1
    before = files(home)
    taken = take_out(home, owner="10000003@N00")
    assert len(taken.photos) == 4
    assert len(before - files(home)) == 4
    assert list(packs.iterdir()) == []
    assert home.sql("SELECT count(*) FROM members") == [(36,)]
    run = api.new_run(home.rooms, "main", "default", TRAIN | {"seed": 1})
    assert api.train(home.rooms, run, on_progress=quiet)["state"] == "done"


def test_a_purged_photo_is_not_imported_again(home, tmp_path):
    take_out(home, photo=str(FIRST_ID))
    report = api.import_list(home.rooms, home.list_files(tmp_path))
    assert report.new == 0
    assert home.sql("SELECT count(*) FROM photos") == [(39,)]


def test_without_consent_nothing_is_taken(home):
    before = files(home)
    shown = []
    refuse = lambda doomed: bool(shown.append(doomed))  # noqa: E731
    assert (
        api.purge(home.rooms, owner="10000003@N00", reason="x", agreed=refuse, on_progress=quiet)
        is None
    )
    assert len(shown[0].photos) == 4
    assert files(home) == before
    assert home.sql("SELECT count(*) FROM photos") == [(40,)]


def test_a_photo_that_nobody_knows_is_an_error(home):
    with pytest.raises(BadInput, match="no photo 775"):
        take_out(home, photo="775")
    with pytest.raises(BadInput, match="no photo of an owner 1@N00"):
        take_out(home, owner="1@N00")


def test_a_purge_that_died_after_the_files_is_finished_by_the_next(home):
    doomed = purge.look_up(home.rooms.catalogue, photo=str(FIRST_ID))
    for key in doomed.keys:
        home.rooms.store.delete(key)
    assert take_out(home, photo=str(FIRST_ID)).photos == doomed.photos
    assert home.sql("SELECT count(*) FROM tombstones") == [(1,)]
