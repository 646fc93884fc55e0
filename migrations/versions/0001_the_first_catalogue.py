"""the first catalogue

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# A copy: a migration stays as it was when popq.catalogue.views moves on.
VIEWS = {
    "photo_status": """
SELECT p.id, p.flickr_id, p.page_url AS url, p.image_url, p.owner, p.label, p.state, p.reason,
       m.tier, m.split
FROM photos p
LEFT JOIN members m
  ON m.photo_id = p.id AND m.dataset_id = (SELECT max(id) FROM datasets)
""",
    "scored_photos": """
SELECT p.id, p.flickr_id, p.page_url AS url, p.image_url, p.owner, p.label, p.state,
       m.tier, m.split, s.run_id, s.score, s.tier AS predicted_tier, s.probabilities, s.scored_at
FROM scores s
JOIN photos p ON p.id = s.photo_id
JOIN runs r ON r.id = s.run_id
LEFT JOIN members m ON m.photo_id = s.photo_id AND m.dataset_id = r.dataset_id
""",
    "funnel": """
SELECT state, count(*) AS photos FROM photos GROUP BY state
""",
    "failure_reasons": """
SELECT state, reason, count(*) AS photos FROM photos
WHERE reason IS NOT NULL GROUP BY state, reason
""",
    "throughput": """
SELECT j.id AS job_id, j.stage, j.state, sum(b.moved) AS moved, sum(b.exited) AS exited,
       sum(b.failed) AS failed_tries, sum(b.bytes) AS bytes, sum(b.seconds) AS busy_seconds
