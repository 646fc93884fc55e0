"""Training runs: leased like a batch, fenced by a term, failed when they keep killing workers."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from catalogue.scene import LEASE_S, at_once

from popq.catalogue import datasets, runs
from popq.errors import BadInput, LeaseLost


@dataclass
class Epoch:
    epoch: int
    train_loss: float = 1.0
    train_accuracy: float = 0.5
    val_loss: float = 1.0
    val_accuracy: float = 0.5
    lr: float = 0.1
    seconds: float = 2.0
    images_per_second: float = 100.0


class Trainer:
    """A worker's calls on one run, each in a transaction of its own."""

    def __init__(self, scene, run):
        self.scene, self.run = scene, run

    def __getattr__(self, name):
        def call(*args, **values):
            with self.scene.catalogue.begin() as tx:
                return getattr(runs, name)(tx, self.run, *args, **values)

        return call

    def claim(self, worker="gpu1"):
        with self.scene.catalogue.begin() as tx:
            return runs.claim(tx, self.run, worker, LEASE_S)

    def expire(self):
        self.scene.do("UPDATE runs SET leased_until = 0 WHERE id = :id", id=self.run)

    def claimable(self):
        with self.scene.catalogue.read() as tx:
            return self.run in runs.claimable(tx)


@pytest.fixture
def trainer(scene):
    return Trainer(scene, scene.run())


def test_a_run_is_claimed_by_one_worker(trainer):
    assert trainer.claimable()
    assert sorted(at_once(*[trainer.claim] * 4), key=str) == [1, None, None, None]
    assert not trainer.claimable()
    assert trainer.get().state == "running"


def test_a_run_that_was_finished_is_done(trainer):
    term = trainer.claim()
    trainer.note(term, folder="run-1")
    trainer.finish(term, best_epoch=2, weights_sha256="beef", metrics={"accuracy": 0.5})
    row = trainer.get()
    assert (row.state, row.worker, row.folder, row.metrics) == (
        "done",
        None,
        "run-1",
        {"accuracy": 0.5},
    )
    assert row.finished_at is not None
    assert row.dataset == "d1"
    assert trainer.claim() is None


def test_an_expired_run_goes_on_elsewhere_and_the_old_worker_is_fenced(trainer):
    old = trainer.claim("frozen")
    trainer.expire()
    assert trainer.claimable()
    new = trainer.claim("eager")
    assert new == old + 1
    before = trainer.scene.everything()
    for late in (
        lambda: trainer.renew(old, LEASE_S),
        lambda: trainer.note(old, folder="x"),
        lambda: trainer.add_epoch(old, Epoch(1), LEASE_S),
        lambda: trainer.finish(old, weights_sha256="beef"),
        lambda: trainer.fail(old, "no"),
        lambda: trainer.stop(old),
        lambda: trainer.hand_back(old),
    ):
        with pytest.raises(LeaseLost, match="newer term"):
            late()
    assert trainer.scene.everything() == before


def test_a_renewed_run_is_kept(trainer):
    term = trainer.claim()
    trainer.expire()
    trainer.renew(term, LEASE_S)
    assert trainer.claim("other") is None


def test_a_run_that_keeps_killing_its_worker_is_stopped_and_says_so(trainer):
    for expiries in range(runs.MAX_EXPIRIES):
        assert trainer.claim() == expiries + 1
        trainer.expire()
    assert trainer.claim() is None
    assert trainer.get().state == "stopped"
    assert "died 5 times" in trainer.get().message
    assert not trainer.claimable()


def test_an_epoch_forgives_the_deaths_before_it(trainer):
    for epoch in range(1, runs.MAX_EXPIRIES + 3):
        term = trainer.claim()
        trainer.add_epoch(term, Epoch(epoch), LEASE_S)
        trainer.expire()
    assert trainer.claim() is not None


def test_epochs_that_a_resume_reports_again_forgive_nothing(trainer):
    """A run that kills each worker in its second epoch comes to an end, too."""
    for _ in range(runs.MAX_EXPIRIES):
        term = trainer.claim()
        trainer.add_epoch(term, Epoch(1), LEASE_S)
        trainer.expire()
    assert trainer.claim() is None
    assert "died 5 times" in trainer.get().message


def test_an_epoch_trained_again_replaces_the_first(trainer):
    term = trainer.claim()
    for epoch in (Epoch(1), Epoch(2, val_loss=0.9), Epoch(2, val_loss=0.8)):
        trainer.add_epoch(term, epoch, LEASE_S)
    assert [(row["epoch"], row["val_loss"]) for row in trainer.epochs()] == [(1, 1.0), (2, 0.8)]


def test_a_run_handed_back_waits_for_the_next_worker(trainer):
    trainer.hand_back(trainer.claim())
    assert trainer.get().state == "queued"
    assert trainer.claim("other") == 2


