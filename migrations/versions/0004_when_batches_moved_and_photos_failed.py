"""when a batch was claimed and settled, and an index on when a try failed

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("begun", "claimed", "settled"):
        op.add_column("batches", sa.Column(name, sa.Double(), nullable=True))
    op.create_index(op.f("ix_failures_failed_at"), "failures", ["failed_at"])


def downgrade() -> None:
    op.drop_index(op.f("ix_failures_failed_at"), table_name="failures")
    for name in ("settled", "claimed", "begun"):
        op.drop_column("batches", name)
