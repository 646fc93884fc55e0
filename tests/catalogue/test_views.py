"""The views that a person at a SQL prompt finds are those that the module says."""

from __future__ import annotations

from catalogue.scene import stored
from sqlalchemy import inspect, text

from popq.catalogue import scores
from popq.catalogue.batches import Failed
from popq.catalogue.scores import Scored
from popq.catalogue.views import VIEWS
from popq.errors import Outcome


def test_the_database_holds_exactly_these_views(catalogue):
    with catalogue.begin() as tx:
        assert sorted(inspect(tx).get_view_names()) == sorted(VIEWS)
        definition = "SELECT sql FROM sqlite_master WHERE name = :name"
        if not catalogue.is_sqlite:
            definition = "SELECT pg_get_viewdef(CAST(:name AS regclass))"
        for name, query in VIEWS.items():
            there = tx.execute(text(definition), {"name": name}).scalar_one()
            tx.execute(text(f"CREATE VIEW afresh AS {query}"))
            ours = tx.execute(text(definition), {"name": "afresh"}).scalar_one()
            tx.execute(text("DROP VIEW afresh"))
            assert there.replace(name, "") == ours.replace("afresh", ""), name


def test_views_tell_of_states_tiers_scores_and_throughput(scene):
    first, second = scene.photos(2, "stored")
    lost = scene.photo(state="gone", reason="private")
    scene.dataset("old", [(first, 1.0, 1, "val", "a.jpg")])
    new = scene.dataset("new", [(first, 1.0, 2, "train", "a.jpg")])
    run = scene.run(new, done=True)
    with scene.catalogue.begin() as tx:
        scores.record(tx, run, [Scored(first, 0.25, 1, [0.75, 0.25]), Scored(second, 1, 2, [0, 1])])

    tiers = dict(scene.rows("SELECT id, tier FROM photo_status"))
    assert tiers == {first: 2, second: None, lost: None}
    scored = scene.rows("SELECT id, tier, split, predicted_tier, score FROM scored_photos")
    assert sorted(scored) == [(first, 2, "train", 1, 0.25), (second, None, None, 2, 1.0)]
    assert dict(scene.rows("SELECT state, photos FROM funnel")) == {"stored": 2, "gone": 1}
    reasons = scene.rows("SELECT state, reason, photos FROM failure_reasons")
    assert reasons == [("gone", "private", 1)]


def test_a_score_stands_beside_the_label_that_its_tier_was_cut_from(scene):
    inside, outside = scene.photos(2, "stored")
    run = scene.run(scene.dataset("d1", [(inside, 1.0, 2, "val", "a.jpg")]), done=True)
    with scene.catalogue.begin() as tx:
        scores.record(tx, run, [Scored(photo, 0.5, 1, None) for photo in (inside, outside)])
    scene.do("UPDATE photos SET label = 16.0")
    shown = scene.rows("SELECT id, label, tier FROM scored_photos ORDER BY id")
    assert shown == [(inside, 1.0, 2), (outside, 16.0, None)]


def test_throughput_sums_the_batches_of_each_job(scene):
    photos = scene.photos(4, "resolved")
    job = scene.enqueue("download", size=2).job
    for pair in (photos[:2], photos[2:]):
        failed = Failed(pair[1], Outcome.TRANSIENT, "reset")
        scene.close(scene.claim(job), [stored(pair[0])], [failed])
    rows = scene.rows("SELECT job_id, stage, state, moved, exited, failed_tries FROM throughput")
    assert [tuple(map(str, row)) for row in rows] == [(str(job), "download", "done", "2", "0", "2")]
