"""Tables of work: jobs and their batches, failed tries, throttled hosts, workers."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from popq.catalogue.models.base import Base, Id, one_of, states
from popq.catalogue.states import ACTIVE_JOBS, BatchState, JobState

_ACTIVE = one_of("state", ACTIVE_JOBS)


class Job(Base):
    """One request for work: a stage, and for scoring a run; at most one active of each."""

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(states("state", JobState), "state"),
        CheckConstraint(one_of("stage", ("resolve", "download", "score")), "stage"),
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
        CheckConstraint(states("state", BatchState), "state"),
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
