from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from popq.stats import duplicates
from popq.stats.duplicates import NEAR_BITS


def flipped(value, bits):
    for bit in bits:
        value ^= 1 << bit
    return value


@st.composite
def hashes(draw):
    """Hashes of which many are near each other, at just the distances that matter."""
    found = draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4))
    for _ in range(draw(st.integers(0, 8))):
        bits = draw(st.sets(st.integers(0, 63), max_size=NEAR_BITS + 2))
        found.append(flipped(draw(st.sampled_from(found)), bits))
    return found


@given(hashes())
def test_every_near_pair_is_found_and_no_other(found):
    distinct = list(dict.fromkeys(found))
    pairs = set()
    for one, other in duplicates.near_pairs(np.array(distinct, dtype=np.uint64)):
        pairs |= {frozenset(pair) for pair in zip(one.tolist(), other.tolist(), strict=True)}
    wanted = {
        frozenset((i, j))
        for i in range(len(distinct))
        for j in range(i)
        if (distinct[i] ^ distinct[j]).bit_count() <= NEAR_BITS
    }
    assert pairs == wanted


@given(hashes(), st.lists(st.sampled_from(["a", "b", None]), min_size=12, max_size=12))
def test_groups_are_what_hangs_together(found, files):
    phash = [f"{value:016x}" if value % 5 else None for value in found]
    sha256 = files[: len(found)]
    group = list(range(len(found)))
    for _ in found:  # as often as a chain can be long
        for i in range(len(found)):
            for j in range(len(found)):
                same = sha256[i] is not None and sha256[i] == sha256[j]
                near = (
                    phash[i] is not None
                    and phash[j] is not None
                    and (found[i] ^ found[j]).bit_count() <= NEAR_BITS
                )
                if same or near:
                    group[i] = group[j] = min(group[i], group[j])
    ours = duplicates.groups(sha256, phash).tolist()
    assert len(set(zip(ours, group, strict=True))) == len(set(ours)) == len(set(group))


def test_photos_that_are_all_alike_are_one_picture_however_many_pairs_they_make():
    middle = 0x5A5A33CC0FF01234
    near = [flipped(middle, bits) for bits in itertools.combinations(range(64), 2)]
    found = [f"{value:016x}" for value in (*near, flipped(middle, range(20)))]
    group = duplicates.groups([None] * len(found), found).tolist()
    assert len(set(group[:-1])) == 1
    assert group[-1] != group[0]


def test_unknown_hashes_are_like_no_other():
    assert len(set(duplicates.groups([None] * 3, [None] * 3).tolist())) == 3


def test_many_photos_with_one_band_in_common():
    band = np.arange(2000, dtype=np.uint64) << np.uint64(40)
    found = [pair for pair in duplicates.near_pairs(band) if len(pair[0])]
    near = {
        frozenset(p) for one, other in found for p in zip(one.tolist(), other.tolist(), strict=True)
    }
    wanted = sum(
        int(np.count_nonzero(np.bitwise_count(band[i + 1 :] ^ band[i]) <= NEAR_BITS))
        for i in range(len(band))
    )
    assert len(near) == wanted
