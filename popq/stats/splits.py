"""Which photos teach, which steer and which judge: by owner, by photo, or by time.

`owner` and `photo` hash a salted name to a place in [0, 1): the first `val` of it is validation,
the next `test` is test, the rest trains. So a split needs no list, is the same everywhere, and
stays when photos are added. Neighbouring uploads share an owner, a day and often a subject, so a
split by photo leaks and one by owner does not.

Copies of one picture stay on one side under every rule: owners (or photos) that are linked by
copies go by the smallest of their names, and by time a copy counts as the newest one, so that
training holds nothing newer than its end.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from popq.errors import BadInput
from popq.stats import duplicates

Rule = Literal["owner", "photo", "time"]

_NAMES = np.array(["train", "val", "test"])
_TRAIN, _VAL, _TEST = range(3)


def assign(
    rule: Rule,
    *,
    ids: npt.NDArray[np.int64],
    owners: Sequence[str | None],
    times: npt.NDArray[Any],
    copies: npt.NDArray[np.int64],
    val: float,
    test: float,
    salt: str,
) -> npt.NDArray[np.str_]:
    """Return "train", "val" or "test" (dtype U5) for each of n photos.

    `owner`: by the owner; a photo whose owner is unknown (None) goes by its id. `photo`: by id.
    `time`: the oldest train, the next `val` of all validates, the newest `test` of all tests;
    equal times stay on one side; numbers (ids serve too: they follow the uploads). `copies` (n,)
    numbers the pictures: photos with one number are copies and stay together.
    Raises `BadInput` when shares are out of range (0 < val, 0 <= test, val + test < 1), lengths
    differ, a time is missing, or the train or val split comes out empty.
    """
    check_shares(val, test)
    if not len(ids) == len(owners) == len(times) == len(copies):
        counts = f"{len(ids)} ids, {len(owners)} owners, {len(times)} times, {len(copies)} copies"
        raise BadInput(f"{counts} do not match")
    if rule == "time":
        sides = _by_time(_newest(times, copies), val, test)
    else:
        names = list(map(str, ids.tolist()))
        if rule == "owner":
            names = [
                name if owner is None else owner for name, owner in zip(names, owners, strict=True)
            ]
        sides = _by_name(names, _linked(names, copies), val, test, salt)
    _check_sizes(sides, rule, owners)
    return _NAMES[sides]


def check_shares(val: float, test: float) -> None:
    """Raise `BadInput` unless 0 < val, 0 <= test and val + test < 1."""
    if not (0 < val < 1 and 0 <= test < 1 and val + test < 1):
        raise BadInput(f"val {val} and test {test}: need 0 < val, 0 <= test and val + test < 1")


def largest_share(owners: Sequence[str | None], copies: npt.NDArray[np.int64]) -> float:
    """Return the share of n photos in the largest set of several owners that copies link; or 0."""
    names = [str(place) if owner is None else owner for place, owner in enumerate(owners)]
    linked = _linked(names, copies)
    sets = Counter(linked.values())
    shared = {name: first for name, first in linked.items() if sets[first] > 1}
    photos = Counter(shared[name] for name in names if name in shared)
    return max(photos.values(), default=0) / len(names)


def _newest(times: npt.NDArray[Any], copies: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Return for each photo the time of the newest of its copies."""
    _, picture = np.unique(copies, return_inverse=True)
    order = np.argsort(times, kind="stable")
    newest = np.empty(picture.max(initial=-1) + 1, dtype=times.dtype)
    newest[picture[order]] = times[order]  # of several writes to one place the last one stays
    return newest[picture]


def _linked(names: Sequence[str], copies: npt.NDArray[np.int64]) -> dict[str, str]:
    """Return for each name that has copies the smallest name that copies link it to."""
    _, picture, photos = np.unique(copies, return_inverse=True, return_counts=True)
    several = np.flatnonzero(photos[picture] > 1)
    named = [names[place] for place in several.tolist()]
    number = {name: place for place, name in enumerate(dict.fromkeys(named))}
    pairs = np.stack([[number[name] for name in named], picture[several] + len(number)])
    sets = duplicates.linked(len(number) + len(photos), pairs.astype(np.int64)).tolist()
    smallest: dict[int, str] = {}
    for name in sorted(number, reverse=True):
        smallest[sets[number[name]]] = name
    return {name: smallest[sets[place]] for name, place in number.items()}


def _by_name(
    names: list[str], linked: dict[str, str], val: float, test: float, salt: str
) -> npt.NDArray[np.int64]:
    """Hash each distinct name once, or in its stead the one that copies link it to."""
    distinct = list(dict.fromkeys(names))
    prefix = f"{salt}:"
    digests = b"".join(
        [
            hashlib.sha256(f"{prefix}{linked.get(name, name)}".encode()).digest()[:8]
            for name in distinct
        ]
    )
    places = np.frombuffer(digests, dtype=">u8") / 2.0**64
    sides = np.where(places < val, _VAL, np.where(places < val + test, _TEST, _TRAIN))
    side_of = dict(zip(distinct, sides.tolist(), strict=True))
    return np.array([side_of[name] for name in names], dtype=np.int64)


def _by_time(times: npt.NDArray[Any], val: float, test: float) -> npt.NDArray[np.int64]:
    """Cut between distinct times, where the share before the cut is nearest to what was asked."""
    distinct, place, counts = np.unique(times, return_inverse=True, return_counts=True)
    if np.isnan(distinct).any():
        raise BadInput("some photos have no time; split by owner, or give ids instead of times")
    before = np.concatenate([[0], np.cumsum(counts)])
    val_from = np.argmin(np.abs(before - len(times) * (1 - val - test)))
    test_from = np.argmin(np.abs(before - len(times) * (1 - test)))
    return np.where(place >= test_from, _TEST, np.where(place >= val_from, _VAL, _TRAIN))


def _check_sizes(sides: npt.NDArray[np.int64], rule: Rule, owners: Sequence[str | None]) -> None:
    train, val, test = np.bincount(sides, minlength=len(_NAMES)).tolist()
    if train and val:
        return
    known = len({owner for owner in owners if owner is not None})
    advice = {
        "owner": "use `--split photo`, another share or more owners",
        "photo": "use more photos or another share",
        "time": "use `--split owner`, another share or times that differ",
    }
    message = f"the {rule} split of {len(sides):,} photos by {known:,} owners gives {train:,} train"
    raise BadInput(f"{message}, {val:,} val and {test:,} test; {advice[rule]}")
