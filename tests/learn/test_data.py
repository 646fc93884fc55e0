"""The loading thread: order, bounds, errors and an early end."""

import threading
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch

from popq.learn.cores import cores
from popq.learn.data import edges, prefetch, resident, room_on, training_batches
from popq.learn.loop import fit


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


def test_pixels_lie_on_the_device_where_they_fit(data):
    cpu = torch.device("cpu")
    there = resident(data.pixels, cpu, data.pixels.nbytes)
    assert torch.equal(there, torch.from_numpy(data.pixels))
    assert resident(data.pixels, cpu, data.pixels.nbytes - 1) is None
    assert room_on(cpu) == 0  # a CPU maps them


def test_batches_are_the_same_from_wherever_pixels_lie(data, config):
    cpu = torch.device("cpu")
    there = resident(data.pixels, cpu, data.pixels.nbytes)
    mapped, held = (
        list(training_batches(data, config, 1, cpu, resident=pixels)) for pixels in (None, there)
    )
    assert all(torch.equal(a.images, b.images) for a, b in zip(mapped, held, strict=True))


def test_parts_of_a_batch_make_up_the_whole_and_an_epoch_goes_on_where_it_was(data, config):
    cpu = torch.device("cpu")
    whole = list(training_batches(data, config, 1, cpu))
    parts = [list(training_batches(data, config, 1, cpu, part=(i, 2))) for i in (0, 1)]
    for batch, *shares in zip(whole, *parts, strict=True):
        assert torch.equal(batch.images, torch.cat([share.images for share in shares]))
        assert torch.equal(batch.targets, torch.cat([share.targets for share in shares]))
    later = list(training_batches(data, config, 1, cpu, first=2))
    assert len(later) == len(whole) - 2
    assert torch.equal(later[0].images, whole[2].images)


@pytest.mark.parametrize("photos", [2, 3, 7])
def test_no_batch_is_of_one_photo_which_batch_norms_refuse(data, config, photos, tmp_path):
    few, twos = replace(data, train=data.train[:photos]), replace(config, batch_size=2, epochs=1)
    sizes = np.diff(edges(few, twos))
    assert sizes.min() >= 2
    assert sizes.sum() == photos
    quiet = {"on_epoch": lambda _: None, "on_progress": lambda _: None}
    assert len(fit(twos, few, tmp_path, device="cpu", **quiet).reports) == 1


def test_several_threads_load_in_order_each_with_its_share_of_torchs_threads():
    told = threading.Barrier(2)  # broken, if one thread had to do both

    def load(n):
        told.wait(timeout=60)
        return n, torch.get_num_threads()

    assert list(prefetch(load, range(8), threads=2, each=2)) == [(n, 2) for n in range(8)]


@pytest.mark.parametrize("several", [False, True])
def test_whoever_comes_later_has_all_of_torchs_threads_again(several):
    before = cores()
    running = prefetch(str, range(9)) if several else None
    if running is not None:
        next(running)
        assert cores() == before  # though helpers have less
    list(prefetch(str, [1], threads=4, each=1))
    with closing(prefetch(str, range(9), threads=4, each=1)) as early:
        next(early)
    if running is not None:
        running.close()
    found = []
    later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert found == [before] == [cores()]
