"""runs: asked to stop, how far they are, and who else is told of them

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "runs",
        sa.Column("stop_asked", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    op.add_column(
        "runs", sa.Column("progress", sa.JSON(), server_default=sa.text("'{}'"), nullable=False)
    )
    op.add_column("runs", sa.Column("tracker", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("runs", "tracker")
    op.drop_column("runs", "progress")
    op.drop_column("runs", "stop_asked")
