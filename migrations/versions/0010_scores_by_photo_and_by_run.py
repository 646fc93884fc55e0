"""scores: one key by photo, and two indexes by run that answer without the rows themselves

Revision ID: 0010
Revises: 0009
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# Copies: a migration stays as it was when popq.catalogue.views moves on.
BEFORE = """
SELECT p.id, p.flickr_id, p.page_url AS url, p.image_url, p.owner, p.label, p.state,
       m.tier, m.split, s.run_id, s.score, s.tier AS predicted_tier, s.probabilities, s.scored_at,
       p.source_key, d.name AS dataset, r.weights_sha256, s.job_id, s.code
FROM scores s
JOIN photos p ON p.id = s.photo_id
JOIN runs r ON r.id = s.run_id
JOIN datasets d ON d.id = r.dataset_id
LEFT JOIN members m ON m.photo_id = s.photo_id AND m.dataset_id = r.dataset_id
"""
AFTER = """
SELECT p.id, p.flickr_id, p.page_url AS url, p.image_url, p.owner, p.label, p.state,
       m.tier, m.split, s.run_id, s.score, s.tier AS predicted_tier, s.probabilities, s.scored_at,
       p.source_key, d.name AS dataset, r.weights_sha256, s.job_id, s.code
FROM scores s
JOIN photos p ON p.id = s.photo_id
LEFT JOIN runs r ON r.id = s.run_id
LEFT JOIN datasets d ON d.id = r.dataset_id
LEFT JOIN members m ON m.photo_id = s.photo_id AND m.dataset_id = r.dataset_id
"""
OLD = {"ix_scores_run_id_score": ["run_id", "score"], "ix_scores_photo_id": ["photo_id"]}
# In this order: where two cost the same, SQLite takes the one that was made last.
NEW = {
    "ix_scores_run_id_score_photo_id_tier": ["run_id", "score", "photo_id", "tier"],
    "ix_scores_run_id_photo_id_score_tier": ["run_id", "photo_id", "score", "tier"],
}


def upgrade() -> None:
    _change(OLD, ["photo_id", "run_id"], NEW, AFTER)


def downgrade() -> None:
    _change(NEW, ["run_id", "photo_id"], OLD, BEFORE)


def _change(gone: dict[str, list[str]], key: list[str], new: dict[str, list[str]], view: str):
    # SQLite writes the table anew under another name, which a view on it would not survive.
    op.execute("DROP VIEW scored_photos")
    for name in gone:
        op.drop_index(name, table_name="scores")
    with op.batch_alter_table("scores") as scores:
        scores.drop_constraint("pk_scores", type_="primary")
        scores.create_primary_key("pk_scores", key)
    for name, columns in new.items():
        op.create_index(name, "scores", columns)
    op.execute(f"CREATE VIEW scored_photos AS {view}")
