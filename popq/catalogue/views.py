"""Views for a person with a SQL prompt: what they want first, under names that say it."""

from __future__ import annotations

from typing import Final

#: Name to SELECT, in order of creation. A change here needs a migration; a test compares.
#: `scored_photos` has a run and a data set for every score; they are joined from the left all the
#: same, since SQLite with statistics would begin with them and then sort all scores of a run.
#: Its label is the data set's, from which tier and judgement are, and today's for other photos.
VIEWS: Final[dict[str, str]] = {
    "photo_status": """
SELECT p.id, p.flickr_id, p.page_url AS url, p.image_url, p.owner, p.label, p.state, p.reason,
       m.tier, m.split
FROM photos p
LEFT JOIN members m
  ON m.photo_id = p.id AND m.dataset_id = (SELECT max(id) FROM datasets)
""",
    "scored_photos": """
SELECT p.id, p.flickr_id, p.page_url AS url, p.image_url, p.owner,
       coalesce(m.label, p.label) AS label, p.state,
       m.tier, m.split, s.run_id, s.score, s.tier AS predicted_tier, s.probabilities, s.scored_at,
       p.source_key, d.name AS dataset, r.weights_sha256, s.job_id, s.code
FROM scores s
JOIN photos p ON p.id = s.photo_id
LEFT JOIN runs r ON r.id = s.run_id
LEFT JOIN datasets d ON d.id = r.dataset_id
LEFT JOIN members m ON m.photo_id = s.photo_id AND m.dataset_id = r.dataset_id
""",
    "funnel": """
SELECT state, count(*) AS photos FROM photos GROUP BY state
""",
    "failure_reasons": """
SELECT state, reason, count(*) AS photos FROM photos
WHERE reason IS NOT NULL GROUP BY state, reason
""",
    "throughput": """
SELECT j.id AS job_id, j.stage, j.state, sum(b.moved) AS moved, sum(b.exited) AS exited,
       sum(b.failed) AS failed_tries, sum(b.bytes) AS bytes, sum(b.seconds) AS busy_seconds
FROM jobs j JOIN batches b ON b.job_id = j.id
GROUP BY j.id, j.stage, j.state
""",
}
