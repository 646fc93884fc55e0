"""The cookbook's questions are answered by both databases, and fast where they must be."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import text

from popq.catalogue import cookbook, scores
from popq.catalogue.cookbook import RECIPES
from popq.catalogue.scores import Scored

ROOT = Path(__file__).parents[2]
#: SQLite's name of the key of scores.
KEY = "sqlite_autoindex_scores_1"


@pytest.fixture
def answered(scene):
    """Two runs' scores of 60 photos, half of which are in a data set, and a failed try."""
    photos = scene.photos(60, "stored")
    gone = scene.photo(state="gone", reason="private")
    scene.do("UPDATE photos SET posted_at = '2015-06-01 12:00:00', sha256 = 'same' WHERE id < 3")
    rows = [
        (p, float(n), 1 + n % 2, ("train", "val")[n % 2], "a.jpg")
        for n, p in enumerate(photos[:50])
    ]
    dataset = scene.dataset("d1", rows)
    job = scene.enqueue("download", size=100).job
    assert job is None
    runs = [scene.run(dataset, done=True) for _ in range(2)]
    with scene.catalogue.begin() as tx:
        for run in runs:
            said = [Scored(p, p * run / 7, 1 + p % 2, [0.25, 0.75]) for p in photos]
            scores.record(tx, run, said)
    assert gone
    return scene


def test_the_page_has_all_questions():
    assert (ROOT / "docs" / "sql.md").read_text() == cookbook.page()
    assert len({recipe.name for recipe in RECIPES}) == len(RECIPES) >= 15
    blocks = re.findall(r"```sql\n(.*?)\n```", cookbook.page(), re.DOTALL)
    assert blocks == [recipe.sql for recipe in RECIPES]


#: What there is nothing of in the scene: no try failed, no batch was made.
NOTHING = {"failed_tries", "throughput"}


def test_every_question_is_answered(answered):
    for recipe in RECIPES:
        wanted = re.findall(r":(run|other)\b", recipe.sql)
        rows = answered.rows(recipe.sql, **{name: 1 + (name == "other") for name in wanted})
        assert bool(rows) == (recipe.name not in NOTHING), recipe.name


PHOTOS = 10_000
BY_SCORE = "ix_scores_run_id_score_photo_id_tier"
BY_PHOTO = "ix_scores_run_id_photo_id_score_tier"
#: What a person would ask without looking anything up.
PLAIN = "SELECT * FROM scored_photos WHERE run_id = :run ORDER BY score DESC LIMIT 100"
SQL = {"plain": PLAIN, **{recipe.name: recipe.sql.rstrip(";") for recipe in RECIPES}}
_NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :photos)"
MANY = (
    f"""INSERT INTO photos (flickr_id, page_url, owner, label, state, image_url, file_key, sha256)
    {_NUMBERS} SELECT i, 'https://x/' || i, (i % 500) || '@N00', i % 100, 'stored',
    'https://x/' || i || '.jpg', i || '.jpg', i FROM n""",
    """INSERT INTO members (dataset_id, photo_id, label, tier, split, file_key)
    SELECT 1, id, label, 1, CASE WHEN id % 4 = 0 THEN 'val' ELSE 'train' END, file_key
    FROM photos WHERE id % 3 > 0 AND :photos > 0""",
    """INSERT INTO scores (run_id, photo_id, score, tier, probabilities)
    SELECT r.id, p.id, (p.id * (7919 + r.id)) % :photos / 10.0, 1, '[1.0]'
    FROM runs r, photos p ORDER BY r.id, p.id""",
)


@pytest.fixture(params=[1, 4], ids=["one run", "four runs"])
def scored(scene, request):
    """A catalogue of many photos, 20 an owner, that so many runs have scored."""
    scene.dataset("d1")
    for _ in range(request.param):
        scene.run(done=True)
    for statement in MANY:
        scene.do(statement, photos=PHOTOS)
    scene.runs = request.param
    return scene


def with_and_without_statistics(scene):
    """Yield once before and once after the planner knows; PostgreSQL finds out by itself."""
    if scene.catalogue.is_sqlite:
        yield
    scene.do("ANALYZE")
    yield


def given(query, runs):
    """Return the values of a query's variables, two different runs if there are two."""
    wanted = set(re.findall(r":(run|other)\b", query))
    return {name: 1 + (name == "other" and runs > 1) for name in wanted}


