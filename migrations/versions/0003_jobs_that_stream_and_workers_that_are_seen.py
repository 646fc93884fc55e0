"""jobs that hand on what they finish, workers that are seen, why a host is paused

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # No foreign key: SQLite can add one only by making the table anew, and jobs are never deleted.
    op.add_column("jobs", sa.Column("then_id", sa.BigInteger(), nullable=True))
    op.create_index(
        "uq_batches_open_range",
        "batches",
        ["job_id", "lo", "hi"],
        unique=True,
        sqlite_where=sa.text("state <> 'done'"),
        postgresql_where=sa.text("state <> 'done'"),
    )
    op.add_column("hosts", sa.Column("paused_why", sa.Text(), nullable=True))
    op.create_table(
        "workers",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("threads", sa.BigInteger(), nullable=False),
        sa.Column(
            "started_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("(CURRENT_TIMESTAMP)"),
            nullable=False,
        ),
        sa.Column("seen", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_workers")),
    )


def downgrade() -> None:
    op.drop_table("workers")
    op.drop_column("hosts", "paused_why")
    op.drop_index("uq_batches_open_range", table_name="batches")
    op.drop_column("jobs", "then_id")