def test_a_run_that_was_stopped_can_be_asked_for_again(trainer):
    term = trainer.claim()
    trainer.stop(term)
    assert trainer.claim() is None
    trainer.requeue()
    row = trainer.get()
    assert (row.message, row.finished_at, row.expiries) == (None, None, 0)
    assert trainer.claim() == term + 1


def test_the_same_configuration_is_found_unless_it_failed(trainer):
    scene = trainer.scene
    with scene.catalogue.read() as tx:
        dataset = datasets.get(tx, "d1").id
        assert runs.find_same(tx, dataset, {"epochs": 2}).id == trainer.run
        assert runs.find_same(tx, dataset, {"epochs": 3}) is None
    trainer.fail(trainer.claim(), "no")
    with scene.catalogue.read() as tx:
        assert runs.find_same(tx, dataset, {"epochs": 2}) is None


def test_runs_are_listed_newest_first_and_an_unknown_one_is_bad_input(trainer):
    other = trainer.scene.run()
    with trainer.scene.catalogue.read() as tx:
        assert [row.id for row in runs.list_all(tx)] == [other, trainer.run]
        with pytest.raises(BadInput, match="no run 99"):
            runs.get(tx, 99)


def test_a_runs_doorbell_rings_once_in_a_while_and_only_for_work(trainer):
    assert trainer.ring_due(60.0)
    assert not trainer.ring_due(60.0)
    trainer.scene.do("UPDATE runs SET rung = 0")
    trainer.claim()
    assert not trainer.ring_due(60.0)


def test_a_waiting_run_is_stopped_at_once_and_can_be_asked_for_again(trainer):
    assert trainer.ask_to_stop() == "stopped"
    row = trainer.get()
    assert (row.state, row.worker, row.message) == ("stopped", None, runs.GOES_ON)
    assert trainer.claim() is None
    with pytest.raises(BadInput, match="is stopped already"):
        trainer.ask_to_stop()
    trainer.requeue()
    assert trainer.claim() is not None


def test_a_run_at_work_is_asked_and_its_trainer_is_told(trainer):
    term = trainer.claim()
    assert not trainer.tell(term, {"phase": "epoch 1", "done": 5, "total": 10})
    assert trainer.ask_to_stop() == "running"
    assert trainer.tell(term, {"phase": "epoch 1", "done": 6, "total": 10})
    trainer.stop(term)
    assert trainer.get().progress["done"] == 6
    trainer.requeue()
    again = trainer.claim()
    assert not trainer.tell(again, {"phase": "epoch 1", "done": 7, "total": 10})
    with pytest.raises(LeaseLost):
        trainer.tell(term, {})


def test_a_run_whose_worker_is_gone_is_stopped_at_once(trainer):
    trainer.claim()
    trainer.expire()
    assert trainer.ask_to_stop() == "stopped"


def test_a_run_that_was_asked_to_stop_is_not_taken_up_when_its_worker_died(trainer):
    trainer.claim()
    trainer.ask_to_stop()
    trainer.expire()
    assert trainer.claim("gpu2") is None
    assert trainer.get().state == "stopped"


def test_a_run_that_is_over_cannot_be_stopped(trainer):
    term = trainer.claim()
    trainer.finish(term, best_epoch=1, weights_sha256="beef", metrics={})
    with pytest.raises(BadInput, match="is done already"):
        trainer.ask_to_stop()


def test_a_note_outlives_the_run_and_an_epoch_is_new_once(trainer):
    term = trainer.claim()
    trainer.note(term, message="memory ran out")
    assert trainer.add_epoch(term, Epoch(1), LEASE_S)
    assert not trainer.add_epoch(term, Epoch(1), LEASE_S)
    trainer.finish(term, best_epoch=1, weights_sha256="beef", metrics={})
    assert trainer.get().message == "memory ran out"


def test_a_run_that_is_asked_for_again_keeps_its_tracker_unless_another_is_named(trainer):
    trainer.stop(trainer.claim())
    trainer.requeue(tracker="wandb")
    assert trainer.get().tracker == "wandb"
    trainer.requeue(tracker="mlflow")  # while it waits
    assert trainer.get().tracker == "mlflow"
    trainer.stop(trainer.claim())
    trainer.requeue()
    assert trainer.get().tracker == "mlflow"


@pytest.mark.parametrize("worker", ["alive", "dead"])
def test_a_run_that_is_asked_for_again_before_it_has_stopped_goes_on(trainer, worker):
    """Of a person's two orders the later counts."""
    term = trainer.claim()
    assert trainer.ask_to_stop() == "running"
    trainer.requeue()
    assert trainer.get().state == "running"
    if worker == "alive":
        assert not trainer.tell(term, {})
    else:
        trainer.expire()
        assert trainer.claim("other") == term + 1
