"""A `popq run` that is killed again and again ends as an undisturbed one does."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from houses import house, small_world

from popq.flickr.fake.world import Fate

FATES = (Fate.REMOVED, Fate.VIDEO, Fate.CORRUPT, Fate.IMAGE_GONE)
OPTIONS = ("--arch", "resnet18", "--weights", "none", "--image-size", "32", "--epochs", "3")
KILLS = 4


class Runner:
    """Runs `popq run` over one house, to the end or to its death."""

    def __init__(self, home, folder):
        source = home.list_files(folder)
        files = ("--links", str(source.links), "--labels", str(source.labels))
        self.command = [sys.executable, "-m", "popq", "run", *files, "--val", "0.3", *OPTIONS]
        kept = {k: v for k, v in os.environ.items() if not k.startswith("POPQ_")}
        self.environment = kept | home.settings()
        self.folder = folder

    def start(self):
        return subprocess.Popen(
            self.command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )


def outcome(home):
    """Return everything that must not depend on how often the run was killed."""
    return {
        "photos": home.sql(
            "SELECT id, flickr_id, state, reason, file_key, sha256 FROM photos ORDER BY id"
        ),
        "moments": home.sql("SELECT * FROM moments ORDER BY photo_id"),
        "members": home.sql("SELECT * FROM members ORDER BY photo_id"),
        "datasets": home.sql("SELECT name, cuts, mean, std, fingerprint FROM datasets"),
        "epochs": home.sql(
            "SELECT epoch, train_loss, train_accuracy, val_loss, val_accuracy FROM epochs"
            " ORDER BY epoch"
        ),
        "weights": home.sql("SELECT weights_sha256 FROM runs"),
        "scores": home.sql("SELECT photo_id, tier, score FROM scores ORDER BY photo_id"),
        "jobs": home.sql("SELECT stage, state FROM jobs ORDER BY id"),
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    with house(folder, small_world(60, owners=15, fates=FATES)) as home:
        with Runner(home, folder).start() as process:
            _, err = process.communicate(timeout=900)
        assert process.returncode == 0, err
        yield outcome(home)


@pytest.mark.parametrize("seed", [1])
def test_a_run_killed_anywhere_ends_with_the_same_catalogue(tmp_path, undisturbed, seed):
    rng = random.Random(seed)
    # Fifteen images a second make the download last, so that a kill finds it at work.
    slow = {"lease_s": 2, "settle_every_s": 0.2, "images_per_second": 15}
    with house(tmp_path, small_world(60, owners=15, fates=FATES), **slow) as home:
        runner = Runner(home, tmp_path)
        kills = 0
        while True:
            with runner.start() as process:
                if kills < KILLS:
                    time.sleep(rng.uniform(2, 9))
                    process.send_signal(signal.SIGKILL)
                _, err = process.communicate(timeout=900)
            if process.returncode == 0:
                break
            assert process.returncode == -signal.SIGKILL, err
            kills += 1
        assert kills > 0
        assert outcome(home) == undisturbed


def test_a_frozen_data_set_is_said_to_be_so(tmp_path):
    with house(tmp_path, small_world(30, owners=10)) as home:
        runner = Runner(home, tmp_path)
        with runner.start() as process:
            process.communicate(timeout=900)
        labels = (tmp_path / "labels.txt").read_text().splitlines()
        (tmp_path / "labels.txt").write_text("\n".join(["9.99", *labels[1:]]))
        with runner.start() as process:
            _, err = process.communicate(timeout=900)
        assert process.returncode == 0
        assert "1 of its photos have another label now" in err.replace("\n", " ")


def test_a_run_that_is_done_changes_nothing_when_it_is_started_again(tmp_path):
    with house(tmp_path, small_world(30, owners=10)) as home:
        runner = Runner(home, tmp_path)
        for _ in range(2):
            with runner.start() as process:
                _, err = process.communicate(timeout=900)
            assert process.returncode == 0, err
        assert set(home.flickr.counters()["api_calls_per_photo"].values()) == {1}
        assert home.sql("SELECT count(*) FROM runs") == [(1,)]
        assert home.sql("SELECT count(*) FROM datasets") == [(1,)]
