"""A gpu worker that dies while it scores."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest
from chaos.fleet import fleet_over
from chaos.outcomes import differences, outcome
from servers import _administer

from popq import api
from popq.flickr.fake.faults import Faults
from popq.stages.dataset import Spec

GPU = ("worker", "--queues", "gpu")
TRAINING = ("--arch", "resnet18", "--weights", "none", "--image-size", 32, "--epochs", 1)


def children(pid):
    """Return the processes that a process started."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


@pytest.fixture(params=["polling", "celery"])
def broker_url(request, size):
    """The broker of the gpu worker; without one it looks for work itself, and starts sooner."""
    if request.param == "polling":
        return {}
    if size("short", "full") == "short":
        pytest.skip("a child that is started anew takes half a minute: see `make chaos`")
    return {"broker_url": request.getfixturevalue("broker")}


@contextlib.contextmanager
def scored_fleet(folder, photos, database_url, **settings):
    """Open a fleet whose photos are stored, and scored by a run once."""
    settings |= {"faults": Faults(), "database_url": database_url, "settle_every_s": 0.01}
    with fleet_over(folder, photos, **settings) as fleet:
        for stage in ("resolve", "download"):
            api.work(fleet.home.rooms, stage, on_progress=lambda *_: None)
        api.make_dataset(fleet.home.rooms, Spec("main", val=0.3))
        fleet.popq("train", "--dataset", "main", *TRAINING)
        fleet.popq("score")
        yield fleet


def test_a_killed_scorer_scores_everything_once_and_the_same(
    tmp_path, postgres, broker_url, size, report
):
    with scored_fleet(tmp_path, size(300, 3000), postgres, **broker_url) as fleet:
        expected = outcome(fleet.home)
        _administer(postgres, "DELETE FROM scores")
        _administer(postgres, "DELETE FROM jobs WHERE stage = 'score'")

        def kill(victim):
            scored = fleet.count("scores")
            fleet.until(lambda: fleet.count("scores") > scored)
            victim()
            fleet.kills += 1

        worker = fleet.start(command=GPU)
        fleet.enqueue("score")
        if broker_url:
            # As the system does when memory is out: the child alone.
            kill(lambda: os.kill(children(worker.pid)[-1], signal.SIGKILL))
        for _ in range(size(1, 5)):
            kill(fleet.workers[-1].kill)
            fleet.start(command=GPU)
        fleet.finish("score")
        assert expected["scores"]
        assert differences(expected, outcome(fleet.home)) == []
        report(fleet)


def test_a_job_that_scores_all_again_knows_after_a_death_what_it_has_done(
    tmp_path, postgres, size, report
):
    with scored_fleet(tmp_path, size(300, 3000), postgres) as fleet:
        expected = outcome(fleet.home)
        fleet.popq("enqueue-score", "--all")
        [(job,)] = fleet.home.sql("SELECT max(id) FROM jobs WHERE stage = 'score'")

        def of_this_job():
            return fleet.home.sql(f"SELECT count(*) FROM scores WHERE job_id = {job}")[0][0]

        fleet.start(command=GPU)
        for _ in range(size(1, 5)):
            before = of_this_job()
            fleet.until(lambda before=before: of_this_job() > before)
            fleet.workers[-1].kill()
            fleet.kills += 1
            fleet.start(command=GPU)
        photos = len(expected["scores"])
        left = photos - of_this_job()
        fleet.finish("score")
        del expected["counts"]  # of two jobs now
        assert differences(expected, outcome(fleet.home)) == []
        assert of_this_job() == photos > 0
        # Each counted once, though the batch was claimed more than once.
        told = fleet.home.sql(f"SELECT sum(moved), max(term) > 1 FROM batches WHERE job_id = {job}")
        assert told == [(photos, True)]
        report(fleet, left_at_the_last_death=left)
