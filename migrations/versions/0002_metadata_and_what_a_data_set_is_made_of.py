"""metadata files, and what a data set's cuts and split come to

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "metadata",
        sa.Column(
            "photo_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.ForeignKeyConstraint(
            ["photo_id"],
            ["photos.id"],
            name=op.f("fk_metadata_photo_id_photos"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("photo_id", "kind", name=op.f("pk_metadata")),
        sqlite_with_rowid=False,
    )
    for column in (
        sa.Column("fit", sa.Text(), server_default="train", nullable=False),
        sa.Column("ties", sa.JSON(), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("near_bits", sa.BigInteger(), nullable=True),
        sa.Column("crossing", sa.JSON(), server_default=sa.text("'{}'"), nullable=False),
    ):
        op.add_column("datasets", column)


def downgrade() -> None:
    for name in ("crossing", "near_bits", "ties", "fit"):
        op.drop_column("datasets", name)
    op.drop_table("metadata")
