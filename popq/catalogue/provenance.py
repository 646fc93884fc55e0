"""Where a data set's photos come from and under which licences, counted by the database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, cast, func, select

from popq.catalogue.db import Tx
from popq.catalogue.models import Member, Photo


def licences(tx: Tx, dataset: int) -> Sequence[Any]:
    """Return (licence, photos) of a data set's photos, the commonest first; None is unknown."""
    photos = func.count().label("photos")
    query = select(Photo.licence, photos).join(Member, Member.photo_id == Photo.id)
    grouped = query.where(Member.dataset_id == dataset).group_by(Photo.licence)
    return tx.execute(grouped.order_by(photos.desc(), Photo.licence)).all()


def extent(tx: Tx, dataset: int) -> Any:
    """Return one row: how large a data set is and from when.

    Columns: photos, owners, bytes, lowest and highest label, and the first and last moments at
    which its photos were posted, imported and stored; None where nothing is known.
    """
    moments = [
        fold(column).label(f"{name}_{what}")
        for what, column in (
            ("posted", Photo.posted_at),
            ("imported", Photo.imported_at),
            ("stored", Photo.stored_at),
        )
        for name, fold in (("first", func.min), ("last", func.max))
    ]
    query = select(
        func.count().label("photos"),
        func.count(Photo.owner.distinct()).label("owners"),
        # A sum of PostgreSQL's is a decimal, which no float divides.
        cast(func.sum(Photo.bytes), BigInteger).label("bytes"),
        func.min(Member.label).label("lowest"),
        func.max(Member.label).label("highest"),
        *moments,
    )
    members = query.select_from(Member).join(Photo, Photo.id == Member.photo_id)
    return tx.execute(members.where(Member.dataset_id == dataset)).one()
