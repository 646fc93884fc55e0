"""The cookbook's questions are answered by both databases, and fast where they must be."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from sqlalchemy import text

from popq.catalogue import cookbook, scores
from popq.catalogue.cookbook import RECIPES
from popq.catalogue.scores import Scored

ROOT = Path(__file__).parents[2]
BEST = next(recipe for recipe in RECIPES if recipe.name == "best_of_a_run")


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


def test_the_best_of_a_run_are_read_by_index(scene):
    """As many rows as are shown are read, not all that were scored."""
    photos = scene.photos(3000, "stored")
    run, other = scene.run(done=True), scene.run(done=True)
    with scene.catalogue.begin() as tx:
        for of in (run, other):
            said = [Scored(p, float(p * 7919 % 3000), 1, [1.0]) for p in photos]
            scores.record(tx, of, said)
    if scene.catalogue.is_sqlite:
        plan = "\n".join(row[-1] for row in scene.rows(f"EXPLAIN QUERY PLAN {BEST.sql}", run=run))
        assert "ix_scores_run_id_score" in plan
        assert "TEMP B-TREE" not in plan
        assert "SCAN s" not in plan
        return
    with scene.catalogue.begin() as tx:
        tx.execute(text("ANALYZE"))
    told = scene.scalar(f"EXPLAIN (ANALYZE, FORMAT JSON) {BEST.sql.rstrip(';')}", run=run)
    plan = (json.loads(told) if isinstance(told, str) else told)[0]["Plan"]
    read = {}
    for node in nodes(plan):
        if "Relation Name" in node:
            rows = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
            read[node["Relation Name"]] = rows * node["Actual Loops"]
    assert read["scores"] <= 110
    assert read["photos"] <= 110


def nodes(plan):
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)
