"""Training and scoring share one stored house: both load torch, and a run takes seconds."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from houses import quiet, stored_house
from PIL import Image

from popq import api
from popq.bootstrap import Rooms
from popq.catalogue import enqueuing
from popq.catalogue.batches import WorkPhoto
from popq.errors import BadInput, Misconfigured, PopqError, ServiceDown
from popq.images import pack
from popq.stages import train
from popq.stages.dataset import Spec
from popq.stats.moments import Moments, from_histogram, mean_std

SMALL = {"arch": "resnet18", "weights": "none", "image_size": 32, "epochs": 2}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    with stored_house(tmp_path_factory.mktemp("house")) as home:
        yield home


@contextlib.contextmanager
def without(home, name):
    """Take a folder of the house's data away for a while."""
    folder = home.rooms.settings.data_dir / name
    away = folder.rename(folder.with_name(f"{name}-away"))
    try:
        yield
    finally:
        away.rename(folder)


@pytest.fixture(scope="module")
def trained(stored):
    run = api.new_run(stored.rooms, "main", "default", SMALL)
    return api.train(stored.rooms, run, on_progress=quiet)


def test_a_run_records_its_epochs_its_weights_and_its_metrics(stored, trained):
    assert trained["state"] == "done"
    assert [epoch["epoch"] for epoch in trained["epochs"]] == [1, 2]
    assert len(trained["weights_sha256"]) == 64
    judged = trained["metrics"]
    best = trained["epochs"][trained["best_epoch"] - 1]
    assert judged["accuracy"] == pytest.approx(best["val_accuracy"], abs=1e-9)
    validated = stored.sql("SELECT count(*) FROM members WHERE split = 'val'")
    assert judged["n"] == np.sum(judged["confusion"]) == validated[0][0]
    names = {"majority", "nearest_id", "nearest_id_3", "nearest_id_25", "mean_colour"}
    assert set(judged["without_pixels"]) == names  # no owner's mean: split by owner
    assert judged["shared_owners"] == {"owners": 0, "photos": 0}
    assert judged["without_owner"] == {"judged": 0, "training": 0}
    low, high = judged["intervals"]["accuracy"]
    assert low <= judged["accuracy"] <= high
    said = stored.sql(
        "SELECT m.tier, j.tier, j.score, m.label FROM judgements j JOIN members m"
        f" ON m.photo_id = j.photo_id WHERE j.run_id = {trained['id']} AND m.split = 'val'"
    )
    assert len(said) == judged["n"]
    assert np.mean([row[0] == row[1] for row in said]) == judged["accuracy"]
    assert np.mean([abs(row[2] - row[3]) for row in said]) == pytest.approx(judged["mae"])
    assert 0 <= judged["p_chance"] <= 1


def test_the_packs_training_split_has_the_mean_and_std_that_sql_says(stored, trained):
    (row,) = stored.sql("SELECT fingerprint, count FROM datasets WHERE name = 'main'")
    folder = stored.rooms.settings.data_dir / "packs" / row[0][:16]
    packed = pack.open_pack(folder, row[0], row[1])
    splits = stored.sql("SELECT split FROM members WHERE dataset_id = 1 ORDER BY photo_id")
    training = np.flatnonzero([split == "train" for (split,) in splits])
    images = (Image.fromarray(packed.pixels[row]) for row in training)
    found = mean_std(sum((from_histogram(image.histogram()) for image in images), Moments()))
    described = api.make_dataset(stored.rooms, Spec("main", val=0.3))
    assert [list(part) for part in found] == [described["mean"], described["std"]]


def test_every_stored_photo_gets_a_score_and_a_second_time_does_nothing(stored, trained):
    done = api.work(stored.rooms, "score", on_progress=quiet)
    assert (done.moved, done.left) == (48, 0)
    rows = stored.sql(
        "SELECT score, predicted_tier, probabilities, tier, url FROM scored_photos"
        f" WHERE run_id = {trained['id']}"
    )
    assert len(rows) == 48
    labels = stored.sql("SELECT tier_labels FROM datasets")
    for score, tier, probabilities, _, url in rows:
        shares = np.array(eval(probabilities) if isinstance(probabilities, str) else probabilities)
        assert shares.sum() == pytest.approx(1, abs=1e-4)
        assert tier == shares.argmax() + 1
        assert score == pytest.approx(shares @ np.array(eval(labels[0][0])), abs=1e-3)
        assert url.startswith("https://www.flickr.com/photos/")
    again = api.work(stored.rooms, "score", on_progress=quiet)
    assert again is None


