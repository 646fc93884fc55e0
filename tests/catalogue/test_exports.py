"""Exports read in stretches: each reads its own rows, whatever order the planner joins them in."""

from __future__ import annotations

import itertools
import json

import pytest
from catalogue.scene import Scene
from sqlalchemy import event, text

from popq.catalogue import exports

PHOTOS = 12_000
MANY = (
    """INSERT INTO photos (flickr_id, page_url, label, state, image_url, file_key, sha256)
    SELECT i, 'https://x/' || i, i, 'stored', 'https://x/' || i, i || '.jpg', i
    FROM generate_series(1, :photos) AS n(i)""",
    """INSERT INTO members (dataset_id, photo_id, label, tier, split, file_key)
    SELECT 1, id, label, 1, 'train', file_key FROM photos LIMIT :photos""",
    """INSERT INTO scores (run_id, photo_id, score, tier)
    SELECT 1, id, label, 1 FROM photos LIMIT :photos""",
)


def _rows_read(node):
    """Yield how many rows each step of a plan passed on or threw away."""
    removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Join Filter", 0)
    yield (node["Actual Rows"] + removed) * node["Actual Loops"]
    for part in node.get("Plans", ()):
        yield from _rows_read(part)


@pytest.mark.parametrize("what", [exports.scores, exports.members])
def test_a_later_stretch_reads_no_row_of_those_before(postgres, what):
    """As with a million photos, where PostgreSQL merges the tables in the order of ids."""
    scene = Scene(postgres)
    scene.run(scene.dataset("d1"), done=True)
    for statement in MANY:
        scene.do(statement, photos=PHOTOS)
    scene.do("ANALYZE")
    asked = []
    with postgres.read() as tx:
        for way in ("nestloop", "hashjoin", "seqscan", "bitmapscan"):
            tx.execute(text(f"SET enable_{way} = off"))
        event.listen(tx, "before_cursor_execute", lambda *told: asked.append(told[2:4]))
        stretches = [len(part) for part in itertools.islice(what(tx, 1), 3)]
        assert stretches == [5_000, 5_000, 2_000]
        statement, values = asked[-1]
        explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
        (plan,) = tx.exec_driver_sql(explain, values).scalar_one()
    assert max(_rows_read(plan["Plan"])) <= 2_000, json.dumps(plan, indent=1)
