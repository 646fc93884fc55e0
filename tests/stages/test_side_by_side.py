"""Workers that write of the same hosts at once on PostgreSQL: no two wait for each other."""

from __future__ import annotations

import threading

import pytest
from catalogue.scene import at_once
from houses import house, small_world
from servers import postgres_url

from popq import api
from popq.catalogue import batches, claims, hosts
from popq.catalogue.batches import Move
from popq.catalogue.states import PhotoState
from popq.errors import Outcome, Throttled
from popq.stages.drain import Drain
from popq.stages.ledger import Ledger, Pace, end

PACE = Pace(60, 10, 30, 60, 5)
NAMES = ("k1", "k2", "k3")
THROTTLED_BEFORE = "UPDATE hosts SET pause_s = 60, paused_until = 1"


@pytest.fixture
def home(tmp_path):
    with postgres_url() as url, house(tmp_path, small_world(400, 40), database_url=url) as home:
        api.import_list(home.rooms, home.list_files(tmp_path))
        yield home


class TwoAtOnce:
    """A stage that is told 429 by two keys at once, one of them after another key answered."""

    name = "resolve"
    batch_size = 2
    rates = dict.fromkeys(NAMES, 3500.0)

    def __init__(self):
        self.met = threading.Barrier(2)

    def process(self, photos, permits):
        first = self.met.wait(20) == 0
        if first:
            permits.asked = "k3"
            yield Move(photos[0].id, PhotoState.GONE, Outcome.NOT_FOUND)
        self.met.wait(20)
        raise Throttled("HTTP 429", host="k1" if first else "k2")


def test_keys_that_are_throttled_at_once_all_rest(home):
    home.rooms.enqueue("resolve", by="test")
    stage = TwoAtOnce()
    drains = [Drain(home.rooms.catalogue, {"resolve": lambda _: stage}, PACE, w) for w in "ab"]
    for drain in drains:
        drain.stage("resolve", None)
    for _ in range(12):
        with home.rooms.catalogue.begin() as tx:
            tx.exec_driver_sql(THROTTLED_BEFORE)
            tx.exec_driver_sql("UPDATE batches SET due = 0 WHERE state = 'ready'")
        assert at_once(*[drain.step for drain in drains]) == [True, True]
        resting = "SELECT count(*) FROM hosts WHERE paused_until > 1 AND name LIKE 'k_'"
        assert home.sql(resting) == [(3,)]


def test_a_batch_that_closes_and_an_owners_that_hands_on_both_settle(home):
    catalogue = home.rooms.catalogue
    with catalogue.begin() as tx:
        tx.exec_driver_sql("UPDATE photos SET owner = NULL WHERE id <= 200")
        hosts.register(tx, "k", 3500.0)
    job = home.rooms.enqueue("resolve", by="test", then="download").job
    leases = []
    while True:
        with catalogue.begin() as tx:
            lease = claims.claim(tx, job, "test", 600)
        if lease is None:
            break
        leases.append(lease)
    plain = [lease for lease in leases if lease.owner is None]
    owned = [lease for lease in leases if lease.owner is not None]
    assert min(len(plain), len(owned)) >= 6

    def ledger_of(lease, count=None):
        ledger = Ledger(catalogue, lease, PACE)
        with catalogue.read() as tx:
            photos = batches.work(tx, lease, PACE.max_tries)
        for photo in photos[:count]:
            values = {"server": "1", "secret": "a", "image_url": f"http://x/{photo.id}"}
            ledger.add(Move(photo.id, PhotoState.RESOLVED, values=values), {})
        ledger.answered("k")
        return ledger

    for closes, goes_on in zip(plain, owned, strict=False):
        with catalogue.begin() as tx:
            tx.exec_driver_sql(THROTTLED_BEFORE)
        closing, going = ledger_of(closes), ledger_of(goes_on, 2)
        at_once(lambda it=closing: end(it, None), going.settle)
        assert home.sql("SELECT pause_s FROM hosts WHERE name = 'k'") == [(0.0,)]
