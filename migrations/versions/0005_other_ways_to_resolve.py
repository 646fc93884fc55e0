"""other ways to resolve: without a key, and by the pages of an owner

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("via", sa.Text(), nullable=True))
    op.add_column(
        "batches", sa.Column("owner", sa.Text(), server_default=sa.text("''"), nullable=False)
    )
    op.add_column(
        "batches", sa.Column("page", sa.BigInteger(), server_default=sa.text("1"), nullable=False)
    )
    op.create_index(
        "ix_batches_owner",
        "batches",
        ["job_id", "owner"],
        sqlite_where=sa.text("owner <> ''"),
        postgresql_where=sa.text("owner <> ''"),
    )
    _open_range("job_id", "owner", "lo", "hi")
    op.create_index("ix_photos_owner", "photos", ["owner"])


def downgrade() -> None:
    op.drop_index("ix_photos_owner", table_name="photos")
    _open_range("job_id", "lo", "hi")
    op.drop_index("ix_batches_owner", table_name="batches")
    op.drop_column("batches", "page")
    op.drop_column("batches", "owner")
    op.drop_column("jobs", "via")


def _open_range(*columns: str) -> None:
    op.drop_index("uq_batches_open_range", table_name="batches")
    op.create_index(
        "uq_batches_open_range",
        "batches",
        list(columns),
        unique=True,
        sqlite_where=sa.text("state <> 'done'"),
        postgresql_where=sa.text("state <> 'done'"),
    )