def test_a_damaged_pack_is_built_anew_before_a_run_learns_from_it(stored, trained):
    ((fingerprint,),) = stored.sql("SELECT fingerprint FROM datasets WHERE name = 'main'")
    path = stored.rooms.settings.data_dir / "packs" / fingerprint[:16] / "pixels.u8"
    whole = path.read_bytes()
    with path.open("r+b") as file:
        file.seek(len(whole) // 2)
        file.write(bytes(400_000))
    run = api.new_run(stored.rooms, "main", "default", {**SMALL, "seed": 47, "epochs": 1})
    api.train(stored.rooms, run, on_progress=quiet)
    assert path.read_bytes() == whole


def test_a_score_says_which_file_it_is_of(stored, trained):
    row = "SELECT id, flickr_id, page_url, owner, server, secret, image_url, file_key, sha256"
    (photo,) = stored.sql(f"{row} FROM photos WHERE id = 9")
    stage = stored.rooms.drain("score").stage("score", trained["id"])
    (said,) = stage.process([WorkPhoto(*photo, {})], None)
    assert (said.photo, said.file_key) == (9, photo[7])


def test_a_lost_file_is_found_by_scoring_and_fetched_again(stored, trained):
    run = api.new_run(stored.rooms, "main", "default", {**SMALL, "seed": 5, "epochs": 1})
    api.train(stored.rooms, run, on_progress=quiet)
    ((photo, key),) = stored.sql("SELECT id, file_key FROM photos WHERE id = 7")
    stored.rooms.store.delete(key)
    with without(stored, "packs"):  # a packed photo needs no file
        api.work(stored.rooms, "score", run_id=run, on_progress=quiet)
    assert stored.sql(f"SELECT state, file_key FROM photos WHERE id = {photo}") == [
        ("resolved", None)
    ]
    assert api.work(stored.rooms, "download", on_progress=quiet).moved == 1
    assert api.work(stored.rooms, "score", run_id=run, on_progress=quiet).moved == 1
    assert stored.sql(f"SELECT count(*) FROM scores WHERE run_id = {run}") == [(48,)]


def test_a_store_that_is_not_mounted_costs_no_photo_its_file(stored, trained):
    kept = "SELECT state, count(file_key) FROM photos GROUP BY state"
    before = stored.sql(kept)
    again = {"run_id": trained["id"], "again": True, "on_progress": quiet}
    with without(stored, "packs"):
        with without(stored, "store"), pytest.raises(Misconfigured, match="is it mounted"):
            api.work(stored.rooms, "score", **again)
        assert stored.sql(kept) == before
        done = api.work(stored.rooms, "score", run_id=trained["id"], on_progress=quiet)
    assert (done.state, done.moved, done.left) == ("done", before[0][1], 0)


def test_a_file_that_cannot_be_read_now_is_tried_again_and_not_given_up(stored, trained):
    ((key,),) = stored.sql("SELECT file_key FROM photos WHERE id = 11")
    path = stored.rooms.store.path(key)
    path.rename(path.with_suffix(".kept"))
    path.symlink_to("/proc/self/mem")  # opens, and fails when it is read
    again = {"run_id": trained["id"], "again": True, "on_progress": quiet}
    try:
        with without(stored, "packs"):
            done = api.work(stored.rooms, "score", **again)
    finally:
        path.with_suffix(".kept").replace(path)
    assert (done.exited, done.left) == (0, 1)
    assert stored.sql("SELECT state, file_key FROM photos WHERE id = 11") == [("stored", key)]


def test_packed_photos_are_scored_without_a_file_and_others_from_theirs(stored, trained):
    api.work(stored.rooms, "score", run_id=trained["id"], on_progress=quiet)
    query = f"SELECT photo_id, score FROM scores WHERE run_id = {trained['id']}"
    packed = dict(stored.sql(query))
    again = {"run_id": trained["id"], "again": True, "on_progress": quiet}
    with without(stored, "store"):
        done = api.work(stored.rooms, "score", **again)
    assert (done.moved, done.left) == (len(packed), 0)
    assert dict(stored.sql(query)) == pytest.approx(packed, abs=1e-4)
    with without(stored, "packs"):
        api.work(stored.rooms, "score", **again)
    assert dict(stored.sql(query)) == pytest.approx(packed, abs=1e-4)
    assert api.work(stored.rooms, "score", run_id=trained["id"], on_progress=quiet) is None


def test_two_workers_share_a_job_that_scores_all_again_and_do_nothing_twice(stored, trained):
    run = trained["id"]
    api.work(stored.rooms, "score", run_id=run, on_progress=quiet)
    with stored.rooms.catalogue.begin() as tx:
        only = enqueuing.again(tx, run, {})
        made = enqueuing.enqueue(tx, "score", size=4, run_id=run, only=only)
    both = threading.Barrier(2)

    def work():
        with Rooms(stored.rooms.settings) as rooms:
            drain = rooms.drain("score")
            drain.stage("score", run)
            both.wait()
            done = int(drain.step(made.job))
            both.wait()  # each has had a batch
            while drain.step(made.job):
                done += 1
            return done

    with ThreadPoolExecutor(2) as pool:
        done = [worker.result() for worker in [pool.submit(work) for _ in range(2)]]
    assert min(done) >= 1
    assert sum(done) == made.batches
    tells = "SELECT max(term), sum(moved), max(state) FROM batches"
    assert stored.sql(f"{tells} WHERE job_id = {made.job}") == [(1, made.photos, "done")]
    by = stored.sql(f"SELECT job_id, count(*) FROM scores WHERE run_id = {run} GROUP BY job_id")
    assert by == [(made.job, made.photos)]


def test_a_file_that_rotted_in_the_store_is_fetched_again(stored, trained):
    run = api.new_run(stored.rooms, "main", "default", {**SMALL, "seed": 6, "epochs": 1})
    api.train(stored.rooms, run, on_progress=quiet)
    ((key,),) = stored.sql("SELECT file_key FROM photos WHERE id = 9")
    path = stored.rooms.settings.data_dir / "store" / key
    path.write_bytes(path.read_bytes()[:500] + bytes(path.stat().st_size - 500))
    with without(stored, "packs"):
        api.work(stored.rooms, "score", run_id=run, on_progress=quiet)
    assert stored.sql("SELECT state, reason FROM photos WHERE id = 9") == [("resolved", None)]
    assert api.work(stored.rooms, "download", on_progress=quiet).moved == 1
    assert api.work(stored.rooms, "score", run_id=run, on_progress=quiet).moved == 1


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (MemoryError("no room for tensors"), "failed"),  # nobody foresaw it
        (ServiceDown("the store does not answer"), "queued"),  # it waits for the store
    ],
)
def test_a_run_that_is_broken_off_says_why(stored, error, state):
    run = api.new_run(stored.rooms, "main", "default", {**SMALL, "seed": 29})

    def breaks(phase, done, total):
        raise error

    where = stored.rooms.trainer_place()
    stop = threading.Event()
    with pytest.raises(type(error)):
        train.train(stored.rooms.catalogue, run, where, stop=stop, on_progress=breaks)
    found = api.show_run(stored.rooms, run)
    assert (found["state"], found["message"]) == (state, str(error))


