"""Which photos are one picture: the same bytes, or perceptual hashes that hardly differ.

Hashes within `NEAR_BITS` of each other agree whole in at least one of `NEAR_BITS` + 1 bands of
their bits (pigeonhole), so only photos that share a band are compared: no pair is missed, and few
are looked at.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

#: Bits of 64 in which two perceptual hashes may differ and still be one picture.
NEAR_BITS = 4
_BITS = 64
#: Pairs held at a time: pictures that are all alike make more pairs than memory holds.
_HELD = 100_000

Ints = npt.NDArray[np.int64]


def groups(sha256: Sequence[str | None], phash: Sequence[str | None]) -> Ints:
    """Return a group number for each of n photos: equal for photos that are one picture.

    `sha256` and `phash` are hex digits, None where unknown: an unknown one is like no other. What
    is like a third is in its group, too.
    """
    group: Ints = np.arange(len(sha256))
    held = np.empty((2, 0), dtype=np.int64)
    for pairs in itertools.chain([_equal(sha256, _firsts(sha256))], _near(phash)):
        joined = group[pairs]
        held = np.concatenate([held, joined[:, joined[0] != joined[1]]], axis=1)
        if held.shape[1] > _HELD:
            group, held = linked(len(group), held)[group], held[:, :0]
    return linked(len(group), held)[group]


def linked(count: int, pairs: Ints) -> Ints:
    """Return the number of its component for each of `count` nodes, linked by pairs (2, m)."""
    # A fifth of a second, which only a command that makes a data set is to wait for.
    from scipy.sparse import coo_array  # noqa: PLC0415 - as said above
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415 - as said above

    ones = np.ones(pairs.shape[1], dtype=np.int8)
    graph = coo_array((ones, (pairs[0], pairs[1])), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    numbers: Ints = component.astype(np.int64)
    return numbers


def _firsts(keys: Sequence[str | None]) -> dict[str, int]:
    """Return where each key stands first."""
    last = len(keys) - 1
    return {key: last - place for place, key in enumerate(reversed(keys)) if key is not None}


def _equal(keys: Sequence[str | None], first: dict[str, int]) -> Ints:
    """Return pairs (2, m) that link each photo to the first with the same key."""
    if len(first) == len(keys):
        return np.empty((2, 0), dtype=np.int64)
    pairs = [
        (first[key], place)
        for place, key in enumerate(keys)
        if key is not None and first[key] != place
    ]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2).T


def _near(phash: Sequence[str | None]) -> Iterator[Ints]:
    """Yield pairs (2, m) of photos whose hashes are near; equal ones are linked first."""
    places = _firsts(phash)
    yield _equal(phash, places)
    if not places:
        return
    first = np.fromiter(places.values(), dtype=np.int64)
    hashes = np.array([int(key, 16) for key in places], dtype=np.uint64)
    for one, other in near_pairs(hashes):
        yield np.stack([first[one], first[other]])


def near_pairs(hashes: npt.NDArray[np.uint64]) -> Iterator[tuple[Ints, Ints]]:
    """Yield places (i, j) of all pairs of distinct hashes (n,) within `NEAR_BITS` of each other.

    A pair may come more than once.
    """
    edges = np.linspace(0, _BITS, NEAR_BITS + 2).astype(int)
    for low, high in itertools.pairwise(edges):
        band = (hashes >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1)
        order = np.argsort(band, kind="stable")
        band, ordered = band[order], hashes[order]
        start = np.arange(len(hashes))
        after = np.searchsorted(band, band, side="right") - start - 1
        step = 0
        # Neighbours at every distance, as long as there are two so far apart within one band.
        while len(start):
            step += 1
            start, after = start[after >= step], after[after >= step]
            differing = np.bitwise_count(ordered[start] ^ ordered[start + step])
            near = start[differing <= NEAR_BITS]
            if len(near):
                yield order[near], order[near + step]
