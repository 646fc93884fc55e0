"""The outage that lost about 990 live photos of a real list, replayed: this time none is lost.

The program of that day took each failed call for a dead photo. Here the rows that failed in the
outage answer all that outages were seen to answer, time-outs included, until it ends; the rest are
as dead or alive as they were. The short form is the outage and the rows around it.
"""

from __future__ import annotations

import random
from collections import Counter

from houses import FIRST_ID, house, quiet, small_world
from outages import AS_SEEN, ROWS, runs_of_2021

from popq import api
from popq.catalogue.states import JobState
from popq.flickr.fake.faults import Fault, Faults, Rule
from popq.flickr.fake.plan import failed_rows
from popq.flickr.fake.world import Fate
from popq.stages.streak import FAULTS

AROUND = 200
ENDS = {
    Fate.LIVE: ("resolved", None),
    Fate.REMOVED: ("gone", "not_found"),
    Fate.PRIVATE: ("gone", "private"),
}


def replayed(first, last):
    """Return the fates of these rows, and the numbers of those that failed in the outage.

    Of these nobody knows which were alive: as many as elsewhere.
    """
    runs, rng = runs_of_2021(), random.Random(2021)
    rows = range(first, last + 1)
    failed = set(failed_rows(runs))
    dead = set(failed_rows(runs, ROWS))
    struck = {row for row in failed - dead if row in rows}
    share = len(dead) / (50_000 - (ROWS[1] - ROWS[0] + 1))
    dead |= {row for row in sorted(struck) if rng.random() < share}
    left = (Fate.REMOVED, Fate.REMOVED, Fate.PRIVATE)
    fates = [rng.choice(left) if row in dead else Fate.LIVE for row in rows]
    return fates, {row - first for row in struck}


def test_the_list_of_2021_comes_out_of_its_outage_without_a_loss(tmp_path, size, report_home):
    first, last = size((ROWS[0] - AROUND, ROWS[1] + AROUND), (1, 50_000))
    fates, struck = replayed(first, last)
    assert len(struck) == 1193
    outage = Rule(
        faults=(*AS_SEEN, Fault.SLOW),
        name="outage",
        photos=frozenset(FIRST_ID + 7 * number for number in struck),
        slow_s=1.0,  # longer than anybody waits
        lasts_s=size(3.0, 60.0),
    )
    patience = {
        "read_timeout_s": 0.5,
        "throttle_pause_s": size(0.1, 1.0),
        "retry_wait_s": size(0.1, 1.0),
        "max_tries": 3,
    }
    world = small_world(len(fates), fates=fates)
    world.private_code = 2
    with house(tmp_path, world, Faults([outage]), **patience) as home:
        api.import_list(home.rooms, home.list_files(tmp_path))
        done = api.work(home.rooms, "resolve", on_progress=quiet)
        assert (done.state, done.left) == (JobState.DONE, 0)
        ends = home.sql("SELECT state, reason FROM photos ORDER BY id")
        wrong = [
            (first + number, fate.value, end)
            for number, (fate, end) in enumerate(zip(fates, ends, strict=True))
            if ENDS[fate] != end
        ]
        assert wrong == []
        # It was met, by rests: without them each row would have cost all of its tries.
        assert FAULTS <= outage.strikes < len(struck)
        tries = dict(home.sql("SELECT outcome, count(*) FROM failures GROUP BY outcome"))
        assert tries["host_down"] > 0
        calls = home.flickr.counters()["api_calls_per_photo"].values()
        report_home(
            home,
            ends=Counter(state for state, _ in ends),
            alive_in_outage=sum(fates[number] is Fate.LIVE for number in struck),
            struck_calls=outage.strikes,
            tries=tries,
            calls=sum(calls),
            most_calls_a_photo=max(calls),
        )