def test_a_run_that_is_stopped_is_handed_back_and_goes_on(stored):
    run = api.new_run(stored.rooms, "main", "default", {**SMALL, "seed": 7})
    stop = threading.Event()

    def stop_in_epoch_two(phase, done, total):
        if phase == "epoch 2":
            stop.set()

    where = stored.rooms.trainer_place()
    with pytest.raises(train.Stopped):
        train.train(stored.rooms.catalogue, run, where, stop=stop, on_progress=stop_in_epoch_two)
    assert stored.sql(f"SELECT state, worker FROM runs WHERE id = {run}") == [("queued", None)]
    resumed = api.train(stored.rooms, run, on_progress=quiet)
    undisturbed_id = api.new_run(stored.rooms, "main", "default", {**SMALL, "seed": 7})
    assert undisturbed_id != run  # the first is done, so this one is new
    undisturbed = api.train(stored.rooms, undisturbed_id, on_progress=quiet)
    assert resumed["weights_sha256"] == undisturbed["weights_sha256"]
    assert resumed["metrics"] == undisturbed["metrics"]


def test_a_run_that_another_worker_holds_is_left_alone(stored):
    run = api.new_run(stored.rooms, "main", "default", {**SMALL, "seed": 11})
    with stored.rooms.catalogue.begin() as tx:
        tx.exec_driver_sql(
            "UPDATE runs SET state = 'running', worker = 'other', term = 1,"
            f" leased_until = 99999999999 WHERE id = {run}"
        )
    where = stored.rooms.trainer_place()
    stop = threading.Event()
    assert not train.train(stored.rooms.catalogue, run, where, stop=stop, on_progress=quiet)


