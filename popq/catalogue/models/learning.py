"""Tables of learning: data sets and their members, runs and what they say of photos."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import JSON, CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from popq.catalogue.models.base import Base, Id, one_of, states
from popq.catalogue.states import RunState


class Dataset(Base):
    """One frozen data set: who is in it, where the tiers are cut, how it is split."""

    __tablename__ = "datasets"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    count: Mapped[int]
    tiers: Mapped[int]
    cuts: Mapped[list[float]]
    tier_labels: Mapped[list[float]]
    tie_rule: Mapped[str]
    split_rule: Mapped[str]
    #: Where the cuts come from: train, all, given or rank.
    fit: Mapped[str] = mapped_column(server_default="train")
    #: For each cut, how many of the labels that it was fitted on equal it.
    ties: Mapped[list[int]] = mapped_column(server_default=text("'[]'"))
    #: Bits in which perceptual hashes may differ for two photos to count as one picture.
    near_bits: Mapped[int | None]
    #: How many owners, duplicates and neighbours stand on several sides of the split.
    crossing: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    val: Mapped[float]
    test: Mapped[float]
    seed: Mapped[int]
    salt: Mapped[str]
    mean: Mapped[list[float]]
    std: Mapped[list[float]]
    fingerprint: Mapped[str]


class Member(Base):
    """One photo in a data set, as it was when the set was frozen."""

    __tablename__ = "members"
    __table_args__ = (
        CheckConstraint(one_of("split", ("train", "val", "test")), "split"),
        CheckConstraint("tier >= 1", "tier"),
        # The database looks here for each photo that is deleted; without, it passes over all rows.
        Index(None, "photo_id"),
    )

    dataset_id: Mapped[int] = mapped_column(
        ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    photo_id: Mapped[int] = mapped_column(
        ForeignKey("photos.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    label: Mapped[float]
    tier: Mapped[int]
    split: Mapped[str]
    file_key: Mapped[str]


class Run(Base):
    """One training run: what was asked, by which code, where it stands, what came out."""

    __tablename__ = "runs"
    __table_args__ = (
        CheckConstraint(states("state", RunState), "state"),
        CheckConstraint("(state = 'running') = (worker IS NOT NULL)", "running_has_worker"),
        CheckConstraint("state <> 'done' OR weights_sha256 IS NOT NULL", "done_has_weights"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("datasets.id"), index=True)
    config: Mapped[dict[str, Any]]
    seed: Mapped[int]
    versions: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    state: Mapped[str] = mapped_column(server_default=RunState.QUEUED)
    message: Mapped[str | None]
    worker: Mapped[str | None]
    term: Mapped[int] = mapped_column(server_default=text("0"))
    leased_until: Mapped[float] = mapped_column(server_default=text("0"))
    expiries: Mapped[int] = mapped_column(server_default=text("0"))
    rung: Mapped[float] = mapped_column(server_default=text("0"))
    stop_asked: Mapped[bool] = mapped_column(server_default=text("false"))
    progress: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    tracker: Mapped[str | None]
    folder: Mapped[str | None]
    best_epoch: Mapped[int | None]
    weights_sha256: Mapped[str | None]
    metrics: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[dt.datetime | None]


class Epoch(Base):
    """One epoch of a run: means over whole epochs, not over batches."""

    __tablename__ = "epochs"

    run_id: Mapped[int] = mapped_column(
        ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    epoch: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    train_loss: Mapped[float]
    train_accuracy: Mapped[float]
    val_loss: Mapped[float]
    val_accuracy: Mapped[float]
    lr: Mapped[float]
    seconds: Mapped[float]
    images_per_second: Mapped[float]


class Score(Base):
    """What one run says of one photo: a score, a tier, and the probability of each tier.

    Scores of a run that ranks have no unit, others the label's. `probabilities` are null where the
    run's objective makes none.
    """

    __tablename__ = "scores"
    __table_args__ = (
        CheckConstraint("tier >= 1", "tier"),
        # The best of a run come by the first, whatever needs all of a run by the second, in the
        # order in which photos lie. Both hold what most questions need, so that SQLite has no
        # reason to read rows instead; where two cost the same it takes the one made last, so the
        # migration makes them in this order. The key begins with the photo: for all of one photo.
        Index(None, "run_id", "score", "photo_id", "tier"),
        Index(None, "run_id", "photo_id", "score", "tier"),
    )

    photo_id: Mapped[int] = mapped_column(
        ForeignKey("photos.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    run_id: Mapped[int] = mapped_column(
        ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    score: Mapped[float]
    tier: Mapped[int]
    probabilities: Mapped[list[float] | None] = mapped_column(JSON(none_as_null=True))
    scored_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    #: The job that wrote it, and the revision of popq that computed it.
    job_id: Mapped[int | None]
    code: Mapped[str | None]


class Judgement(Base):
    """What a run said of one photo of the validation split when it was judged.

    The run's metrics are of just these. `probabilities` are null where its objective gives none.
    """

    __tablename__ = "judgements"
    __table_args__ = (
        CheckConstraint("tier >= 1", "tier"),
        Index(None, "photo_id"),  # for photos that are deleted, as in `members`
    )

    run_id: Mapped[int] = mapped_column(
        ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    photo_id: Mapped[int] = mapped_column(
        ForeignKey("photos.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    score: Mapped[float]
    tier: Mapped[int]
    probabilities: Mapped[list[float] | None] = mapped_column(JSON(none_as_null=True))
