"""Tiers of popularity: cuts are values, fitted on the training labels.

A label belongs to the upper tier when it is at or above the cut, so equal labels always share a
tier. Cutting by rank instead would put photos of one score into different tiers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from popq.errors import BadInput

_FEWEST_TIERS = 2


def fit_cuts(labels: npt.NDArray[np.float64], tiers: int) -> tuple[float, ...]:
    """Return the tiers-1 cuts, ascending, that divide labels (n,) most evenly.

    Cut k is the distinct label below which the share nearest to k/tiers lies; of two that are
    equally near, the lower. Raises `BadInput` for fewer than two tiers, labels that are not
    finite, fewer distinct labels than tiers, and ties so heavy that a tier would stay empty.
    """
    if tiers < _FEWEST_TIERS:
        raise BadInput(f"{tiers} tiers; at least {_FEWEST_TIERS} are needed")
    _check_finite(labels)
    _check_distinct(labels, tiers)
    values, counts = np.unique(labels, return_counts=True)
    # below[j] labels lie under values[j + 1]; integers throughout, so that ties are exact.
    below = np.cumsum(counts)[:-1]
    places = [int(np.argmin(np.abs(below * tiers - k * len(labels)))) for k in range(1, tiers)]
    cuts = tuple(float(values[place + 1]) for place in places)
    if len(set(cuts)) < len(cuts):
        sizes = np.bincount(assign(labels, cuts), minlength=tiers + 1)[1:].tolist()
        message = f"ties are too heavy for {tiers} tiers: they would hold {sizes} labels"
        raise BadInput(f"{message} ({len(values)} distinct values); ask for fewer tiers")
    return cuts


def assign(labels: npt.NDArray[np.float64], cuts: Sequence[float]) -> npt.NDArray[np.int64]:
    """Return the tier 1..K of each label (n,); 1 is the least popular.

    Raises `BadInput` for labels that are not finite.
    """
    _check_finite(labels)
    at_or_above = np.searchsorted(np.asarray(cuts, dtype=np.float64), labels, side="right")
    return at_or_above.astype(np.int64) + 1


def by_rank(labels: npt.NDArray[np.float64], tiers: int) -> npt.NDArray[np.int64]:
    """Return tiers 1..K of equal size by rank, and 0 for the leftovers, which are the highest.

    Of equal labels (n,) the first is the lower, so equal labels may stand in different tiers:
    what the seed of 2021 did. Raises `BadInput` as `fit_cuts` does for fewer distinct labels than
    tiers, the leftovers not counted.
    """
    _check_finite(labels)
    _check_distinct(labels, tiers)
    size = len(labels) // tiers
    found = np.zeros(len(labels), dtype=np.int64)
    order = np.argsort(labels, kind="stable")[: size * tiers]
    _check_distinct(labels[order], tiers)  # what told the tiers apart may have been left over
    found[order] = np.arange(size * tiers) // size + 1
    return found


def checked_cuts(cuts: Sequence[float]) -> tuple[float, ...]:
    """Return cuts that were given; `BadInput` unless they are finite and ascend."""
    found = tuple(map(float, cuts))
    if not found or not np.all(np.isfinite(found)) or not np.all(np.diff(found) > 0):
        shown = ", ".join(f"{cut:g}" for cut in found)
        raise BadInput(f"the cuts {shown} must be finite numbers, each above the one before")
    return found


def tie_counts(labels: npt.NDArray[np.float64], cuts: Sequence[float]) -> tuple[int, ...]:
    """Return for each cut how many labels (n,) equal it: how much the cut's side decides."""
    return tuple(int(np.count_nonzero(labels == cut)) for cut in cuts)


def _check_distinct(labels: npt.NDArray[np.float64], tiers: int) -> None:
    distinct = len(np.unique(labels))
    if distinct < tiers:
        message = f"{len(labels):,} labels with {distinct} distinct values make no {tiers} tiers"
        raise BadInput(f"{message}; ask for fewer tiers or give more labels")


def _check_finite(labels: npt.NDArray[np.float64]) -> None:
    bad = int(np.count_nonzero(~np.isfinite(labels)))
    if bad:
        raise BadInput(f"{bad:,} of {len(labels):,} labels are not finite numbers")
