"""Batches of one owner's photos, beside plain ranges that reach over them."""

from __future__ import annotations

from catalogue.scene import Scene, plan, resolved

from popq.catalogue import batches, enqueuing
from popq.catalogue.batches import Failed, Tally
from popq.errors import Outcome

ANN, BOB, CY = "12345678@N00", "23456789@N00", "34567890@N00"


def cut(scene, job):
    query = "SELECT owner, lo, hi, photos FROM batches WHERE job_id = :j ORDER BY owner, lo"
    return scene.rows(query, j=job)


def claims(scene, job):
    """Claim all batches; return the photos that each holds, by owner."""
    found = {}
    while (lease := scene.claim(job)) is not None:
        found.setdefault(lease.owner, []).append(scene.work(lease))
    return found


def test_an_owner_with_many_photos_has_a_batch_and_no_plain_one_has_them(scene):
    ids = scene.photos(18, owners=(ANN, BOB, "1@N00"))  # six each
    few = scene.photos(4, owners=(CY,))
    job = scene.enqueue(size=4).job
    held = claims(scene, job)
    assert held == {
        ANN: [ids[0::3]],
        BOB: [ids[1::3]],
        None: [[*ids[2::3]][:4], [*ids[2::3], *few][4:8], few[2:]],
    }
    assert sum(row[3] for row in cut(scene, job)) == 22


def test_a_limit_counts_only_the_photos_that_it_takes(scene):
    ids = scene.photos(12, owners=(ANN, BOB))
    job = scene.enqueue(size=4, limit=9).job  # five of Ann's, four of Bob's
    assert claims(scene, job) == {ANN: [ids[0:9:2]], None: [ids[1:9:2]]}


def test_what_turns_up_later_joins_its_owners_batches_or_plain_ranges(scene):
    first = scene.photos(5, owners=(ANN,))
    job = scene.enqueue(size=4).job
    held = scene.claim(job)
    more = scene.photos(12, owners=(ANN, BOB))
    grown = scene.enqueue(size=4)
    assert (grown.job, grown.photos, grown.batches) == (job, 12, 3)
    scene.close(held, [resolved(photo) for photo in first])
    assert claims(scene, job) == {ANN: [more[0::2]], None: [more[1::2][:4], more[1::2][4:]]}


def test_work_that_comes_back_opens_its_owners_batch_again(scene):
    ids = scene.photos(10, owners=(ANN, BOB))
    job = scene.enqueue(size=4).job
    for _ in range(2):
        lease = scene.claim(job)
        scene.close(lease, [resolved(photo) for photo in scene.work(lease)][1:])
    ((left,), *_) = [scene.rows('SELECT sum("left") FROM batches WHERE job_id = :j', j=job)[0]]
    assert left == 2
    again = scene.enqueue(size=4)
    assert (again.new, again.photos) == (True, 2)
    assert again.job != job
    assert claims(scene, again.job) == {None: [[ids[0], ids[1]]]}


def test_a_batch_that_kills_its_worker_is_halved_under_its_owner(scene):
    ids = scene.photos(12, owners=(ANN, BOB))
    job = scene.enqueue(size=4, only={"owner": ANN}).job
    for _ in range(3):
        scene.expire(scene.claim(job))
    halves = [scene.claim(job), scene.claim(job)]
    assert [lease.owner for lease in halves] == [ANN, ANN]
    assert [scene.work(lease) for lease in halves] == [ids[0:6:2], ids[6::2]]


def test_what_an_owners_batch_moves_is_handed_on_at_once_and_alone(scene):
    far = scene.photos(600, owners=(BOB, "1@N00", *[CY] * 98))  # six of Bob's, 100 apart
    assert len(far) == 600
    made = scene.enqueue(size=1000, then=("download", 250))
    down = made.then.job
    while (lease := scene.claim(made.job)) is not None:
        if lease.owner == BOB:
            photos = scene.work(lease)
            with scene.catalogue.begin() as tx:
                some = [resolved(photo) for photo in photos[:4]]
                batches.settle(tx, lease, some, [], Tally(moved=4), lease_s=60.0)
            for _, lo, hi, _ in cut(scene, down):
                assert hi - lo < enqueuing.HANDED_ON
            assert sum(row[3] for row in cut(scene, down)) == 4
            scene.close(lease, [resolved(photo) for photo in photos[4:]])
    held = claims(scene, down)[None]
    assert held == [far[0:201:100], [far[300]], [far[400]], [far[500]]]


def test_the_next_page_is_kept_with_the_batch(scene):
    ids = scene.photos(6, owners=(ANN,))
    job = scene.enqueue().job
    lease = scene.claim(job)
    assert (lease.owner, lease.page, lease.got) == (ANN, 1, 0)
    with scene.catalogue.begin() as tx:
        moves, tally = [resolved(ids[0]), resolved(ids[1])], Tally(moved=2)
        batches.settle(tx, lease, moves, [], tally, lease_s=60.0, page=2)
    scene.hand_back(lease)
    lease = scene.claim(job)
    assert (lease.page, lease.got) == (2, 2)
    with scene.catalogue.begin() as tx:
        batches.settle(tx, lease, [], [], Tally(), lease_s=60.0)
    scene.hand_back(lease)
    assert scene.claim(job).page == 2


def test_tries_are_those_of_the_owners_photos(scene):
    ids = scene.photos(12, owners=(ANN, BOB))
    job = scene.enqueue(size=20).job
    ann = scene.claim(job)
    scene.claim(job)
    scene.settle(ann, failures=[Failed(ids[0], Outcome.TRANSIENT, "reset")])
    scene.hand_back(ann)
    ann = scene.claim(job)
    with scene.catalogue.read() as tx:
        assert next(photo.tries for photo in batches.work(tx, ann, 4)) == {"transient": 1}
    assert scene.work(ann, max_tries=1) == ids[2::2]


def test_an_owners_photos_are_found_by_their_index(scene: Scene):
    scene.photos(2000, owners=[f"{10_000_000 + n}@N00" for n in range(200)])
    scene.do("ANALYZE")
    job = scene.enqueue().job
    lease = scene.claim(job)
    assert lease.owner is not None
    load = batches.load(lease.stage, lease.run_id, (), keyed=True)
    given = {"b_lo": lease.lo, "b_hi": lease.hi, "b_job": job, "b_owner": lease.owner}
    found = plan(scene.catalogue, load, **given)
    assert "ix_photos_owner" in found, found
