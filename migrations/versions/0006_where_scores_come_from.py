"""where scores come from, and indexes for the best of a run and for one photo's

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

BEFORE = """
SELECT p.id, p.flickr_id, p.page_url AS url, p.image_url, p.owner, p.label, p.state,
       m.tier, m.split, s.run_id, s.score, s.tier AS predicted_tier, s.probabilities, s.scored_at
FROM scores s
JOIN photos p ON p.id = s.photo_id
JOIN runs r ON r.id = s.run_id
LEFT JOIN members m ON m.photo_id = s.photo_id AND m.dataset_id = r.dataset_id
"""
AFTER = """
SELECT p.id, p.flickr_id, p.page_url AS url, p.image_url, p.owner, p.label, p.state,
       m.tier, m.split, s.run_id, s.score, s.tier AS predicted_tier, s.probabilities, s.scored_at,
       p.source_key, d.name AS dataset, r.weights_sha256, s.job_id, s.code
FROM scores s
JOIN photos p ON p.id = s.photo_id
JOIN runs r ON r.id = s.run_id
JOIN datasets d ON d.id = r.dataset_id
LEFT JOIN members m ON m.photo_id = s.photo_id AND m.dataset_id = r.dataset_id
"""


def upgrade() -> None:
    op.add_column("scores", sa.Column("job_id", sa.BigInteger(), nullable=True))
    op.add_column("scores", sa.Column("code", sa.Text(), nullable=True))
    op.create_index("ix_scores_run_id_score", "scores", ["run_id", "score"])
    op.create_index("ix_scores_photo_id", "scores", ["photo_id"])
    _view(AFTER)


def downgrade() -> None:
    _view(BEFORE)
    op.drop_index("ix_scores_photo_id", table_name="scores")
    op.drop_index("ix_scores_run_id_score", table_name="scores")
    op.drop_column("scores", "code")
    op.drop_column("scores", "job_id")


def _view(query: str) -> None:
    op.execute("DROP VIEW scored_photos")
    op.execute(f"CREATE VIEW scored_photos AS {query}")
