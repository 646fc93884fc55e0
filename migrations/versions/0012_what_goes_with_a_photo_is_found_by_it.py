"""members and judgements: found by photo, too, for those who delete one

Revision ID: 0012
Revises: 0011
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

TABLES = ("members", "judgements")


def upgrade() -> None:
    for table in TABLES:
        op.create_index(f"ix_{table}_photo_id", table, ["photo_id"])


def downgrade() -> None:
    for table in TABLES:
        op.drop_index(f"ix_{table}_photo_id", table_name=table)