def test_the_best_of_a_run_are_read_in_order_of_scores_and_no_others(scored):
    """About as many rows as are shown are read, not all that were scored."""
    for _ in with_and_without_statistics(scored):
        for name in ("plain", "best_of_a_run", "best_unseen"):
            if scored.catalogue.is_sqlite:
                plan = sqlite_plan(scored, SQL[name])
                assert re.search(f"^SEARCH s USING (COVERING )?INDEX {BY_SCORE}", plan), name
                assert "TEMP B-TREE" not in plan, name
            elif name != "best_unseen":  # so few photos are read faster at a stretch
                read = postgres_reads(scored, SQL[name])
                assert max(read["scores"], read["photos"]) <= 110, name


WHOLE = {
    "owners": 1,
    "owner_bias": 1,
    "score_against_label": 1,
    "mistakes": 1,
    "disagreement": 2,
    "tiers_of_two_runs": 2,
}


def test_what_needs_all_of_a_run_reads_it_in_the_order_of_photos_and_no_other_run(scored):
    """Rows of photos and scores in the order of scores would be a seek each."""
    for _ in with_and_without_statistics(scored):
        for name, readings in WHOLE.items():
            if scored.catalogue.is_sqlite:
                plan = sqlite_plan(scored, SQL[name])
                found = re.findall(r"SEARCH [sab] USING (?:COVERING )?INDEX (\w+)", plan)
                assert len(found) == readings, name
                assert set(found) <= {BY_PHOTO, KEY}, name
            else:
                read = postgres_reads(scored, SQL[name], at_a_stretch=False)
                assert read["scores thrown away"] == 0, name
                # Twice where a merge of two runs goes back in one to where a photo began.
                assert read["scores"] <= 2 * readings * PHOTOS, name


def test_of_one_owners_photos_no_others_are_read(scored):
    query = SQL["of_one_owner"]
    assert len(scored.rows(query, run=1)) == 20
    for _ in with_and_without_statistics(scored):
        if scored.catalogue.is_sqlite:
            plan = sqlite_plan(scored, query)
            assert "SEARCH p USING INDEX ix_photos_owner (owner=?)" in plan
            assert re.search(r"SEARCH s USING .*INDEX \w+ \(\w+=\? AND \w+=\?\)", plan)
        else:
            read = postgres_reads(scored, query)
            assert max(read["scores"], read["photos"]) <= 2 * 20 + 2


def test_of_what_was_said_of_one_photo_nothing_else_is_read(scored):
    query = "SELECT run_id, score FROM scored_photos WHERE id = 7"
    assert len(scored.rows(query)) == scored.runs
    for _ in with_and_without_statistics(scored):
        if scored.catalogue.is_sqlite:
            assert f"SEARCH s USING INDEX {KEY} (photo_id=?)" in sqlite_plan(scored, query)
        else:
            assert postgres_reads(scored, query)["scores"] == scored.runs


def sqlite_plan(scene, query):
    explained = scene.rows(f"EXPLAIN QUERY PLAN {query}", **given(query, scene.runs))
    # What runs and data sets there are is found first, or last; it is a row or a few.
    return "\n".join(row[-1] for row in explained if not re.match(r"(SCAN|SEARCH) [rd]\b", row[-1]))


def postgres_reads(scene, query, *, at_a_stretch=True):
    """Return how many rows of each table the query read, and threw away ("TABLE thrown away").

    So small a table is often read fastest at a stretch, whatever of it is wanted; without
    `at_a_stretch` the planner must show which index it has for the query.
    """
    explain = text(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}")
    with scene.catalogue.begin() as tx:
        if not at_a_stretch:
            tx.execute(text("SET LOCAL enable_seqscan = off"))
        told = tx.execute(explain, given(query, scene.runs)).scalar_one()
    plan = (json.loads(told) if isinstance(told, str) else told)[0]["Plan"]
    read = Counter()
    for node in nodes(plan):
        if "Relation Name" in node:
            table, loops = node["Relation Name"], node["Actual Loops"]
            dropped = node.get("Rows Removed by Filter", 0)
            read[table] += (node["Actual Rows"] + dropped) * loops
            read[f"{table} thrown away"] += dropped * loops
    return read


def nodes(plan):
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)
