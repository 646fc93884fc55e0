"""The loading thread: order, bounds, errors and an early end."""

import threading
from contextlib import closing

import pytest
import torch

from popq.learn.data import prefetch


def test_results_come_in_order():
    assert list(prefetch(lambda n: n * n, range(10))) == [n * n for n in range(10)]
    assert list(prefetch(str, [])) == []


def test_at_most_two_wait_and_one_thread_loads():
    drawn, threads = [], set()

    def items():
        for n in range(100):
            drawn.append(n)
            yield n

    def load(n):
        threads.add(threading.current_thread().name)
        return n

    with closing(prefetch(load, items())) as loaded:
        assert next(loaded) == 0
        assert len(drawn) == 3
    assert len(drawn) == 3
    assert len(threads) == 1
    assert not any(thread.name in threads for thread in threading.enumerate())


def test_an_error_comes_at_its_turn():
    loaded = prefetch(lambda n: 1 / n, [2, 1, 0, 4])
    assert next(loaded) == 0.5
    assert next(loaded) == 1.0
    with pytest.raises(ZeroDivisionError):
        next(loaded)


def test_the_loading_thread_leaves_the_cores_to_the_model():
    before = torch.get_num_threads()
    assert list(prefetch(lambda _: torch.get_num_threads(), range(4))) == [1] * 4
    assert torch.get_num_threads() == before
    later = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [before]
