from __future__ import annotations

import threading

import pytest

from popq.stages.lookout import Lookout


class Sleepers:
    """Threads that wait at one lookout; each look lasts until the test ends it."""

    def __init__(self, lookout):
        self.lookout = lookout
        self.threads = []
        self.looking = threading.Semaphore(0)
        self.end_look = threading.Semaphore(0)
        self.news = False
        self.at_once = 0
        self.most_at_once = 0

    def look(self):
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.looking.release()
        assert self.end_look.acquire(timeout=20)
        self.at_once -= 1
        return self.news

    def start(self, count, at_most_s=None):
        calls = self.lookout.calls
        for _ in range(count):
            thread = threading.Thread(target=self.lookout.wait, args=(calls, self.look, at_most_s))
            thread.start()
            self.threads.append(thread)

    def join(self):
        for thread in self.threads:
            thread.join(20)
            assert not thread.is_alive()


@pytest.fixture
def sleepers():
    return Sleepers(Lookout())


def test_news_wake_all_and_one_looks_at_a_time(sleepers):
    sleepers.start(4)
    assert sleepers.looking.acquire(timeout=20)
    sleepers.news = True
    sleepers.end_look.release()
    sleepers.join()
    assert sleepers.most_at_once == 1


def test_one_that_goes_to_sweep_leaves_its_place_to_the_next(sleepers):
    sleepers.start(3)
    for _ in range(3):
        assert sleepers.looking.acquire(timeout=20)
        sleepers.end_look.release()
    sleepers.join()
    assert sleepers.most_at_once == 1


def test_a_call_wakes_those_who_sleep_and_those_who_are_about_to(sleepers):
    sleepers.start(1)
    assert sleepers.looking.acquire(timeout=20)
    before = sleepers.lookout.calls
    sleepers.start(2)
    sleepers.lookout.call()
    for thread in sleepers.threads[1:]:
        thread.join(20)
        assert not thread.is_alive()
    sleepers.lookout.wait(before, sleepers.look, None)  # no look: it was called meanwhile
    sleepers.end_look.release()
    sleepers.join()


def test_who_has_a_time_of_its_own_does_not_wait_for_the_lookout(sleepers):
    sleepers.start(1)
    assert sleepers.looking.acquire(timeout=20)
    sleepers.lookout.wait(sleepers.lookout.calls, sleepers.look, 0.01)
    sleepers.end_look.release()
    sleepers.join()


def test_a_look_that_fails_leaves_its_place(sleepers):
    def broken():
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk"):
        sleepers.lookout.wait(sleepers.lookout.calls, broken, None)
    sleepers.start(1)
    assert sleepers.looking.acquire(timeout=20)
    sleepers.end_look.release()
    sleepers.join()
