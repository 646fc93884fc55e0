"""What was lost and why, by the year of upload: removed photos are no random sample.

A photo's year is that of `posted_at`, in UTC. Flickr tells no date of a photo that it does not show
any more, so most of the lost have none, unless the list came with dates. But its ids grow with
time: a photo without a date is counted for the year of its neighbours where the nearest photo with
a date below its id and the nearest above are of the same year. Where they are not, or one side has
none, the year is unknown. Ids are not quite in the order of dates (an owner may change a date), so
the rule is put to those photos, too, whose date is known, each from its two neighbours: `asked` and
`right` say how often it answered and how often it was right.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Integer, Select, case, func, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement

from popq.catalogue.db import Tx
from popq.catalogue.models import Photo
from popq.catalogue.states import GONE_REASONS, PhotoState

#: Where a photo's way ends; of all others nobody knows yet whether they will be lost.
_SETTLED: Final = (PhotoState.STORED, PhotoState.GONE, PhotoState.REJECTED)


@dataclass(slots=True)
class Year:
    """The settled photos of one year, None where it is unknown.

    `stored` are here, `lost` left, by reason; of both together, the year of `estimated` is that of
    their neighbours by id.
    """

    year: int | None
    stored: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    estimated: int = 0

    @property
    def left(self) -> int:
        """How many are lost."""
        return sum(self.lost.values())

    @property
    def gone(self) -> int:
        """How many of the lost Flickr does not show any more."""
        return sum(photos for reason, photos in self.lost.items() if reason in GONE_REASONS)

    @property
    def settled(self) -> int:
        """How many are stored or lost."""
        return self.stored + self.left


@dataclass(frozen=True, slots=True)
class Losses:
    """The years, ascending, the unknown one last; and how the rule did where dates are known."""

    years: list[Year]
    asked: int
    right: int

    @property
    def reasons(self) -> list[str]:
        """The reasons that occur, the commonest first."""
        sums: dict[str, int] = {}
        for year in self.years:
            for reason, photos in year.lost.items():
                sums[reason] = sums.get(reason, 0) + photos
        return sorted(sums, key=lambda reason: (-sums[reason], reason))


class _year(FunctionElement[int]):  # noqa: N801 - reads as the SQL function that it is
    """The year of a moment, in UTC."""

    type = Integer()
    inherit_cache = True


@compiles(_year, "sqlite")
def _sqlite_year(element: Any, compiler: Any, **options: Any) -> str:
    return f"CAST(strftime('%Y', {compiler.process(element.clauses, **options)}) AS INTEGER)"


@compiles(_year)
def _postgresql_year(element: Any, compiler: Any, **options: Any) -> str:
    moment = compiler.process(element.clauses, **options)
    return f"CAST(extract(year FROM {moment} AT TIME ZONE 'UTC') AS integer)"


def by_year(tx: Tx) -> Losses:
    """Return how many photos are stored and how many were lost, and why, by year of upload."""
    losses: dict[int | None, Year] = {}
    asked = right = 0
    for row in tx.execute(_query()):
        asked, right = asked + row.asked, right + row.right
        if row.state in _SETTLED:
            year = losses.setdefault(row.told, Year(row.told))
            year.estimated += row.estimated
            if row.reason is None:
                year.stored += row.photos
            else:
                year.lost[row.reason] = year.lost.get(row.reason, 0) + row.photos
    years = sorted(losses.values(), key=lambda one: (one.year is None, one.year or 0))
    return Losses(years, asked, right)


def _query() -> Select[Any]:
    """Select (told, state, reason, photos, estimated, asked, right), where `told` is the year."""
    year = _year(Photo.posted_at)
    dated = case((Photo.flickr_id.is_not(None), Photo.posted_at))
    # Photos with a date are counted up by id: one without lies between the nth of them and the
    # next, and one with a date is the nth itself.
    nth = func.count(dated).over(order_by=Photo.flickr_id, rows=(None, 0))
    columns = (Photo.flickr_id, Photo.state, Photo.reason, year.label("year"), nth.label("nth"))
    photos = select(*columns).cte("by_id")
    photo = photos.c
    before = func.lag(photo.year).over(order_by=photo.nth)
    after = func.lead(photo.year).over(order_by=photo.nth)
    anchors = (
        select(photo.nth, photo.year, before.label("before"), after.label("after"))
        .where(photo.year.is_not(None), photo.flickr_id.is_not(None))
        .cte("dated")
    )
    nearest = anchors.c
    told = func.coalesce(photo.year, case((nearest.year == nearest.after, nearest.year)))
    asked = photo.year.is_not(None) & (nearest.before == nearest.after)
    here = (nearest.nth == photo.nth) & photo.flickr_id.is_not(None)
    return (
        select(told.label("told"), photo.state, photo.reason, func.count().label("photos"))
        .add_columns((func.count(told) - func.count(photo.year)).label("estimated"))
        .add_columns(func.count().filter(asked).label("asked"))
        .add_columns(func.count().filter(asked & (photo.year == nearest.before)).label("right"))
        .select_from(photos.outerjoin(anchors, here))
        .group_by(told, photo.state, photo.reason)
    )
