"""A photo that kills whoever touches it."""

from __future__ import annotations

import re
import sys
import time

import pytest
from chaos.fleet import fleet_over, slow, world
from chaos.services import Relay, owner_of
from houses import FIRST_ID

from popq.flickr.fake.faults import Host


class Killer:
    """Kills the worker whose connection asks for one photo's image, before it is answered."""

    def __init__(self, photo):
        self._asked = re.compile(rb"GET /\d+/%d_" % photo)
        self.fleet = None

    def __call__(self, port, pending):
        passed = bytes(pending)
        pending.clear()
        if not self._asked.search(passed):
            return passed
        victim = self._who_asks(port)
        if victim is not None:
            victim.kill()
            self.fleet.kills += 1
            self.fleet.losses += self.fleet.threads
        return b""

    def _who_asks(self, port):
        """Return the worker with the connection; a moment later, if it is not to be seen yet."""
        until = time.monotonic() + 10
        while time.monotonic() < until:
            workers = {worker.pid: worker for worker in self.fleet.living()}
            found = workers.get(owner_of(port, workers))
            if found is not None:
                return found
            time.sleep(0.05)
        return None


@pytest.mark.skipif(sys.platform != "linux", reason="finds out who asks in /proc")
@pytest.mark.parametrize(
    ("workers", "threads", "answer_s"),
    # Others that the same process has in its hands die with it, again and again.
    [(2, 1, 0.02), (1, 4, 0.3)],
    ids=["alone in its worker", "beside others in its worker"],
)
def test_a_photo_that_kills_its_worker_each_time_is_alone_rejected(
    tmp_path, postgres, undisturbed, size, report, workers, threads, answer_s
):
    if threads > 1 and size("short", "full") == "short":
        pytest.skip("one photo after the other is cleared of blame, for minutes: see `make chaos`")
    photos, number = size(24, 250), 20
    kill = Killer(FIRST_ID + 7 * number)
    faults = slow(world(photos), [Host.IMAGE], seconds=answer_s)
    with (
        Relay(kill) as relay,
        fleet_over(
            tmp_path,
            photos,
            threads=threads,
            faults=faults,
            database_url=postgres,
            flickr_image_url=f"http://127.0.0.1:{relay.port}",
            lease_s=1,
            settle_every_s=0.05,
        ) as fleet,
    ):
        relay.target, kill.fleet = fleet.home.flickr.port, fleet
        fleet.resolve_here()
        fleet.start(workers)
        fleet.enqueue("download", size=250)
        fleet.finish("download", lambda: fleet.start(workers - len(fleet.living())))
        expected, calls = undisturbed(photos)
        report(fleet, again=fleet.check((rejecting(expected, number), calls)))


def rejecting(expected, number):
    """Return the outcome in which one photo was not stored but rejected for killing workers."""
    photo = FIRST_ID + 7 * number
    [row] = [row for row in expected["photos"] if row[0] == photo]
    state, key, size = 2, 8, 11
    assert (row[state], row[state + 1]) == ("stored", None)
    gone = (*row[:state], "rejected", "kills_worker", *row[state + 2 : key], *[None] * 7)
    counts = {stage: counted for stage, *counted in expected["counts"]}
    moved, exited, failed, stored_bytes = counts["download"]
    counts["download"] = [moved - 1, exited + 1, failed + 1, stored_bytes - row[size]]
    return expected | {
        "photos": [gone if other == row else other for other in expected["photos"]],
        "moments": [other for other in expected["moments"] if other[0] != photo],
        "files": [name for name in expected["files"] if name != row[key]],
        "counts": [(stage, *counted) for stage, counted in counts.items()],
        "failures": [*expected["failures"], (photo, "kills_worker", 1)],
    }
