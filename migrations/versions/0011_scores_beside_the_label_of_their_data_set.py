"""scored_photos: beside a frozen tier the label that it was cut from, not today's

Revision ID: 0011
Revises: 0010
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

# A copy: a migration stays as it was when popq.catalogue.views moves on.
VIEW = """
SELECT p.id, p.flickr_id, p.page_url AS url, p.image_url, p.owner,
       {label} AS label, p.state,
       m.tier, m.split, s.run_id, s.score, s.tier AS predicted_tier, s.probabilities, s.scored_at,
       p.source_key, d.name AS dataset, r.weights_sha256, s.job_id, s.code
FROM scores s
JOIN photos p ON p.id = s.photo_id
LEFT JOIN runs r ON r.id = s.run_id
LEFT JOIN datasets d ON d.id = r.dataset_id
LEFT JOIN members m ON m.photo_id = s.photo_id AND m.dataset_id = r.dataset_id
"""


def upgrade() -> None:
    _view("coalesce(m.label, p.label)")


def downgrade() -> None:
    _view("p.label")


def _view(label: str) -> None:
    op.execute("DROP VIEW scored_photos")
    op.execute(f"CREATE VIEW scored_photos AS {VIEW.format(label=label)}")
