"""Purging stored photos: their files, crops and rows, and what others keep."""

from __future__ import annotations

import json
import threading

import pytest
from houses import FIRST_ID, house, jpeg, quiet, small_world, stored_house

from popq import api
from popq.errors import BadInput
from popq.export import model
from popq.report import page
from popq.stages import purge
from popq.stages.dataset import Spec, describe
from popq.stages.train import Stopped

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


def test_files_and_packs_go_and_a_later_run_does_without(home, tmp_path):
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
    model.save(home.rooms, run, tmp_path / "model", onnx=False)
    card = json.loads((tmp_path / "model" / "card.json").read_text())
    assert card["dataset"]["photos"] == 36


def test_a_data_set_and_its_report_count_what_is_left(home):
    take_out(home, owner="10000003@N00")
    described = describe(home.rooms.catalogue, "main")
    assert described["count"] == sum(described["splits"].values()) == 36
    (warning,) = [one for one in described["warnings"] if "purged" in one]
    assert warning.startswith("4 of its 40 photos were purged since")
    html = page.make(home.rooms.catalogue, home.rooms.store, None).html.decode()
    for name in ("split.all", "dataset.count", "summary.members"):
        assert f'data-q="{name}" data-v="36"' in html
    assert warning in html


def asked(home, **options):
    return api.new_run(home.rooms, "main", "default", TRAIN | options)


def state(home, run):
    row = api.show_run(home.rooms, run)
    return row["state"], row["message"]


def at_the_first_epoch(*steps):
    """Return progress that takes these steps once, when the first epoch is at work."""
    left = list(steps)

    def on_progress(phase, done, total):
        while phase == "epoch 1" and left:
            left.pop(0)()

    return on_progress


def test_a_run_that_was_interrupted_before_a_purge_is_begun_anew(home):
    first, waits, stop = asked(home), asked(home, seed=1), threading.Event()
    with pytest.raises(Stopped):
        api.train(home.rooms, first, on_progress=at_the_first_epoch(stop.set), stop=stop)
    take_out(home, owner="10000003@N00")
    ended, why = state(home, first)
    assert ended == "failed"
    assert "purged" in why
    assert state(home, waits) == ("queued", None)  # it has not begun
    again = asked(home)
    assert again > waits
    for run in (again, waits):
        assert api.train(home.rooms, run, on_progress=quiet)["state"] == "done"


def test_a_run_at_work_is_let_go_on_but_not_taken_up_when_it_is_interrupted(home):
    first, second, stop = asked(home), asked(home, seed=1), threading.Event()
    purge_one = lambda: take_out(home, owner="10000003@N00")  # noqa: E731
    told = api.train(home.rooms, first, on_progress=at_the_first_epoch(purge_one))
    assert told["state"] == "done"
    another = lambda: take_out(home, owner="10000004@N00")  # noqa: E731
    progress = at_the_first_epoch(another, stop.set)
    with pytest.raises(Stopped):
        api.train(home.rooms, second, on_progress=progress, stop=stop)
    assert asked(home, seed=1) == second
    with pytest.raises(BadInput, match=f"Run {second} failed: photos .* were purged"):
        api.train(home.rooms, second, on_progress=quiet)
    assert state(home, second)[0] == "failed"
    assert asked(home, seed=1) > second


def test_a_run_goes_on_after_a_purge_of_photos_that_it_does_not_learn_from(home):
    api.make_dataset(home.rooms, Spec("three", val=0.2, test=0.3))
    run, stop = api.new_run(home.rooms, "three", "default", TRAIN), threading.Event()
    with pytest.raises(Stopped):
        api.train(home.rooms, run, on_progress=at_the_first_epoch(stop.set), stop=stop)
    of_test = "SELECT flickr_id FROM photos JOIN members ON photo_id = id WHERE split = 'test'"
    take_out(home, photo=str(home.sql(of_test)[0][0]))
    assert api.new_run(home.rooms, "three", "default", TRAIN) == run
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


def test_a_file_that_another_photo_comes_to_share_before_the_consent_is_kept(tmp_path):
    world = small_world(2)
    for photo in world.photos.values():
        photo.image = lambda: jpeg(0)
    with house(tmp_path, world) as home:
        api.import_list(home.rooms, home.list_files(tmp_path))
        api.work(home.rooms, "resolve", on_progress=quiet)
        api.work(home.rooms, "download", limit=1, on_progress=quiet)

        def slow_to_agree(doomed):
            assert len(doomed.keys) == 1
            assert api.work(home.rooms, "download", on_progress=quiet).moved == 1
            return True

        asked = {"reason": "test", "agreed": slow_to_agree, "on_progress": quiet}
        taken = api.purge(home.rooms, photo=str(FIRST_ID), **asked)
        assert (len(taken.photos), taken.keys) == (1, ())
        ((key,),) = home.sql("SELECT file_key FROM photos")
        assert home.rooms.store.exists(key)
