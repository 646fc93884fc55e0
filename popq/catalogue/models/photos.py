"""Tables of photos: the row of each, what was measured and told of it, and what was purged."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import JSON, CheckConstraint, ForeignKey, Index, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from popq.catalogue.models.base import Base, Id, one_of, states
from popq.catalogue.states import GONE_REASONS, REJECTED_REASONS, PhotoState


class Photo(Base):
    """One photo of the list, from its link to its stored file."""

    __tablename__ = "photos"
    __table_args__ = (
        CheckConstraint("(flickr_id IS NULL) <> (source_key IS NULL)", "one_identity"),
        CheckConstraint(states("state", PhotoState), "state"),
        CheckConstraint(
            f"(reason IS NULL AND state NOT IN ('gone', 'rejected'))"
            # `NULL IN (...)` is NULL, which a CHECK lets through: so both need the NOT NULL.
            " OR (state = 'gone' AND reason IS NOT NULL"
            f" AND {one_of('reason', GONE_REASONS)})"
            " OR (state = 'rejected' AND reason IS NOT NULL"
            f" AND {one_of('reason', REJECTED_REASONS)})",
            "reason_of_exit",
        ),
        CheckConstraint("state <> 'resolved' OR image_url IS NOT NULL", "resolved_has_url"),
        CheckConstraint(
            "state <> 'stored' OR (file_key IS NOT NULL AND sha256 IS NOT NULL)", "stored_has_file"
        ),
        # For batches of one owner's photos, which may lie anywhere.
        Index(None, "owner"),
        {"postgresql_with": {"fillfactor": 80}, "sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    flickr_id: Mapped[int | None] = mapped_column(unique=True)
    source_key: Mapped[str | None] = mapped_column(unique=True)
    page_url: Mapped[str]
    owner: Mapped[str | None]
    label: Mapped[float | None]
    state: Mapped[str] = mapped_column(server_default=PhotoState.LISTED)
    reason: Mapped[str | None]
    server: Mapped[str | None]
    secret: Mapped[str | None]
    image_url: Mapped[str | None]
    title: Mapped[str | None]
    tags: Mapped[str | None]
    views: Mapped[int | None]
    posted_at: Mapped[dt.datetime | None]
    taken_at: Mapped[str | None]
    licence: Mapped[int | None]
    file_key: Mapped[str | None]
    sha256: Mapped[str | None]
    phash: Mapped[str | None]
    bytes: Mapped[int | None]
    width: Mapped[int | None]
    height: Mapped[int | None]
    format: Mapped[str | None]
    imported_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    resolved_at: Mapped[dt.datetime | None]
    stored_at: Mapped[dt.datetime | None]


class PhotoMoments(Base):
    """Exact channel sums of one photo's 256x256 crop; 8-bit values, so integers."""

    __tablename__ = "moments"

    photo_id: Mapped[int] = mapped_column(
        ForeignKey("photos.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    pixels: Mapped[int]
    sum_r: Mapped[int]
    sum_g: Mapped[int]
    sum_b: Mapped[int]
    square_r: Mapped[int]
    square_g: Mapped[int]
    square_b: Mapped[int]


class PhotoMetadata(Base):
    """What a metadata file says of one photo beyond the columns of `photos`, as it says it.

    `kind` is the file's name without train_ or test_ and without its ending: category, text, ….
    """

    __tablename__ = "metadata"
    __table_args__ = ({"sqlite_with_rowid": False},)

    photo_id: Mapped[int] = mapped_column(
        ForeignKey("photos.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    kind: Mapped[str] = mapped_column(primary_key=True)
    data: Mapped[dict[str, Any]] = mapped_column(JSON().with_variant(JSONB(), "postgresql"))


class Tombstone(Base):
    """What was purged and why: never imported, claimed or packed again."""

    __tablename__ = "tombstones"
    __table_args__ = (
        CheckConstraint("(flickr_id IS NULL) <> (source_key IS NULL)", "one_identity"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    flickr_id: Mapped[int | None] = mapped_column(unique=True)
    source_key: Mapped[str | None] = mapped_column(unique=True)
    reason: Mapped[str]
    purged_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
