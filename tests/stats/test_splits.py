"""Splits: no owner on two sides, the same everywhere, and nobody moves when photos are added."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from popq.errors import BadInput
from popq.stats.splits import assign, largest_share

photo = st.tuples(st.none() | st.integers(0, 40).map("{}@N00".format), st.integers(0, 30))
photos = st.lists(photo, min_size=2, max_size=80)
shares = st.tuples(st.floats(0.05, 0.6), st.floats(0, 0.3))
rules = st.sampled_from(["owner", "photo", "time"])


def split(rule, rows, val, test, salt="popq", copies=None):
    """Return the sides, or None when one of them would be empty."""
    try:
        return assign(
            rule,
            ids=np.arange(len(rows), dtype=np.int64) * 7 + 10**9,
            owners=[owner for owner, _ in rows],
            times=np.array([time for _, time in rows]),
            copies=np.arange(len(rows)) if copies is None else np.array(copies),
            val=val,
            test=test,
            salt=salt,
        )
    except BadInput:
        return None


def many(n=4000):
    return [(f"{i // 10}@N01", i) for i in range(n)]


@given(photos, shares, st.text(max_size=5))
def test_an_owner_is_never_on_two_sides(rows, share, salt):
    sides = split("owner", rows, *share, salt)
    assume(sides is not None)
    side_of = {}
    for (owner, _), side in zip(rows, sides.tolist(), strict=True):
        if owner is not None:
            assert side_of.setdefault(owner, side) == side


@given(rules, photos, shares)
def test_the_same_photos_fall_the_same_way(rule, rows, share):
    first, second = split(rule, rows, *share), split(rule, rows, *share)
    assert (first is None) == (second is None)
    if first is not None:
        assert first.tolist() == second.tolist()
        assert set(first.tolist()) <= {"train", "val", "test"}


@given(st.sampled_from(["owner", "photo"]), photos, photos, shares)
def test_adding_photos_moves_nobody(rule, rows, added, share):
    before = split(rule, rows, *share)
    after = split(rule, rows + added, *share)
    assume(before is not None)
    assert after is not None
    assert after[: len(rows)].tolist() == before.tolist()


@given(photos, shares)
def test_by_time_train_is_older_than_val_is_older_than_test(rows, share):
    sides = split("time", rows, *share)
    assume(sides is not None)
    times = np.array([time for _, time in rows])
    rank = {"train": 0, "val": 1, "test": 2}
    ranks = np.array([rank[side] for side in sides])
    for low in range(2):
        earlier, later = times[ranks <= low], times[ranks > low]
        assert not len(later) or earlier.max() < later.min()


@pytest.mark.parametrize("rule", ["owner", "photo", "time"])
def test_shares_come_out_as_asked(rule):
    sides = split(rule, many(), 0.2, 0.1)
    assert np.mean(sides == "val") == pytest.approx(0.2, abs=0.06)
    assert np.mean(sides == "test") == pytest.approx(0.1, abs=0.05)
    assert sides.dtype == np.dtype("U5")


def test_by_time_distinct_times_are_cut_exactly():
    sides = split("time", many(100), 0.2, 0.1)
    assert sides.tolist() == ["train"] * 70 + ["val"] * 20 + ["test"] * 10


def test_by_time_dates_serve_too():
    days = np.datetime64("2020-01-01") + np.arange(10)
    sides = assign(
        "time",
        ids=np.arange(10),
        copies=np.arange(10),
        owners=[None] * 10,
        times=days,
        val=0.3,
        test=0,
        salt="",
    )
    assert sides.tolist() == ["train"] * 7 + ["val"] * 3


def test_without_a_test_share_there_is_no_test_split():
    assert set(split("owner", many(), 0.2, 0).tolist()) == {"train", "val"}


def test_a_test_share_takes_from_train_and_leaves_val_alone():
    without, with_test = split("photo", many(), 0.2, 0), split("photo", many(), 0.2, 0.2)
    assert ((without == "val") == (with_test == "val")).all()


def test_another_salt_is_another_split():
    assert (
        split("owner", many(), 0.2, 0, "a").tolist() != split("owner", many(), 0.2, 0, "b").tolist()
    )


def test_the_split_is_the_same_in_every_release():
    rows = [("a", 0), ("b", 0), ("c", 0), (None, 0), (None, 0), ("f", 0)]
    sides = split("owner", rows, 0.3, 0.15)
    assert sides.tolist() == ["train", "train", "val", "test", "val", "test"]


@pytest.mark.parametrize("share", [(0, 0.1), (1, 0), (-0.1, 0), (0.5, -0.1), (0.5, 0.5), (0.2, 1)])
def test_shares_out_of_range_are_refused(share):
    with pytest.raises(BadInput, match="val \\+ test < 1"):
        assign(
            "photo",
            ids=np.arange(3),
            copies=np.arange(3),
            owners=[None] * 3,
            times=np.arange(3),
            val=share[0],
            test=share[1],
            salt="",
        )


def test_lengths_that_do_not_match_are_refused():
    with pytest.raises(BadInput, match="3 ids, 2 owners, 3 times, 3 copies"):
        assign(
            "photo",
            ids=np.arange(3),
            copies=np.arange(3),
            owners=[None] * 2,
            times=np.arange(3),
            val=0.5,
            test=0,
            salt="",
        )


def test_one_owner_makes_no_owner_split_and_the_message_says_what_to_do():
    with pytest.raises(BadInput, match=r"50 photos by 1 owners gives .*--split photo"):
        assign(
            "owner",
            ids=np.arange(50),
            copies=np.arange(50),
            owners=["1@N00"] * 50,
            times=np.arange(50),
            val=0.2,
            test=0,
            salt="",
        )


def test_one_time_makes_no_time_split():
    with pytest.raises(BadInput, match="--split owner"):
        assign(
            "time",
            ids=np.arange(50),
            copies=np.arange(50),
            owners=["1@N00"] * 50,
            times=np.zeros(50),
            val=0.2,
            test=0,
            salt="",
        )


@pytest.mark.parametrize(
    "times", [np.array([1.0, np.nan, 2.0]), np.array(["2020", "NaT", "2021"], dtype="M8[D]")]
)
def test_a_photo_without_a_time_is_refused(times):
    with pytest.raises(BadInput, match="no time"):
        assign(
            "time",
            ids=np.arange(3),
            copies=np.arange(3),
            owners=[None] * 3,
            times=times,
            val=0.4,
            test=0,
            salt="",
        )


@given(rules, photos, shares, st.data())
def test_copies_of_a_picture_stay_together_under_every_rule(rule, rows, share, data):
    numbers = st.integers(0, max(1, len(rows) // 2))
    copies = data.draw(st.lists(numbers, min_size=len(rows), max_size=len(rows)))
    sides = split(rule, rows, *share, copies=copies)
    assume(sides is not None)
    for kind in (copies, [owner for owner, _ in rows] if rule == "owner" else []):
        side_of = {}
        for name, side in zip(kind, sides.tolist(), strict=False):
            if name is not None:
                assert side_of.setdefault(name, side) == side


@given(photos, shares, st.data())
def test_training_holds_nothing_newer_than_what_validates(rows, share, data):
    numbers = st.integers(0, len(rows))
    copies = data.draw(st.lists(numbers, min_size=len(rows), max_size=len(rows)))
    sides = split("time", rows, *share, copies=copies)
    assume(sides is not None)
    newest = {}
    for (_, time), copy in zip(rows, copies, strict=True):
        newest[copy] = max(time, newest.get(copy, time))
    times = {"train": [], "val": [], "test": []}
    for copy, side in zip(copies, sides.tolist(), strict=True):
        times[side].append(newest[copy])
    assert max(times["train"]) < min(times["val"])
    trained = [
        time for (_, time), side in zip(rows, sides.tolist(), strict=True) if side == "train"
    ]
    assert max(trained) < min(times["val"])


@given(photos, shares)
def test_without_copies_across_owners_the_sides_are_those_of_the_owners_alone(rows, share):
    owners = [owner for owner, _ in rows]
    within = [hash(owner) if owner else -place - 1 for place, owner in enumerate(owners)]
    alone, copied = split("owner", rows, *share), split("owner", rows, *share, copies=within)
    assert (alone is None) == (copied is None)
    assert alone is None or alone.tolist() == copied.tolist()


def test_the_largest_share_is_that_of_owners_whom_copies_link():
    owners = ["a", "a", "b", "c", "d", None]
    assert largest_share(owners, np.array([1, 2, 3, 4, 5, 6])) == 0
    assert largest_share(owners, np.array([1, 2, 1, 4, 5, 6])) == 0.5
