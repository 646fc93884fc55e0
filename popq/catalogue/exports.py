"""What exports are made of: scores and members, in stretches, so that memory stays flat."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Select, bindparam, func, select

from popq.catalogue.db import Tx
from popq.catalogue.models import Member, Photo, Run, Score

#: Rows read at a time.
_AT_A_TIME: Final = 5_000
#: The photo after which a stretch begins. Each table that is joined is told of it: PostgreSQL
#: merges them in the order of ids, and would read the others from their first row each time.
_AFTER: Final = bindparam("after", type_=BigInteger)
#: What is told of each score, in order; each tier's probability follows.
SCORE_COLUMNS: Final = (
    *("photo_id", "flickr_id", "source_key", "url", "owner", "label", "tier", "split"),
    *("run_id", "score", "predicted_tier"),
)
#: What is told of each photo of a data set, in order.
MEMBER_COLUMNS: Final = (
    *("photo_id", "flickr_id", "source_key", "url", "image_url", "owner", "licence"),
    *("label", "tier", "split", "sha256"),
)


def scores(
    tx: Tx, run: int, split: str | None = None
) -> Iterator[list[tuple[tuple[Any, ...], list[float]]]]:
    """Yield (`SCORE_COLUMNS`, probabilities) of each photo that the run has scored, by photo id.

    Label, tier and split are those of the run's data set, in which the run was judged; a photo
    outside of it has its label of today, and neither tier nor split. `split` takes only that split.
    The probabilities are empty where the run gives none.
    """
    member = (Member.photo_id == Score.photo_id) & (Member.dataset_id == Run.dataset_id)
    member &= Member.photo_id > _AFTER
    query: Select[Any] = (
        select(Photo.id, Photo.flickr_id, Photo.source_key, Photo.page_url, Photo.owner)
        .add_columns(func.coalesce(Member.label, Photo.label), Member.tier, Member.split)
        .add_columns(Score.run_id, Score.score, Score.tier, Score.probabilities)
        .select_from(Score)
        .join(Photo, Photo.id == Score.photo_id)
        .join(Run, Run.id == Score.run_id)
        .join(Member, member, isouter=True)
        .where(Score.run_id == run, *_of_split(split))
    )
    for rows in _stretches(tx, query, Score.photo_id):
        yield [(tuple(row[:-1]), row[-1] or []) for row in rows]


def members(
    tx: Tx, dataset: int, split: str | None = None
) -> Iterator[list[tuple[tuple[Any, ...], str]]]:
    """Yield (`MEMBER_COLUMNS`, file key) of each photo of a data set, by photo id.

    `sha256` is of the file that the set was frozen with, as the key is: the photo may have been
    stored with other bytes since.
    """
    query: Select[Any] = (
        select(Photo.id, Photo.flickr_id, Photo.source_key, Photo.page_url, Photo.image_url)
        .add_columns(Photo.owner, Photo.licence, Member.label, Member.tier, Member.split)
        .add_columns(Member.file_key)
        .select_from(Member)
        .join(Photo, Photo.id == Member.photo_id)
        .where(Member.dataset_id == dataset, *_of_split(split))
    )
    for rows in _stretches(tx, query, Member.photo_id):
        # A key is named by the sha256 of its bytes.
        yield [((*row[:-1], PurePosixPath(row[-1]).stem), row[-1]) for row in rows]


def post_id(flickr_id: int | None, source_key: str | None) -> str:
    """Return what the Social Media Prediction list calls a photo: its Flickr id, or its pid.

    The pid of a photo that came as a file is the file's name: 775 for `train/59@N75/775.jpg`.
    """
    return str(flickr_id) if flickr_id is not None else PurePosixPath(source_key or "").stem


def _of_split(split: str | None) -> list[ColumnElement[bool]]:
    return [] if split is None else [Member.split == split]


def _stretches(tx: Tx, query: Select[Any], key: Any) -> Iterator[list[Any]]:
    query = query.where(key > _AFTER, Photo.id > _AFTER).order_by(key).limit(_AT_A_TIME)
    after = 0
    while rows := list(tx.execute(query, {"after": after})):
        after = rows[-1][0]
        yield rows
