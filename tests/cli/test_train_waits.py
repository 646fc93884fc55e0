"""`popq train` while another process builds the same pack: it waits, and can be stopped."""

import fcntl
import signal

import pytest
from houses import stored_house
from processes import Processes

from popq import api

TRAIN = ("train", "--dataset", "main", "--arch", "resnet18", "--weights", "none", "--epochs", "1")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    with stored_house(tmp_path_factory.mktemp("house"), photos=12, owners=6) as home:
        yield home


@pytest.fixture
def taken(home):
    """Hold the lock of the data set's pack, as a process does that builds it."""
    ((fingerprint,),) = home.sql("SELECT fingerprint FROM datasets")
    folder = home.rooms.settings.data_dir / "packs" / fingerprint[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.mark.parametrize("how", ["signal", "name"])
def test_a_run_that_waits_for_anothers_pack_says_so_and_can_be_stopped(home, taken, tmp_path, how):
    with Processes(tmp_path, home.settings()) as processes:
        process = processes.start(*TRAIN)
        told = "SELECT id, progress FROM runs WHERE state = 'running' AND progress LIKE '%pack%'"
        ((run, _),) = processes.wait_until(lambda: home.sql(told))
        if how == "signal":
            process.send_signal(signal.SIGINT)
        else:
            api.stop_run(home.rooms, run)
        assert process.wait(60) == 130, processes.tail()
    assert api.show_run(home.rooms, run)["state"] == "stopped"
