"""another way to do a job's stage: resolving without a key

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


def downgrade() -> None:
    op.drop_column("jobs", "via")
