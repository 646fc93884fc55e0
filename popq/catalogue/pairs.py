"""Pairs: photos of a data set to be compared, of which one is clearly the more popular.

As in Intrinsic Image Popularity (Ding, Ma, Wang 2019): both photos are of one owner and were posted
within days of each other, so that neither the owner's fame nor the season explains the difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import case, func, literal, or_, select, true

from popq.catalogue.datasets import unix_seconds
from popq.catalogue.db import Tx, bulk_select
from popq.catalogue.models import Member, Photo

#: Photos of one pair are posted at most so far apart, where both times are known.
DAYS_APART: Final = 10
#: Labels are clearly apart from this share of the training labels' standard deviation on. Of pairs
#: drawn at random it leaves out the closest 28 % (of normal labels), whose order is mostly luck.
CLEARLY_APART: Final = 0.5
#: Each photo is compared with so many that come after it, at most: so pairs grow as photos do, not
#: as their square, and no owner of thousands of photos outweighs the others by more than these.
REACH: Final = 12
#: Rows read at a time.
_READ: Final = 5_000
#: A prime and a multiplier (Lehmer's generator) that scatter ids: see `_scattered`.
_PRIME, _FACTOR = 2**31 - 1, 48_271


def mine(
    tx: Tx, dataset: int, split: str, *, apart: float, within: str
) -> Iterator[Sequence[tuple[int, int]]]:
    """Yield the pairs of a split as (less popular photo, more popular photo), many at a time.

    Each photo is paired with the `REACH` that come after it, if their labels are at least `apart`
    from its own. `within` "owner": after it by the time of posting (then by id; those without a
    time last) come photos of its owner, at most `DAYS_APART` where both times are known; photos
    without an owner are left out. "any": photos of anybody, in an order as if drawn by lot.
    The same catalogue gives the same pairs, in no order.
    """
    owned = within == "owner"
    posted = unix_seconds(Photo.posted_at)
    by_time: list[Any] = [Photo.owner, Photo.posted_at.is_(None), posted]
    order = by_time if owned else [_scattered(Member.photo_id)]
    placed = (
        select(Member.photo_id, Member.label, Photo.owner, posted.label("posted"))
        .add_columns(func.row_number().over(order_by=[*order, Member.photo_id]).label("place"))
        .join(Photo, Photo.id == Member.photo_id)
        .where(Member.dataset_id == dataset, Member.split == split)
        .where(Photo.owner.is_not(None) if owned else true())
        .cte("placed")
    )
    steps = select(literal(1).label("n")).cte("steps", recursive=True)
    steps = steps.union_all(select(steps.c.n + 1).where(steps.c.n < REACH))
    one, other = placed.alias("one"), placed.alias("other")
    rising = one.c.label < other.c.label
    query = (
        select(
            case((rising, one.c.photo_id), else_=other.c.photo_id),
            case((rising, other.c.photo_id), else_=one.c.photo_id),
        )
        .select_from(one)
        .join(steps, true())
        .join(other, other.c.place == one.c.place + steps.c.n)
        .where(func.abs(one.c.label - other.c.label) >= apart, one.c.label != other.c.label)
    )
    if owned:
        near = other.c.posted - one.c.posted <= DAYS_APART * 86_400
        unknown = or_(one.c.posted.is_(None), other.c.posted.is_(None))
        query = query.where(one.c.owner == other.c.owner, or_(unknown, near))
    yield from bulk_select(tx, query, _READ)


def _scattered(number: Any) -> Any:
    """Return a number below 2^31 that follows from an id, but as if drawn by lot.

    The square keeps neighbours from staying at a fixed distance, which a product alone would.
    """
    spread = _modulo(number * _FACTOR)
    return _modulo(spread * spread)


def _modulo(number: Any) -> Any:
    # Not `%`: the driver of PostgreSQL takes it for a place to fill in.
    return number - number // _PRIME * _PRIME