def test_a_run_that_lacks_weights_says_why_and_can_be_asked_for_again(stored, tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"broken")
    wish = {**SMALL, "seed": 13, "weights": str(broken)}
    run = api.new_run(stored.rooms, "main", "default", wish)
    with pytest.raises(PopqError, match="broken"):
        api.train(stored.rooms, run, on_progress=quiet)
    ((state, message),) = stored.sql(f"SELECT state, message FROM runs WHERE id = {run}")
    assert state == "stopped"
    assert "broken" in message
    assert api.new_run(stored.rooms, "main", "default", wish) == run


def test_an_unfinished_run_of_the_same_wish_is_taken_up(stored):
    wish = {**SMALL, "seed": 17}
    assert api.new_run(stored.rooms, "main", "default", wish) == api.new_run(
        stored.rooms, "main", "default", wish
    )


def test_scoring_refuses_a_run_without_weights_or_with_others(stored, trained):
    queued = api.new_run(stored.rooms, "main", "default", {**SMALL, "seed": 19})
    with pytest.raises(BadInput, match="has no weights"):
        api.work(stored.rooms, "score", run_id=queued, on_progress=quiet)
    with pytest.raises(BadInput, match="no run 999"):
        api.work(stored.rooms, "score", run_id=999, on_progress=quiet)
    other = api.new_run(stored.rooms, "main", "default", {**SMALL, "seed": 23, "epochs": 1})
    api.train(stored.rooms, other, on_progress=quiet)
    with stored.rooms.catalogue.begin() as tx:
        tx.exec_driver_sql(f"UPDATE runs SET weights_sha256 = 'other' WHERE id = {other}")
    with pytest.raises(BadInput, match="sha256 differs"):
        api.work(stored.rooms, "score", run_id=other, on_progress=quiet)


def test_the_seeds_preset_is_what_the_report_says(stored):
    run = api.new_run(stored.rooms, "main", "seed", {})
    config = api.show_run(stored.rooms, run)["config"]
    asked = {name: config[name] for name in ("arch", "batch_size", "lr", "momentum", "image_size")}
    assert asked == {
        "arch": "resnet50",
        "batch_size": 16,
        "lr": 0.01,
        "momentum": 0.5,
        "image_size": 224,
    }


def trained_with(stored, run, on_progress, **where):
    place = replace(stored.rooms.trainer_place(), **where)
    stop = threading.Event()
    return train.train(stored.rooms.catalogue, run, place, stop=stop, on_progress=on_progress)


