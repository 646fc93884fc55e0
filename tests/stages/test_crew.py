"""A crew: where its next look for a batch begins."""

import time

from popq.stages.crew import SEARCH_S, Crew


def test_a_worker_looks_behind_its_last_batch_and_now_and_then_through_all():
    crew = Crew("w1")
    assert crew.behind(1) is None
    crew.reached(1, 7)
    crew.reached(2, 20)
    crew.reached(1, 8)
    assert (crew.behind(1), crew.behind(2)) == (8, 20)
    crew.reached(1, None)
    assert (crew.behind(1), crew.behind(2)) == (None, 20)
    # However it goes on from batch to batch.
    begun = time.monotonic()
    while crew.behind(2) is not None:
        assert time.monotonic() - begun < 10 * SEARCH_S
        crew.reached(2, 21)
        time.sleep(SEARCH_S / 20)
    crew.reached(2, 22)
    assert crew.behind(2) == 22
