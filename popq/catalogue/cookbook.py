"""Questions to a catalogue in SQL that SQLite and PostgreSQL both answer.

`page` makes docs/sql.md of them. `:run` and `:other` are runs' numbers. CROSS JOIN is SQLite's way
to be told where to begin; to PostgreSQL it is a join like any other.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Recipe(NamedTuple):
    """One question: a name for an address, the question itself, and the query that answers it."""

    name: str
    question: str
    sql: str


RECIPES: Final = (
    Recipe(
        "funnel",
        "Where are the photos?",
        "SELECT state, photos FROM funnel ORDER BY photos DESC;",
    ),
    Recipe(
        "reasons",
        "Why did photos leave?",
        "SELECT state, reason, photos FROM failure_reasons ORDER BY photos DESC;",
    ),
    Recipe(
        "losses_by_year",
        "How many photos of each year were lost? (where their date is known; the report reckons it"
        " for the others)",
        """\
SELECT substr(CAST(posted_at AS text), 1, 4) AS year, count(*) AS photos,
       sum(CASE WHEN state = 'gone' THEN 1 ELSE 0 END) AS gone,
       sum(CASE WHEN state = 'rejected' THEN 1 ELSE 0 END) AS rejected
FROM photos WHERE posted_at IS NOT NULL
GROUP BY substr(CAST(posted_at AS text), 1, 4) ORDER BY year;""",
    ),
    Recipe(
        "failed_tries",
        "What do failed tries come to, by stage?",
        """\
SELECT j.stage, f.outcome, count(*) AS tries, count(DISTINCT f.photo_id) AS photos
FROM failures f JOIN jobs j ON j.id = f.job_id
GROUP BY j.stage, f.outcome ORDER BY tries DESC;""",
    ),
    Recipe(
        "throughput",
        "How much has each job done, and how fast was a worker at it?",
        """\
SELECT job_id, stage, state, moved, exited, failed_tries,
       moved / nullif(busy_seconds, 0) AS per_busy_second
FROM throughput ORDER BY job_id;""",
    ),
    Recipe(
        "runs",
        "Which runs are there, how good are they, and how much have they scored?",
        """\
SELECT r.id AS run, d.name AS dataset, r.state, r.config->>'arch' AS arch,
       r.metrics->>'accuracy' AS accuracy, r.metrics->>'spearman' AS spearman,
       (SELECT count(*) FROM scores s WHERE s.run_id = r.id) AS scored
FROM runs r JOIN datasets d ON d.id = r.dataset_id ORDER BY r.id;""",
    ),
    Recipe(
        "best_of_a_run",
        "Which 100 photos does a run think most popular?",
        """\
SELECT url, owner, score, predicted_tier, label, split
FROM scored_photos WHERE run_id = :run ORDER BY score DESC LIMIT 100;""",
    ),
    Recipe(
        "best_unseen",
        "The same of photos that it has not trained on",
        """\
SELECT url, owner, score, predicted_tier, label
FROM scored_photos WHERE run_id = :run AND (split IS NULL OR split <> 'train')
ORDER BY score DESC LIMIT 100;""",
    ),
    Recipe(
        "owners",
        "Whose photos does it think most popular?",
        """\
SELECT owner, count(*) AS photos, avg(score) AS score, avg(label) AS label
FROM scored_photos WHERE run_id = :run
GROUP BY owner HAVING count(*) >= 5 ORDER BY score DESC LIMIT 50;""",
    ),
    Recipe(
        "best_of_each_owner",
        "Which is the best photo of each owner?",
        """\
SELECT owner, url, score FROM (
    SELECT owner, url, score,
           row_number() OVER (PARTITION BY owner ORDER BY score DESC, id) AS place
    FROM scored_photos WHERE run_id = :run AND owner IS NOT NULL
) AS ranked WHERE place = 1 ORDER BY score DESC LIMIT 50;""",
    ),
    Recipe(
        "of_one_owner",
        "What does it say of one owner's photos? (here: the owner of the photo it thinks best)",
        """\
SELECT p.page_url AS url, s.score, s.tier AS predicted_tier, p.label
FROM photos p CROSS JOIN scores s
WHERE s.photo_id = p.id AND s.run_id = :run AND p.owner = (
    SELECT owner FROM scored_photos WHERE run_id = :run AND owner IS NOT NULL
    ORDER BY score DESC LIMIT 1
)
ORDER BY s.score DESC;""",
    ),
    Recipe(
        "owner_bias",
        "Whose photos does it think much better, or worse, than they did?",
        """\
SELECT owner, count(*) AS photos, avg(score - label) AS bias
FROM scored_photos WHERE run_id = :run AND split <> 'train'
GROUP BY owner HAVING count(*) >= 5 ORDER BY abs(avg(score - label)) DESC LIMIT 50;""",
    ),
    Recipe(
        "accuracy",
        "How often is the tier right, on each split?",
        """\
SELECT split, count(*) AS photos,
       avg(CASE WHEN tier = predicted_tier THEN 1.0 ELSE 0.0 END) AS accuracy,
       avg(abs(score - label)) AS mean_absolute_error
FROM scored_photos WHERE run_id = :run AND tier IS NOT NULL GROUP BY split ORDER BY split;""",
    ),
    Recipe(
        "confusion",
        "Which tiers does it take for which?",
        """\
SELECT tier, predicted_tier, count(*) AS photos
FROM scored_photos WHERE run_id = :run AND split <> 'train'
GROUP BY tier, predicted_tier ORDER BY tier, predicted_tier;""",
    ),
    Recipe(
        "score_against_label",
        "Do scores rise with labels? (tenths of the photos, by label)",
        """\
