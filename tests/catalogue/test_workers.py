"""The workers' own rows: written again and again, taken away, forgotten by the database's clock."""

from __future__ import annotations

import pytest
from catalogue.scene import at_once
from sqlalchemy import text

from popq.catalogue import workers


@pytest.fixture
def rows(catalogue):
    def read():
        with catalogue.read() as tx:
            return [
                tuple(row)
                for row in tx.execute(text("SELECT name, queue, threads FROM workers ORDER BY 1"))
            ]

    return read


def seen(catalogue, name):
    with catalogue.read() as tx:
        query = text("SELECT seen, started_at FROM workers WHERE name = :name")
        return tx.execute(query, {"name": name}).one()


def beat(catalogue, name, queue="io", threads=8):
    with catalogue.begin() as tx:
        workers.beat(tx, name, queue, threads)


def test_a_worker_that_beats_has_one_row_which_grows_younger(catalogue, rows):
    beat(catalogue, "a")
    first = seen(catalogue, "a")
    with catalogue.begin() as tx:
        tx.execute(text("UPDATE workers SET seen = seen - 100"))
    beat(catalogue, "a", threads=4)
    again = seen(catalogue, "a")
    assert again.seen >= first.seen
    assert again.started_at == first.started_at
    assert rows() == [("a", "io", 4)]


def test_a_worker_that_leaves_takes_only_its_own_row(catalogue, rows):
    beat(catalogue, "a")
    beat(catalogue, "b", "gpu", 1)
    with catalogue.begin() as tx:
        workers.leave(tx, "a")
        workers.leave(tx, "nobody")
    assert rows() == [("b", "gpu", 1)]


def test_only_those_not_seen_for_long_are_forgotten(catalogue, rows):
    for name in ("old", "young"):
        beat(catalogue, name)
    with catalogue.begin() as tx:
        tx.execute(text("UPDATE workers SET seen = seen - 100 WHERE name = 'old'"))
        assert workers.forget(tx, 200) == 0
        assert workers.forget(tx, 50) == 1
    assert rows() == [("young", "io", 8)]


def test_many_may_beat_at_once(catalogue, rows):
    at_once(*[lambda: beat(catalogue, "same")] * 8)
    assert rows() == [("same", "io", 8)]


def test_a_worker_is_known_to_be_there_by_its_machine_while_its_word_is_fresh(catalogue):
    beat(catalogue, "host_1:77:abc")
    with catalogue.begin() as tx:
        assert workers.is_there(tx, "host_1:", 60)
        assert not workers.is_there(tx, "hostX1:", 60)
        assert not workers.is_there(tx, "host%:", 60)
        tx.execute(text("UPDATE workers SET seen = seen - 100"))
        assert not workers.is_there(tx, "host_1:", 60)
