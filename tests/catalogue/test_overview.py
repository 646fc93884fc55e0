"""What `popq status` tells: rates and time left, who works at what, what waits and what failed."""

from __future__ import annotations

import pytest
from catalogue.scene import resolved

from popq.catalogue import overview

#: Real time that a test may take, as a share of the shortest faked one (100 s).
SLACK = 0.05


@pytest.fixture
def job(scene):
    """A resolve job of ten batches of ten photos."""
    scene.photos(100)
    return scene.enqueue(size=10).job


def took(scene, batch, *, begun, settled, moved=10, exited=0):
    """Let a batch have been worked between so many seconds ago and so many seconds ago."""
    now = scene.catalogue_now()
    values = {"b": now - begun, "s": now - settled, "m": moved, "e": exited, "id": batch}
    scene.do(
        "UPDATE batches SET begun = :b, claimed = :b, settled = :s, moved = :m, exited = :e,"
        " state = 'done' WHERE id = :id",
        **values,
    )


def rates(scene, *jobs):
    with scene.catalogue.read() as tx:
        return overview.rates(tx, jobs)


def about(value):
    return pytest.approx(value, rel=SLACK)


def test_a_job_that_has_done_nothing_has_no_rate(scene, job):
    scene.claim(job)
    assert rates(scene, job) == {}
    assert rates(scene) == {}


def test_a_young_jobs_rate_is_by_the_time_since_its_first_claim(scene, job):
    took(scene, 1, begun=100, settled=50)
    took(scene, 2, begun=50, settled=0, moved=7, exited=3)
    assert rates(scene, job) == {job: about(20 / 100)}


def test_of_a_batch_that_began_before_the_ten_minutes_only_its_share_counts(scene, job):
    took(scene, 1, begun=5000, settled=700)
    took(scene, 2, begun=900, settled=300)
    took(scene, 3, begun=300, settled=100)
    assert rates(scene, job) == {job: about((5 + 10) / 600)}


def test_a_rate_falls_when_nothing_moves_and_ends_after_ten_minutes(scene, job):
    took(scene, 1, begun=400, settled=300)
    assert rates(scene, job) == {job: about(10 / 400)}
    scene.do("UPDATE batches SET begun = begun - 400, settled = settled - 400")
    assert rates(scene, job) == {}


def test_claims_and_settles_leave_the_moments_that_rates_need(scene, job):
    first = scene.claim(job, "w1")
    begun, claimed, settled = moments_of(scene, first)
    assert (begun, settled) == (claimed, None)
    scene.settle(first, failures=[])
    assert moments_of(scene, first)[2] is None  # renewed, and nothing came of it yet
    scene.settle(first, [resolved(photo) for photo in scene.work(first)[:4]])
    assert moments_of(scene, first)[2] >= claimed
    scene.expire(first)
    again = scene.claim(job, "w2")
    assert again.batch == first.batch
    assert moments_of(scene, again)[0] == begun
    assert moments_of(scene, again)[1] > claimed
    assert 0 < rates(scene, job)[job] <= 4


def moments_of(scene, lease):
    query = "SELECT begun, claimed, settled FROM batches WHERE id = :id"
    return scene.rows(query, id=lease.batch)[0]


def test_rates_are_told_job_by_job(scene, job):
    scene.photos(10, "resolved")
    other = scene.enqueue("download", size=10).job
    took(scene, 1, begun=100, settled=0)
    took(scene, 11, begun=200, settled=0)
    assert rates(scene, job, other) == {job: about(0.1), other: about(0.05)}
    assert set(rates(scene, other)) == {other}


@pytest.mark.parametrize(
    ("photos", "per_second", "seconds"),
    [(100, 0.5, 200.0), (100, 0.0, None), (0, 0.0, 0.0), (-3, 1.0, 0.0)],
)
def test_time_left_is_told_where_it_can_be(photos, per_second, seconds):
    assert overview.left_s(photos, per_second) == seconds
