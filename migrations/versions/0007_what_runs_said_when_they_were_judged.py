"""what runs said when they were judged: each validation photo's score, tier and probabilities

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "judgements",
        sa.Column("run_id", key, autoincrement=False, nullable=False),
        sa.Column("photo_id", key, autoincrement=False, nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("tier", sa.BigInteger(), nullable=False),
        sa.Column("probabilities", sa.JSON(), nullable=True),
        sa.CheckConstraint("tier >= 1", name=op.f("ck_judgements_tier")),
        sa.ForeignKeyConstraint(
            ["photo_id"],
            ["photos.id"],
            name=op.f("fk_judgements_photo_id_photos"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_judgements_run_id_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "photo_id", name=op.f("pk_judgements")),
    )


def downgrade() -> None:
    op.drop_table("judgements")
