"""A gpu worker that dies while it scores."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from chaos.fleet import fleet_over
from servers import _administer

from popq import api
from popq.flickr.fake.faults import Faults
from popq.stages.dataset import Spec

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


def test_a_killed_scorer_scores_everything_once_and_the_same(
    tmp_path, postgres, broker_url, size, report
):
    photos = size(300, 3000)
    with fleet_over(
        tmp_path, photos, faults=Faults(), database_url=postgres, **broker_url
    ) as fleet:
        for stage in ("resolve", "download"):
            api.work(fleet.home.rooms, stage, on_progress=lambda *_: None)
        api.make_dataset(fleet.home.rooms, Spec("main", val=0.3))
        fleet.popq("train", "--dataset", "main", *TRAINING)
        fleet.popq("score")
        query = "SELECT photo_id, tier, score, probabilities FROM scores ORDER BY photo_id"
        expected = [str(row) for row in fleet.home.sql(query)]
        _administer(postgres, "DELETE FROM scores")
        _administer(postgres, "DELETE FROM jobs WHERE stage = 'score'")

        def kill(victim):
            scored = fleet.count("scores")
            fleet.until(lambda: fleet.count("scores") > scored)
            victim()
            fleet.kills += 1

        gpu = ("worker", "--queues", "gpu")
        worker = fleet.start(command=gpu)
        fleet.enqueue("score")
        if broker_url:
            # As the system does when memory is out: the child alone.
            kill(lambda: os.kill(children(worker.pid)[-1], signal.SIGKILL))
        for _ in range(size(1, 5)):
            kill(fleet.workers[-1].kill)
            fleet.start(command=gpu)
        fleet.finish("score")
        assert [str(row) for row in fleet.home.sql(query)] == expected
        [(moved,)] = fleet.home.sql(
            "SELECT sum(moved) FROM batches JOIN jobs ON jobs.id = job_id WHERE stage = 'score'"
        )
        assert moved == len(expected)
        report(fleet)
