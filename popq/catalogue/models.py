"""The tables of the catalogue, as SQLAlchemy typed models with CHECKs for what must never be.

Two kinds of time: columns named `*_at` are timestamps for people; `due`, `settled`, `leased_until`,
`paused_until`, `rung` and the like are epoch seconds of the database's clock, since leases and
pauses are arithmetic. A photo's row is written once per stage and no index covers what stages
update, so that PostgreSQL can update in place; but for `owner`, which resolving writes only where
the list did not name the owner, or another one.
"""

from __future__ import annotations

import datetime as dt
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from popq.catalogue.db import UtcDateTime
from popq.catalogue.states import (
    ACTIVE_JOBS,
    GONE_REASONS,
    REJECTED_REASONS,
    BatchState,
    JobState,
    PhotoState,
    RunState,
)

#: SQLite counts rows up by itself only for a column of type INTEGER.
Id = BigInteger().with_variant(Integer(), "sqlite")


class Base(DeclarativeBase):
    """Base of all models: stable constraint names, so that migrations can speak of them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own shape
        int: BigInteger(),
        str: Text(),
        float: Double(),
        dt.datetime: UtcDateTime(),
        dict[str, Any]: JSON(),
        list[float]: JSON(),
        list[int]: JSON(),
    }


def _one_of(column: str, values: object) -> str:
    names = sorted(str(value) for value in values)  # type: ignore[attr-defined]
    return f"{column} IN ({', '.join(repr(name) for name in names)})"


def _states(column: str, enum: type[StrEnum]) -> str:
    return _one_of(column, list(enum))


_ACTIVE = _one_of("state", ACTIVE_JOBS)


class Photo(Base):
    """One photo of the list, from its link to its stored file."""

    __tablename__ = "photos"
    __table_args__ = (
        CheckConstraint("(flickr_id IS NULL) <> (source_key IS NULL)", "one_identity"),
        CheckConstraint(_states("state", PhotoState), "state"),
        CheckConstraint(
            f"(reason IS NULL AND state NOT IN ('gone', 'rejected'))"
            # `NULL IN (...)` is NULL, which a CHECK lets through: so both need the NOT NULL.
            " OR (state = 'gone' AND reason IS NOT NULL"
            f" AND {_one_of('reason', GONE_REASONS)})"
            " OR (state = 'rejected' AND reason IS NOT NULL"
            f" AND {_one_of('reason', REJECTED_REASONS)})",
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


class Job(Base):
    """One request for work: a stage, and for scoring a run; at most one active of each."""

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(_states("state", JobState), "state"),
        CheckConstraint(_one_of("stage", ("resolve", "download", "score")), "stage"),
        CheckConstraint("(stage = 'score') = (run_id IS NOT NULL)", "score_has_run"),
        CheckConstraint(
            "(state IN ('done', 'cancelled', 'failed')) = (finished_at IS NOT NULL)", "finished"
        ),
        # At most one active job of a stage, and of a run for scoring.
        Index(
            "uq_jobs_active_stage",
            "stage",
            unique=True,
            sqlite_where=text(f"{_ACTIVE} AND run_id IS NULL"),
            postgresql_where=text(f"{_ACTIVE} AND run_id IS NULL"),
        ),
        Index(
            "uq_jobs_active_run",
            "run_id",
            unique=True,
            sqlite_where=text(f"{_ACTIVE} AND run_id IS NOT NULL"),
            postgresql_where=text(f"{_ACTIVE} AND run_id IS NOT NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    stage: Mapped[str]
    run_id: Mapped[int | None] = mapped_column(ForeignKey("runs.id"))
    filter: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    state: Mapped[str] = mapped_column(server_default=JobState.QUEUED)
    message: Mapped[str | None]
    requested_by: Mapped[str | None]
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[dt.datetime | None]
    rung: Mapped[float] = mapped_column(server_default=text("0"))
    #: The job that takes up what this one finishes; it cannot end before this one.
    then_id: Mapped[int | None]
    #: Another way to do the stage than its first: `oembed` resolves without a key.
    via: Mapped[str | None]


class Batch(Base):
    """One range of photo ids of a job: the lease, the unit of retry and the log line.

    `due` is the moment from which it may be claimed: its retry time while it is ready, the end of
    its lease while it is leased. `term` is the fencing token: every claim raises it. `begun`,
    `claimed` and `settled` are the moments of its first claim, its last claim and its last results.
    """

    __tablename__ = "batches"
    __table_args__ = (
        CheckConstraint(_states("state", BatchState), "state"),
        CheckConstraint("lo <= hi", "range"),
        CheckConstraint("(state = 'leased') = (worker IS NOT NULL)", "leased_has_worker"),
        # The claim reads the front of this index: it stays small whatever the number of photos.
        Index(
            "ix_batches_open",
            "job_id",
            "due",
            "id",
            sqlite_where=text("state <> 'done'"),
            postgresql_where=text("state <> 'done'"),
        ),
        # Who has batches in a job: few, and none but in a resolve job.
        Index(
            "ix_batches_owner",
            "job_id",
            "owner",
            sqlite_where=text("owner <> ''"),
            postgresql_where=text("owner <> ''"),
        ),
        # One open batch a job, owner and range: what an upstream job hands down twice is one batch.
        Index(
            "uq_batches_open_range",
            "job_id",
            "owner",
            "lo",
            "hi",
            unique=True,
            sqlite_where=text("state <> 'done'"),
            postgresql_where=text("state <> 'done'"),
        ),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    #: Whose photos it holds alone; '' for those of everybody who has no batch in the job.
    owner: Mapped[str] = mapped_column(server_default=text("''"))
    #: The page of the owner's photos that is asked for next; 0 when no more are.
    page: Mapped[int] = mapped_column(server_default=text("1"))
    lo: Mapped[int]
    hi: Mapped[int]
    photos: Mapped[int]
    state: Mapped[str] = mapped_column(server_default=BatchState.READY)
    due: Mapped[float] = mapped_column(server_default=text("0"))
    worker: Mapped[str | None]
    term: Mapped[int] = mapped_column(server_default=text("0"))
    expiries: Mapped[int] = mapped_column(server_default=text("0"))
    moved: Mapped[int] = mapped_column(server_default=text("0"))
    exited: Mapped[int] = mapped_column(server_default=text("0"))
    failed: Mapped[int] = mapped_column(server_default=text("0"))
    left: Mapped[int] = mapped_column(server_default=text("0"))
    bytes: Mapped[int] = mapped_column(server_default=text("0"))
    seconds: Mapped[float] = mapped_column(server_default=text("0"))
    begun: Mapped[float | None]
    claimed: Mapped[float | None]
    settled: Mapped[float | None]


class Failure(Base):
    """One failed attempt at a photo; a photo's tries in a job are counted here."""

    __tablename__ = "failures"
    __table_args__ = (Index(None, "job_id", "photo_id"),)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    photo_id: Mapped[int] = mapped_column(ForeignKey("photos.id", ondelete="CASCADE"), index=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    batch_id: Mapped[int]
    outcome: Mapped[str]
    http_status: Mapped[int | None]
    message: Mapped[str]
    failed_at: Mapped[dt.datetime] = mapped_column(server_default=func.now(), index=True)


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


class Host(Base):
    """One throttled thing (an API key, the image host): its rate and its pause."""

    __tablename__ = "hosts"

    name: Mapped[str] = mapped_column(primary_key=True)
    per_hour: Mapped[float]
    burst: Mapped[int]
    tat: Mapped[float] = mapped_column(server_default=text("0"))
    paused_until: Mapped[float] = mapped_column(server_default=text("0"))
    pause_s: Mapped[float] = mapped_column(server_default=text("0"))
    paused_why: Mapped[str | None]
    disabled_why: Mapped[str | None]


class Worker(Base):
    """One worker process that lives, or died without a word: `seen` is when it last said so."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(primary_key=True)
    queue: Mapped[str]
    threads: Mapped[int]
    started_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    seen: Mapped[float]


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
        CheckConstraint(_one_of("split", ("train", "val", "test")), "split"),
        CheckConstraint("tier >= 1", "tier"),
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
        CheckConstraint(_states("state", RunState), "state"),
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
        # For the best of a run, and for all that was said of one photo.
        Index(None, "run_id", "score"),
        Index(None, "photo_id"),
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
    scored_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    #: The job that wrote it, and the revision of popq that computed it.
    job_id: Mapped[int | None]
    code: Mapped[str | None]


class Judgement(Base):
    """What a run said of one photo of the validation split when it was judged.

    The run's metrics are of just these. `probabilities` are null where its objective gives none.
    """

    __tablename__ = "judgements"
    __table_args__ = (CheckConstraint("tier >= 1", "tier"),)

    run_id: Mapped[int] = mapped_column(
        ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    photo_id: Mapped[int] = mapped_column(
        ForeignKey("photos.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    score: Mapped[float]
    tier: Mapped[int]
    probabilities: Mapped[list[float] | None] = mapped_column(JSON(none_as_null=True))
