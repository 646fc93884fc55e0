"""What the report says of the catalogue, counted by the database: no query returns a row a photo.

The label's histogram is the largest answer, with a row for each distinct label.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import func, select

from popq.catalogue.db import Tx
from popq.catalogue.models import Dataset, Member, Photo, Score
from popq.catalogue.states import PhotoState


class Order(StrEnum):
    """Which scored photos come first."""

    HIGHEST = "highest"
    LOWEST = "lowest"
    #: The largest distance between score and label, where they have one unit.
    FURTHEST = "furthest"
    #: The largest distance between the tier that it is put into and its own.
    MISPLACED = "misplaced"


def exits(tx: Tx) -> Sequence[Any]:
    """Return (state, reason, photos) of the photos that left, the commonest reason first."""
    photos = func.count().label("photos")
    query = select(Photo.state, Photo.reason, photos).where(Photo.reason.is_not(None))
    grouped = query.group_by(Photo.state, Photo.reason)
    return tx.execute(grouped.order_by(Photo.state, photos.desc(), Photo.reason)).all()


def newest_dataset(tx: Tx) -> str | None:
    """Return the name of the data set that was made last."""
    query = select(Dataset.name).order_by(Dataset.id.desc()).limit(1)
    return tx.execute(query).scalar_one_or_none()


def labels(tx: Tx, dataset: int) -> Sequence[Any]:
    """Return (label, photos) for each distinct label of a data set, ascending."""
    query = select(Member.label, func.count().label("photos"))
    members = query.where(Member.dataset_id == dataset)
    return tx.execute(members.group_by(Member.label).order_by(Member.label)).all()


def tiers(tx: Tx, dataset: int) -> Sequence[Any]:
    """Return (tier, split, photos, lowest, highest label) for each tier and split of a data set."""
    query = select(
        Member.tier,
        Member.split,
        func.count().label("photos"),
        func.min(Member.label).label("lowest"),
        func.max(Member.label).label("highest"),
    )
    members = query.where(Member.dataset_id == dataset)
    grouped = members.group_by(Member.tier, Member.split)
    return tx.execute(grouped.order_by(Member.tier, Member.split)).all()


def unseen(tx: Tx, run: int, dataset: int) -> dict[str, int]:
    """Return for each split but the training split how many photos `shown` chooses from."""
    query = _unseen(select(Member.split, func.count()), run, dataset).group_by(Member.split)
    return {row[0]: row[1] for row in tx.execute(query.order_by(Member.split))}


def shown(
    tx: Tx, run: int, dataset: int, order: Order, limit: int, without: Sequence[int]
) -> Sequence[Any]:
    """Return the first `limit` scored photos in `order` that the run has not trained on.

    Stored photos of the data set's other splits, but for the ids of `without`; of equals the one
    with the lower id comes first. Columns: id, page_url, title, owner, licence, file_key, split,
    label and score (in the label's unit, but for a run that ranks), tier and predicted.
    """
    columns = (Photo.id, Photo.page_url, Photo.title, Photo.owner, Photo.licence, Photo.file_key)
    judged = (Member.split, Member.label, Score.score, Member.tier, Score.tier.label("predicted"))
    first = {
        Order.HIGHEST: Score.score.desc(),
        Order.LOWEST: Score.score.asc(),
        Order.FURTHEST: func.abs(Score.score - Member.label).desc(),
        Order.MISPLACED: func.abs(Score.tier - Member.tier).desc(),
    }[order]
    query = _unseen(select(*columns, *judged), run, dataset)
    rest = query.where(Photo.id.not_in(list(without)))
    return tx.execute(rest.order_by(first, Photo.id).limit(limit)).all()


def _unseen(query: Any, run: int, dataset: int) -> Any:
    """Join a query to the run's scores of stored photos that stand outside the training split."""
    scored = (Score.photo_id == Member.photo_id) & (Score.run_id == run)
    return (
        query.select_from(Member)
        .join(Score, scored)
        .join(Photo, Photo.id == Member.photo_id)
        .where(
            Member.dataset_id == dataset,
            Member.split != "train",
            Photo.state == PhotoState.STORED,
        )
    )
