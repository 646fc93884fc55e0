"""scores without probabilities: an objective that ranks or regresses has none

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# A copy: a migration stays as it was when popq.catalogue.views moves on.
SCORED_PHOTOS = """
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
    _probabilities(nullable=True)


def downgrade() -> None:
    op.execute("DELETE FROM scores WHERE probabilities IS NULL")
    _probabilities(nullable=False)


def _probabilities(*, nullable: bool) -> None:
    # SQLite writes the table anew under another name, which a view on it would not survive.
    op.execute("DROP VIEW scored_photos")
    with op.batch_alter_table("scores") as scores:
        scores.alter_column("probabilities", existing_type=sa.JSON(), nullable=nullable)
    op.execute(f"CREATE VIEW scored_photos AS {SCORED_PHOTOS}")
