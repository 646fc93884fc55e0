"""Every objective from the command's options to rows: runs, pairs, scores with tiers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from houses import quiet, stored_house

from popq import api
from popq.errors import BadInput
from popq.stages.dataset import Spec

SMALL = {"arch": "resnet18", "weights": "none", "image_size": 32, "epochs": 2}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    with stored_house(tmp_path_factory.mktemp("house")) as home:
        yield home


def trained(stored, **options):
    run = api.new_run(stored.rooms, "main", "default", {**SMALL, **options})
    return api.train(stored.rooms, run, on_progress=quiet)


def scored(stored, run):
    """Score all photos by the run; return their scores, tiers and probabilities."""
    assert api.work(stored.rooms, "score", run_id=run, on_progress=quiet).moved == 48
    rows = stored.sql(
        f"SELECT score, tier, probabilities FROM scores WHERE run_id = {run} ORDER BY photo_id"
    )
    return [np.array(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("pairs", ["owner", "any"])
def test_a_ranking_run_is_judged_and_scores_without_unit_or_probabilities(stored, pairs):
    run = trained(stored, objective="rank", pairs=pairs)
    judged = run["metrics"]
    assert "mae" not in judged
    assert "cross_entropy" not in judged
    assert -1 <= judged["spearman"] <= 1
    scores, tiers, probabilities = scored(stored, run["id"])
    assert (probabilities == None).all()  # noqa: E711 - SQL's null, photo by photo
    # One order: whoever has the higher score has no lower tier.
    order = np.argsort(scores)
    assert (np.diff(tiers[order]) >= 0).all()
    # The training photos are in each tier as often as their labels are.
    rows = stored.sql("SELECT photo_id, tier FROM members WHERE split = 'train' ORDER BY photo_id")
    training = np.array([photo for photo, _ in rows])
    wanted = np.bincount([tier for _, tier in rows])
    assert np.bincount(tiers[training - 1]).tolist() == wanted.tolist()


def test_a_regression_scores_in_the_labels_unit_and_by_the_data_sets_cuts(stored):
    run = trained(stored, objective="regress")
    assert run["metrics"]["mae"] > 0
    assert "cross_entropy" not in run["metrics"]
    best = run["epochs"][run["best_epoch"] - 1]
    assert best["val_loss"] == min(epoch["val_loss"] for epoch in run["epochs"])
    assert run["metrics"]["accuracy"] == pytest.approx(best["val_accuracy"])
    scores, tiers, probabilities = scored(stored, run["id"])
    assert (probabilities == None).all()  # noqa: E711 - SQL's null, photo by photo
    ((cuts,),) = stored.sql("SELECT cuts FROM datasets")
    assert tiers.tolist() == (np.searchsorted(json.loads(cuts), scores, side="right") + 1).tolist()


@pytest.mark.parametrize("asked", ["classify", "regress", "rank"])
def test_labels_all_equal_end_any_run_before_anything_is_built(stored, asked):
    # Today's popq makes no such data set; an older one did.
    name = f"equal for {asked}"
    api.make_dataset(stored.rooms, Spec(name, val=0.3, seed=2))
    with stored.rooms.catalogue.begin() as tx:
        tx.exec_driver_sql(
            "UPDATE members SET label = 0.1"
            f" WHERE dataset_id = (SELECT id FROM datasets WHERE name = '{name}')"
        )
    options = {"objective": asked} | ({"pairs": "any"} if asked == "rank" else {})
    run = api.new_run(stored.rooms, name, "default", {**SMALL, **options})
    packs = stored.rooms.settings.data_dir / "packs"
    before = set(packs.iterdir()) if packs.exists() else set()
    with pytest.raises(BadInput, match=r"training photos have one label, 0\.1") as told:
        api.train(stored.rooms, run, on_progress=quiet)
    assert "pairs" not in str(told.value)
    assert "regress" not in str(told.value)
    assert api.show_run(stored.rooms, run)["state"] == "stopped"
    assert (set(packs.iterdir()) if packs.exists() else set()) == before


def test_too_few_pairs_end_the_run_before_anything_is_built(stored):
    # Every owner's photos lie years apart, so that none is a pair.
    with stored.rooms.catalogue.begin() as tx:
        tx.exec_driver_sql(
            "UPDATE photos SET posted_at = datetime('2000-01-01', (id * 400) || ' days')"
        )
    api.make_dataset(stored.rooms, Spec("years", val=0.3, seed=1))
    options = {**SMALL, "objective": "rank"}
    run = api.new_run(stored.rooms, "years", "default", options)
    packs = stored.rooms.settings.data_dir / "packs"
    before = set(packs.iterdir()) if packs.exists() else set()
    with pytest.raises(BadInput, match=r"0 pairs to train on .*give --pairs any"):
        api.train(stored.rooms, run, on_progress=quiet)
    found = api.show_run(stored.rooms, run)
    assert found["state"] == "stopped"
    assert "--pairs any" in found["message"]
    assert (set(packs.iterdir()) if packs.exists() else set()) == before