SELECT tenth, count(*) AS photos, min(label) AS from_label, max(label) AS to_label,
       avg(score) AS score
FROM (
    SELECT label, score, ntile(10) OVER (ORDER BY label) AS tenth
    FROM scored_photos WHERE run_id = :run AND split <> 'train'
) AS cut GROUP BY tenth ORDER BY tenth;""",
    ),
    Recipe(
        "mistakes",
        "Where is it furthest off?",
        """\
SELECT url, label, score, tier, predicted_tier
FROM scored_photos WHERE run_id = :run AND split <> 'train'
ORDER BY abs(score - label) DESC LIMIT 50;""",
    ),
    Recipe(
        "sure_and_wrong",
        "Where is it sure, and wrong?",
        """\
SELECT url, tier, predicted_tier,
       CAST(probabilities->>CAST(predicted_tier - 1 AS integer) AS double precision) AS sure
FROM scored_photos WHERE run_id = :run AND split <> 'train' AND tier <> predicted_tier
ORDER BY sure DESC LIMIT 50;""",
    ),
    Recipe(
        "disagreement",
        "On which photos do two runs disagree most?",
        """\
SELECT p.page_url AS url, p.label, a.score, b.score AS other_score
FROM scores a
JOIN scores b ON b.photo_id = a.photo_id AND b.run_id = :other
JOIN photos p ON p.id = a.photo_id
WHERE a.run_id = :run ORDER BY abs(a.score - b.score) DESC LIMIT 50;""",
    ),
    Recipe(
        "tiers_of_two_runs",
        "How do two runs' tiers go together?",
        """\
SELECT a.tier, b.tier AS other_tier, count(*) AS photos, avg(abs(a.score - b.score)) AS apart
FROM scores a JOIN scores b ON b.photo_id = a.photo_id AND b.run_id = :other
WHERE a.run_id = :run GROUP BY a.tier, b.tier ORDER BY a.tier, b.tier;""",
    ),
    Recipe(
        "not_scored",
        "How many stored photos has a run not scored?",
        """\
SELECT count(*) AS photos FROM photos p
WHERE p.state = 'stored'
  AND NOT EXISTS (SELECT 1 FROM scores s WHERE s.run_id = :run AND s.photo_id = p.id);""",
    ),
    Recipe(
        "origin",
        "Where do scores come from: data set, weights, code, job?",
        """\
SELECT run_id, dataset, weights_sha256, code, job_id, count(*) AS photos,
       min(scored_at) AS first, max(scored_at) AS last
FROM scored_photos GROUP BY run_id, dataset, weights_sha256, code, job_id
ORDER BY run_id, job_id;""",
    ),
    Recipe(
        "by_month",
        "How do labels and scores move with the month of posting?",
        """\
SELECT substr(CAST(p.posted_at AS text), 1, 7) AS month, count(*) AS photos,
       avg(s.label) AS label, avg(s.score) AS score
FROM scored_photos s JOIN photos p ON p.id = s.id
WHERE s.run_id = :run AND p.posted_at IS NOT NULL
GROUP BY substr(CAST(p.posted_at AS text), 1, 7) ORDER BY month;""",
    ),
    Recipe(
        "licences",
        "Under which licences are the photos of the newest data set?",
        """\
SELECT p.licence, count(*) AS photos
FROM members m JOIN photos p ON p.id = m.photo_id
WHERE m.dataset_id = (SELECT max(id) FROM datasets)
GROUP BY p.licence ORDER BY photos DESC;""",
    ),
    Recipe(
        "copies",
        "Which pictures are stored for several photos?",
        """\
SELECT sha256, count(*) AS photos, count(DISTINCT owner) AS owners, min(page_url) AS one
FROM photos WHERE state = 'stored'
GROUP BY sha256 HAVING count(*) > 1 ORDER BY photos DESC LIMIT 50;""",
    ),
)

#: What a view or table is, for those who look at it in a browser.
TABLES: Final = {
    "scored_photos": "Every score with its photo: what a run says, and what the label says.",
    "photo_status": "Every photo: state, reason, and its tier in the newest data set.",
    "photos": "Every photo, with all that is known of it.",
    "scores": "What each run says of each photo, and which job and code wrote it.",
    "runs": "Trained networks: data set, configuration, metrics, hash of the weights.",
    "members": "Which photo is in which data set, with the label, tier and split it has there.",
    "failures": "Every failed try.",
    "jobs": "What was asked for.",
    "batches": "The ranges that jobs were cut into.",
}


def page() -> str:
    """Return docs/sql.md."""
    parts = [_HEAD]
    parts += [f"## {recipe.question}\n\n```sql\n{recipe.sql}\n```\n" for recipe in RECIPES]
    return "\n".join(parts)


_HEAD: Final = """\
# Questions to the catalogue, in SQL

Each runs as it stands on SQLite and PostgreSQL. `popq sql` opens the right prompt, read-only;
`popq browse` shows the same questions in a browser. `:run` and `:other` are runs' numbers: say
`.parameter set :run 1` at the sqlite3 prompt, `\\set run 1` at psql's; a browser asks for them.

`photo_status` has every photo, `scored_photos` every score with its photo. A score is in the
label's unit, but for a run that ranks: its scores only order photos, so what takes labels from
scores says nothing of it. `split <> 'train'` leaves the photos of the run's data set that it has
not trained on.
"""
