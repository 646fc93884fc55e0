from __future__ import annotations

from popq.catalogue.batches import Lease
from popq.stages.alone import Alone


def lease(lo, hi, expiries):
    return Lease(lo, 1, "download", None, lo, hi, 1, expiries)


def nothing_is_put_off(held):
    raise AssertionError(held)


def test_a_suspect_is_one_photo_whose_worker_died():
    assert lease(7, 7, 1).suspect
    assert not lease(7, 7, 0).suspect
    assert not lease(7, 8, 2).suspect


def test_batches_are_held_side_by_side():
    alone = Alone()
    first, second = lease(1, 5, 2), lease(6, 6, 0)
    with (
        alone.holding(lambda: first, nothing_is_put_off) as one,
        alone.holding(lambda: second, nothing_is_put_off) as other,
    ):
        assert (one, other) == ((first, True), (second, True))


def test_beside_others_a_suspect_is_put_off_and_beside_a_suspect_nothing_is_claimed():
    alone, put_off = Alone(), []
    batch, suspect = lease(1, 5, 0), lease(7, 7, 1)
    with (
        alone.holding(lambda: batch, nothing_is_put_off),
        alone.holding(lambda: suspect, put_off.append) as held,
    ):
        assert held == (None, True)
    assert put_off == [suspect]
    with alone.holding(lambda: suspect, nothing_is_put_off) as held:
        assert held == (suspect, True)
        with alone.holding(lambda: batch, nothing_is_put_off) as other:
            assert other == (None, False)
    with alone.holding(lambda: batch, nothing_is_put_off) as held:
        assert held == (batch, True)