def test_a_run_that_is_stopped_by_name_stops_within_its_epoch_and_goes_on(stored):
    run = api.new_run(stored.rooms, "main", "default", {**SMALL, "seed": 31})

    def stop_by_name(phase, done, total):
        if phase == "epoch 1" and api.show_run(stored.rooms, run)["state"] == "running":
            assert api.stop_run(stored.rooms, run) == "running"
            threading.Event().wait(train.TELL_S)

    with pytest.raises(train.StoppedByName):
        trained_with(stored, run, stop_by_name)
    found = api.show_run(stored.rooms, run)
    assert (found["state"], found["epochs"]) == ("stopped", [])
    assert api.new_run(stored.rooms, "main", "default", {**SMALL, "seed": 31}) == run
    seen = []
    api.train(stored.rooms, run, on_progress=lambda *told: seen.append(told))
    assert seen[0][:2] > ("epoch 1", seen[0][2] // 4)  # not from the start


def test_a_person_who_stops_a_run_keeps_it_from_other_workers(stored):
    run = api.new_run(stored.rooms, "main", "default", {**SMALL, "seed": 37})
    stop = threading.Event()
    stop.set()
    with pytest.raises(train.Stopped):
        api.train(stored.rooms, run, on_progress=quiet, stop=stop)
    assert api.show_run(stored.rooms, run)["state"] == "stopped"


def test_what_a_person_can_mend_stops_a_run_that_then_goes_on(stored):
    wish = {**SMALL, "seed": 41, "epochs": 1}
    run = api.new_run(stored.rooms, "main", "default", wish)
    with pytest.raises(Misconfigured, match=r"cuda:63.*--device cpu"):
        trained_with(stored, run, quiet, device="cuda:63")
    in_the_way = stored.rooms.settings.data_dir / "runs" / f"run-{run}" / "best.safetensors"
    in_the_way.mkdir(parents=True)
    assert api.new_run(stored.rooms, "main", "default", wish) == run
    with pytest.raises(Misconfigured, match="cannot be written"):
        trained_with(stored, run, quiet)
    found = api.show_run(stored.rooms, run)
    assert found["state"] == "stopped"
    assert "cannot be written" in found["message"]
    in_the_way.rmdir()
    assert api.new_run(stored.rooms, "main", "default", wish) == run
    assert api.train(stored.rooms, run, on_progress=quiet)["state"] == "done"


def test_a_photo_whose_file_is_gone_is_named_before_training(stored):
    api.make_dataset(stored.rooms, Spec("short", val=0.2, seed=9))
    ((key,),) = stored.sql("SELECT file_key FROM photos WHERE id = 5")
    path = stored.rooms.settings.data_dir / "store" / key
    whole = path.read_bytes()
    path.unlink()
    try:
        run = api.new_run(stored.rooms, "short", "default", SMALL)
        with pytest.raises(PopqError, match=rf"{key}.*put its file back"):
            api.train(stored.rooms, run, on_progress=quiet)
    finally:
        path.write_bytes(whole)
    assert api.show_run(stored.rooms, run)["state"] == "stopped"
    assert api.new_run(stored.rooms, "short", "default", SMALL) == run


def test_a_run_says_which_code_and_data_made_it(stored, trained):
    (fingerprint,) = stored.sql("SELECT fingerprint FROM datasets WHERE name = 'main'")[0]
    versions = trained["versions"]
    assert versions["data"] == fingerprint
    assert {"popq", "torch", "torchvision", "python", "hardware", "precision"} <= set(versions)


def test_a_tracker_that_is_unknown_is_refused_before_there_is_a_run(stored):
    before = stored.sql("SELECT count(*) FROM runs")
    with pytest.raises(BadInput, match="tensorboard"):
        api.new_run(stored.rooms, "main", "default", SMALL, "notebook")
    assert stored.sql("SELECT count(*) FROM runs") == before


def test_a_tracker_hears_of_each_epoch_once_though_the_run_was_broken_off(stored):
    wish = {**SMALL, "seed": 43}
    run = api.new_run(stored.rooms, "main", "default", wish, "tensorboard")

    def die(phase, done, total):
        if phase == "epoch 2":
            raise MemoryError("as a kill would")

    with pytest.raises(MemoryError):
        trained_with(stored, run, die)
    with stored.rooms.catalogue.begin() as tx:
        tx.exec_driver_sql(f"UPDATE runs SET state = 'queued' WHERE id = {run}")
    assert len(api.train(stored.rooms, run, on_progress=quiet)["epochs"]) == 2
    folder = stored.rooms.settings.data_dir / "runs" / f"run-{run}" / "popq"
    told = b"".join(path.read_bytes() for path in folder.glob("events.out.tfevents.*"))
    assert told.count(b"val_accuracy") == 2
