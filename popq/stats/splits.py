"""Which photos teach, which steer and which judge: by owner, by photo, or by time.

`owner` and `photo` hash a salted name to a place in [0, 1): the first `val` of it is validation,
the next `test` is test, the rest trains. So a split needs no list, is the same everywhere, and
stays when photos are added. Neighbouring uploads share an owner, a day and often a subject, so a
split by photo leaks and one by owner does not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from popq.errors import BadInput

Rule = Literal["owner", "photo", "time"]

_NAMES = np.array(["train", "val", "test"])
_TRAIN, _VAL, _TEST = range(3)


def assign(
    rule: Rule,
    *,
    ids: npt.NDArray[np.int64],
    owners: Sequence[str | None],
    times: npt.NDArray[Any],
    val: float,
    test: float,
    salt: str,
) -> npt.NDArray[np.str_]:
    """Return "train", "val" or "test" (dtype U5) for each of n photos.

    `owner`: by the owner; a photo whose owner is unknown (None) goes by its id. `photo`: by id.
    `time`: the oldest train, the next `val` of all validates, the newest `test` of all tests;
    equal times stay on one side; numbers or datetime64 (ids serve too: they follow the uploads).
    Raises `BadInput` when shares are out of range (0 < val, 0 <= test, val + test < 1), lengths
    differ, a time is missing, or the train or val split comes out empty.
    """
    if not (0 < val < 1 and 0 <= test < 1 and val + test < 1):
        raise BadInput(f"val {val} and test {test}: need 0 < val, 0 <= test and val + test < 1")
    if not len(ids) == len(owners) == len(times):
        raise BadInput(f"{len(ids)} ids, {len(owners)} owners and {len(times)} times do not match")
    if rule == "time":
        sides = _by_time(times, val, test)
    else:
        names = ids.tolist()
        if rule == "owner":
            names = [
                name if owner is None else owner for name, owner in zip(names, owners, strict=True)
            ]
        sides = _by_name(names, val, test, salt)
    _check_sizes(sides, rule, owners)
    return _NAMES[sides]


def _by_name(names: list[Any], val: float, test: float, salt: str) -> npt.NDArray[np.int64]:
    """Hash each distinct name once."""
    distinct = list(dict.fromkeys(names))
    prefix = f"{salt}:"
    digests = b"".join(
        [hashlib.sha256(f"{prefix}{name}".encode()).digest()[:8] for name in distinct]
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
