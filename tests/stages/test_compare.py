"""Two runs side by side: only what both were judged on, and what was asked differently."""

from __future__ import annotations

import json

import numpy as np
import pytest
from catalogue.scene import DATASET, fresh_scene

from popq.catalogue import datasets, judgements, runs
from popq.errors import BadInput
from popq.stages.compare import compare
from popq.stages.judge import Said, owner_numbers, record
from popq.stats import metrics

CUTS = [20.0, 40.0]
CONFIG = {"arch": "resnet18", "objective": "classify", "epochs": 2}


@pytest.fixture
def scene(tmp_path):
    with fresh_scene(tmp_path) as scene:
        yield scene


def frozen(scene, photos, name="set", cuts=tuple(CUTS), sides=("train", "val")):
    """Freeze photos whose labels are 0, 1, 2, …; every other one validates."""
    labels = dict(scene.rows("SELECT id, label FROM photos"))
    members = [
        (photo, int(np.digitize(labels[photo], cuts)) + 1, sides[n % len(sides)])
        for n, photo in enumerate(photos)
    ]
    row = {"name": name, "count": len(photos), "tiers": 3, "cuts": list(cuts)}
    row["tier_labels"] = [10.0, 30.0, 50.0]
    with scene.catalogue.begin() as tx:
        return datasets.create(tx, DATASET | row, members)


def judged(scene, dataset, noise, *, certain=True, photos=None, **config):
    """Make a run that is done and said of each validation photo its label, and some noise."""
    query = "SELECT photo_id, label FROM members WHERE dataset_id = :d AND split = 'val'"
    rows = scene.rows(f"{query} ORDER BY photo_id", d=dataset)[:photos]
    scores = np.array([row[1] for row in rows]) + noise * np.random.default_rng(1).normal(
        size=len(rows)
    )
    tiers = np.digitize(scores, CUTS) + 1
    shares = np.full((len(rows), 3), 0.1)
    shares[np.arange(len(rows)), tiers - 1] = 0.8
    with scene.catalogue.begin() as tx:
        run = runs.create(tx, dataset, CONFIG | config, seed=0)
        term = runs.claim(tx, run, "trainer", 60)
        runs.finish(tx, run, term, weights_sha256="beef", best_epoch=1)
        judgements.record(
            tx,
            run,
            [row[0] for row in rows],
            scores.tolist(),
            tiers.tolist(),
            shares.tolist() if certain else None,
        )
    return run


def test_a_network_that_is_sure_and_wrong_is_compared_by_the_loss_that_it_was_judged_by(scene):
    dataset = frozen(scene, scene.photos(60, "stored"))
    query = "SELECT photo_id, label, tier FROM members WHERE dataset_id = :d AND split = 'val'"
    rows = scene.rows(f"{query} ORDER BY photo_id", d=dataset)
    truth, scores = np.array([row[2] for row in rows]), np.array([row[1] for row in rows])
    shares = np.full((len(rows), 3), 1e-9, dtype=np.float32)
    shares[:, 1] = 3e-7
    shares[:, 0] = 1 - shares[:, 1:].sum(axis=1)
    said = Said(scores, np.ones(len(rows), dtype=np.int64), shares)
    run, other = judged(scene, dataset, noise=1.0), judged(scene, dataset, noise=2.0)
    with scene.catalogue.begin() as tx:
        record(tx, run, [row[0] for row in rows], said)
    own = metrics.points(
        metrics.predictions(truth, said.tiers, scores, scores, tiers=3, probabilities=shares)
    )
    told = compare(scene.catalogue, run, other)["metrics"]["cross_entropy"]
    assert told["first"] == pytest.approx(own["cross_entropy"], rel=1e-5)


def test_two_runs_on_one_data_set(scene):
    dataset = frozen(scene, scene.photos(60, "stored", owners=[f"{n}@N00" for n in range(9)]))
    bad = judged(scene, dataset, noise=15.0)
    good = judged(scene, dataset, noise=1.0, epochs=7)
    found = compare(scene.catalogue, bad, good)
    json.dumps(found, allow_nan=False)
    assert found["first"] == {"run": bad, "dataset": "set", "photos": 30}
    assert (found["photos"], found["owners"], found["notes"]) == (30, 9, [])
    assert found["config"] == {"epochs": [2, 7]}
    names = {"accuracy", "quadratic_kappa", "spearman", "pairwise_accuracy", "mae"}
    assert names < set(found["metrics"])
    for name in names:
        one = found["metrics"][name]
        assert one["better"] == "second", name
        assert one["interval"][0] <= one["difference"] <= one["interval"][1]


def test_a_run_without_probabilities_or_unit_is_compared_by_what_both_have(scene):
    dataset = frozen(scene, scene.photos(40, "stored"))
    first = judged(scene, dataset, noise=5.0)
    second = judged(scene, dataset, noise=5.0, certain=False, objective="rank", pairs="any")
    found = compare(scene.catalogue, first, second)
    assert not {"mae", "cross_entropy", "calibration_error"} & set(found["metrics"])
    assert found["config"] == {"objective": ["classify", "rank"], "pairs": [None, "any"]}


def test_data_sets_that_differ_share_photos_and_where_cut_otherwise_no_tiers(scene):
    photos = scene.photos(80, "stored")
    same = [judged(scene, frozen(scene, photos[at : at + 60], str(at)), 5.0) for at in (0, 20)]
    found = compare(scene.catalogue, *same)
    assert found["photos"] == 20
    assert "only the 20 photos that validate in both" in found["notes"][0]
    assert "accuracy" in found["metrics"]
    other = judged(scene, frozen(scene, photos, "other", cuts=(10.0, 20.0)), 5.0)
    found = compare(scene.catalogue, same[0], other)
    assert "cut tiers otherwise" in found["notes"][1]
    assert set(found["metrics"]) == {"spearman", "pairwise_accuracy", "mae"}


def test_photos_that_only_one_was_judged_on_are_left_out_and_told(scene):
    dataset = frozen(scene, scene.photos(40, "stored"))
    first, second = judged(scene, dataset, 5.0), judged(scene, dataset, 5.0, photos=15)
    found = compare(scene.catalogue, first, second)
    assert found["photos"] == 15
    assert "(20 by run 1 and 15 by run 2)" in found["notes"][0]


def test_what_cannot_be_compared_says_why(scene):
    photos = scene.photos(40, "stored")
    run = judged(scene, frozen(scene, photos), 5.0)
    turned = frozen(scene, photos, "turned", sides=("val", "train"))
    with pytest.raises(BadInput, match="no validation photo in common"):
        compare(scene.catalogue, run, judged(scene, turned, 5.0))
    queued = scene.run()
    with pytest.raises(BadInput, match=f"Run {queued} is queued"):
        compare(scene.catalogue, run, queued)
    silent = scene.run(done=True)
    with pytest.raises(BadInput, match=f"popq score --run {silent}"):
        compare(scene.catalogue, silent, run)
    with pytest.raises(BadInput, match="no run 99"):
        compare(scene.catalogue, run, 99)


def test_unknown_owners_are_each_their_own():
    numbers = owner_numbers(["a", None, "b", "a", None]).tolist()
    assert numbers[0] == numbers[3]
    assert len(set(numbers)) == 4