FROM jobs j JOIN batches b ON b.job_id = j.id
GROUP BY j.id, j.stage, j.state
""",
}


def upgrade() -> None:
    op.create_table(
        "datasets",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("(CURRENT_TIMESTAMP)"),
            nullable=False,
        ),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("tiers", sa.BigInteger(), nullable=False),
        sa.Column("cuts", sa.JSON(), nullable=False),
        sa.Column("tier_labels", sa.JSON(), nullable=False),
        sa.Column("tie_rule", sa.Text(), nullable=False),
        sa.Column("split_rule", sa.Text(), nullable=False),
        sa.Column("val", sa.Double(), nullable=False),
        sa.Column("test", sa.Double(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("salt", sa.Text(), nullable=False),
        sa.Column("mean", sa.JSON(), nullable=False),
        sa.Column("std", sa.JSON(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_datasets")),
        sa.UniqueConstraint("name", name=op.f("uq_datasets_name")),
    )
    op.create_table(
        "hosts",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("per_hour", sa.Double(), nullable=False),
        sa.Column("burst", sa.BigInteger(), nullable=False),
        sa.Column("tat", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("paused_until", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("pause_s", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("disabled_why", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_hosts")),
    )
    op.create_table(
        "photos",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("flickr_id", sa.BigInteger(), nullable=True),
        sa.Column("source_key", sa.Text(), nullable=True),
        sa.Column("page_url", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("label", sa.Double(), nullable=True),
        sa.Column("state", sa.Text(), server_default="listed", nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("server", sa.Text(), nullable=True),
        sa.Column("secret", sa.Text(), nullable=True),
        sa.Column("image_url", sa.Text(), nullable=True),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("tags", sa.Text(), nullable=True),
        sa.Column("views", sa.BigInteger(), nullable=True),
        sa.Column("posted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("taken_at", sa.Text(), nullable=True),
        sa.Column("licence", sa.BigInteger(), nullable=True),
        sa.Column("file_key", sa.Text(), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("phash", sa.Text(), nullable=True),
        sa.Column("bytes", sa.BigInteger(), nullable=True),
        sa.Column("width", sa.BigInteger(), nullable=True),
        sa.Column("height", sa.BigInteger(), nullable=True),
        sa.Column("format", sa.Text(), nullable=True),
        sa.Column(
            "imported_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("(CURRENT_TIMESTAMP)"),
            nullable=False,
        ),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("stored_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(reason IS NULL AND state NOT IN ('gone', 'rejected')) OR (state = 'gone' AND reason IS NOT NULL AND reason IN ('gone', 'not_found', 'placeholder', 'private')) OR (state = 'rejected' AND reason IS NOT NULL AND reason IN ('corrupt', 'kills_worker', 'too_large', 'too_small', 'video'))",
            name=op.f("ck_photos_reason_of_exit"),
        ),
        sa.CheckConstraint(
            "state <> 'resolved' OR image_url IS NOT NULL", name=op.f("ck_photos_resolved_has_url")
        ),
        sa.CheckConstraint(
            "state <> 'stored' OR (file_key IS NOT NULL AND sha256 IS NOT NULL)",
            name=op.f("ck_photos_stored_has_file"),
        ),
        sa.CheckConstraint(
            "state IN ('gone', 'listed', 'rejected', 'resolved', 'stored')",
            name=op.f("ck_photos_state"),
        ),
        sa.CheckConstraint(
            "(flickr_id IS NULL) <> (source_key IS NULL)", name=op.f("ck_photos_one_identity")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_photos")),
        sa.UniqueConstraint("flickr_id", name=op.f("uq_photos_flickr_id")),
        sa.UniqueConstraint("source_key", name=op.f("uq_photos_source_key")),
        postgresql_with={"fillfactor": 80},
        sqlite_autoincrement=True,
    )
    op.create_table(
        "tombstones",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("flickr_id", sa.BigInteger(), nullable=True),
        sa.Column("source_key", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column(
            "purged_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("(CURRENT_TIMESTAMP)"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "(flickr_id IS NULL) <> (source_key IS NULL)", name=op.f("ck_tombstones_one_identity")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tombstones")),
        sa.UniqueConstraint("flickr_id", name=op.f("uq_tombstones_flickr_id")),
        sa.UniqueConstraint("source_key", name=op.f("uq_tombstones_source_key")),
    )
    op.create_table(
        "members",
        sa.Column(
            "dataset_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column(
            "photo_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("label", sa.Double(), nullable=False),
        sa.Column("tier", sa.BigInteger(), nullable=False),
        sa.Column("split", sa.Text(), nullable=False),
        sa.Column("file_key", sa.Text(), nullable=False),
        sa.CheckConstraint("split IN ('test', 'train', 'val')", name=op.f("ck_members_split")),
        sa.CheckConstraint("tier >= 1", name=op.f("ck_members_tier")),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.id"],
            name=op.f("fk_members_dataset_id_datasets"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["photo_id"], ["photos.id"], name=op.f("fk_members_photo_id_photos"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("dataset_id", "photo_id", name=op.f("pk_members")),
    )
    op.create_table(
        "moments",
        sa.Column(
            "photo_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("pixels", sa.BigInteger(), nullable=False),
        sa.Column("sum_r", sa.BigInteger(), nullable=False),
        sa.Column("sum_g", sa.BigInteger(), nullable=False),
        sa.Column("sum_b", sa.BigInteger(), nullable=False),
        sa.Column("square_r", sa.BigInteger(), nullable=False),
        sa.Column("square_g", sa.BigInteger(), nullable=False),
        sa.Column("square_b", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["photo_id"], ["photos.id"], name=op.f("fk_moments_photo_id_photos"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("photo_id", name=op.f("pk_moments")),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(
            "dataset_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("versions", sa.JSON(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("state", sa.Text(), server_default="queued", nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("term", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("leased_until", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("expiries", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("rung", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("folder", sa.Text(), nullable=True),
        sa.Column("best_epoch", sa.BigInteger(), nullable=True),
        sa.Column("weights_sha256", sa.Text(), nullable=True),
        sa.Column("metrics", sa.JSON(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("(CURRENT_TIMESTAMP)"),
            nullable=False,
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'running') = (worker IS NOT NULL)", name=op.f("ck_runs_running_has_worker")
        ),
        sa.CheckConstraint(
            "state <> 'done' OR weights_sha256 IS NOT NULL", name=op.f("ck_runs_done_has_weights")
        ),
        sa.CheckConstraint(
            "state IN ('done', 'failed', 'queued', 'running', 'stopped')",
            name=op.f("ck_runs_state"),
        ),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.id"], name=op.f("fk_runs_dataset_id_datasets")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
    )
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_runs_dataset_id"), ["dataset_id"], unique=False)

    op.create_table(
        "epochs",
        sa.Column(
            "run_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("epoch", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("train_loss", sa.Double(), nullable=False),
        sa.Column("train_accuracy", sa.Double(), nullable=False),
        sa.Column("val_loss", sa.Double(), nullable=False),
        sa.Column("val_accuracy", sa.Double(), nullable=False),
        sa.Column("lr", sa.Double(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("images_per_second", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_epochs_run_id_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "epoch", name=op.f("pk_epochs")),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("run_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("filter", sa.JSON(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("state", sa.Text(), server_default="queued", nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("requested_by", sa.Text(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("(CURRENT_TIMESTAMP)"),
            nullable=False,
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("rung", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint(
            "(stage = 'score') = (run_id IS NOT NULL)", name=op.f("ck_jobs_score_has_run")
        ),
        sa.CheckConstraint(
            "(state IN ('done', 'cancelled', 'failed')) = (finished_at IS NOT NULL)",
            name=op.f("ck_jobs_finished"),
        ),
        sa.CheckConstraint("stage IN ('download', 'resolve', 'score')", name=op.f("ck_jobs_stage")),
        sa.CheckConstraint(
            "state IN ('cancelled', 'done', 'failed', 'paused', 'queued', 'running')",
            name=op.f("ck_jobs_state"),
        ),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_jobs_run_id_runs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.create_index(
            "uq_jobs_active_run",
            ["run_id"],
            unique=True,
            sqlite_where=sa.text("state IN ('paused', 'queued', 'running') AND run_id IS NOT NULL"),
            postgresql_where=sa.text(
                "state IN ('paused', 'queued', 'running') AND run_id IS NOT NULL"
            ),
        )
        batch_op.create_index(
            "uq_jobs_active_stage",
            ["stage"],
            unique=True,
            sqlite_where=sa.text("state IN ('paused', 'queued', 'running') AND run_id IS NULL"),
            postgresql_where=sa.text("state IN ('paused', 'queued', 'running') AND run_id IS NULL"),
        )

    op.create_table(
        "scores",
        sa.Column(
            "run_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column(
            "photo_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("tier", sa.BigInteger(), nullable=False),
        sa.Column("probabilities", sa.JSON(), nullable=False),
        sa.Column(
            "scored_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("(CURRENT_TIMESTAMP)"),
            nullable=False,
        ),
        sa.CheckConstraint("tier >= 1", name=op.f("ck_scores_tier")),
        sa.ForeignKeyConstraint(
            ["photo_id"], ["photos.id"], name=op.f("fk_scores_photo_id_photos"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_scores_run_id_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "photo_id", name=op.f("pk_scores")),
    )
    op.create_table(
        "batches",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("job_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("lo", sa.BigInteger(), nullable=False),
        sa.Column("hi", sa.BigInteger(), nullable=False),
        sa.Column("photos", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), server_default="ready", nullable=False),
        sa.Column("due", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("term", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("expiries", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("moved", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("exited", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("failed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("left", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("seconds", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint(
            "(state = 'leased') = (worker IS NOT NULL)", name=op.f("ck_batches_leased_has_worker")
        ),
        sa.CheckConstraint("state IN ('done', 'leased', 'ready')", name=op.f("ck_batches_state")),
        sa.CheckConstraint("lo <= hi", name=op.f("ck_batches_range")),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_batches_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batches")),
    )
    with op.batch_alter_table("batches", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_batches_job_id"), ["job_id"], unique=False)
        batch_op.create_index(
            "ix_batches_open",
            ["job_id", "due", "id"],
            unique=False,
            sqlite_where=sa.text("state <> 'done'"),
            postgresql_where=sa.text("state <> 'done'"),
        )

    op.create_table(
        "failures",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("photo_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("job_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("batch_id", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("http_status", sa.BigInteger(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column(
            "failed_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("(CURRENT_TIMESTAMP)"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_failures_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["photo_id"],
            ["photos.id"],
            name=op.f("fk_failures_photo_id_photos"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_failures")),
    )
    with op.batch_alter_table("failures", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_failures_job_id_photo_id"), ["job_id", "photo_id"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_failures_photo_id"), ["photo_id"], unique=False)

    for name, select in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {select}")


def downgrade() -> None:
    for name in reversed(VIEWS):
        op.execute(f"DROP VIEW {name}")
    with op.batch_alter_table("failures", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_failures_photo_id"))
        batch_op.drop_index(batch_op.f("ix_failures_job_id_photo_id"))

    op.drop_table("failures")
    with op.batch_alter_table("batches", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_batches_open",
            sqlite_where=sa.text("state <> 'done'"),
            postgresql_where=sa.text("state <> 'done'"),
        )
        batch_op.drop_index(batch_op.f("ix_batches_job_id"))

    op.drop_table("batches")
    op.drop_table("scores")
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_jobs_active_stage",
            sqlite_where=sa.text("state IN ('paused', 'queued', 'running') AND run_id IS NULL"),
            postgresql_where=sa.text("state IN ('paused', 'queued', 'running') AND run_id IS NULL"),
        )
        batch_op.drop_index(
            "uq_jobs_active_run",
            sqlite_where=sa.text("state IN ('paused', 'queued', 'running') AND run_id IS NOT NULL"),
            postgresql_where=sa.text(
                "state IN ('paused', 'queued', 'running') AND run_id IS NOT NULL"
            ),
        )

    op.drop_table("jobs")
    op.drop_table("epochs")
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_runs_dataset_id"))

    op.drop_table("runs")
    op.drop_table("moments")
    op.drop_table("members")
    op.drop_table("tombstones")
    op.drop_table("photos")
    op.drop_table("hosts")
    op.drop_table("datasets")
