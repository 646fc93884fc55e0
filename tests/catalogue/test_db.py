"""Opening a catalogue: what goes wrong is said in popq's words; clocks, locks and watches."""

from __future__ import annotations

import time

import pytest
from catalogue.scene import Scene, at_once
from sqlalchemy import Table, func, select, text

from popq.catalogue.db import Catalogue, bulk_insert, db_now
from popq.catalogue.models import Member, Photo
from popq.errors import Misconfigured, ServiceDown


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "redis://localhost",
        "mysql://localhost/popq",
        "oracle://localhost/popq",
        "sqlite+aiosqlite:///popq.db",
        "postgresql+psycopg2://localhost/popq",
        "postgresql+asyncpg://localhost/popq",
    ],
)
def test_a_database_that_popq_cannot_use_is_refused_with_those_it_can(url):
    with pytest.raises(Misconfigured, match=r"use sqlite:///FILE or postgresql://"):
        Catalogue(url)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
def test_a_catalogue_in_memory_is_refused(url):
    with pytest.raises(Misconfigured, match="would be lost"):
        Catalogue(url)


def test_a_password_is_never_shown():
    for url in ("postgresql+psycopg://popq:s3cret@h/popq", "postgresql+asyncpg://popq:s3cret@h/p"):
        try:
            shown = str(Catalogue(url))
        except Misconfigured as error:
            shown = str(error)
        assert "s3cret" not in shown


@pytest.mark.parametrize("door", ["read", "begin"])
def test_a_missing_file_is_told_and_not_made(tmp_path, door):
    catalogue = Catalogue(f"sqlite:///{tmp_path / 'none.db'}")
    assert not catalogue.exists()
    told = pytest.raises(Misconfigured, match=r"no catalogue at .*; make one with `popq init`")
    with told, getattr(catalogue, door)():
        pass
    catalogue.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("query", ["SELECT * FROM dreams", "SELECT dreams FROM photos"])
def test_what_is_not_in_this_catalogue_calls_for_init(catalogue, query):
    told = pytest.raises(
        Misconfigured, match=r"no catalogue of this version (?s:.*)run `popq init`"
    )
    with told, catalogue.read() as tx:
        tx.execute(text(query))


def test_a_database_without_a_catalogue_calls_for_init(bare_url):
    catalogue = Catalogue(bare_url)
    with catalogue.begin(create=True) as tx:
        tx.execute(text("SELECT 1"))
    with pytest.raises(Misconfigured, match="run `popq init`"):
        Scene(catalogue).photos(1)
    catalogue.close()


def test_a_server_that_does_not_answer_is_down():
    catalogue = Catalogue("postgresql+psycopg://popq@127.0.0.1:1/popq?connect_timeout=2")
    assert catalogue.exists()
    assert catalogue.path is None
    with pytest.raises(ServiceDown, match=r"does not answer(?s:.*)popq doctor"), catalogue.read():
        pass
    catalogue.close()


def test_a_user_without_rights_is_told_so(postgres):
    told = pytest.raises(Misconfigured, match=r"may not be .*written")
    with told, postgres.begin() as tx:
        tx.execute(text("SET TRANSACTION READ ONLY"))
        tx.execute(text("DELETE FROM photos"))


def test_an_error_takes_back_the_whole_transaction(scene):
    told = pytest.raises(ZeroDivisionError)
    with told, scene.catalogue.begin() as tx:
        tx.execute(text("INSERT INTO photos (flickr_id, page_url) VALUES (1, 'x')"))
        raise ZeroDivisionError
    assert scene.states() == {}


def test_the_clock_is_the_seconds_since_1970_and_moves_within_a_transaction(catalogue):
    with catalogue.read() as tx:
        first = tx.execute(select(db_now())).scalar_one()
        time.sleep(0.01)
        second = tx.execute(select(db_now())).scalar_one()
    assert isinstance(first, float)
    assert abs(first - time.time()) < 60
    assert second > first


def test_writers_take_turns_and_lose_nothing(scene):
    """A transaction that reads and then writes: on SQLite it must take the lock at once."""
    (photo,) = scene.photos(1)

    def add_views():
        for _ in range(5):
            with scene.catalogue.begin() as tx:
                query = select(func.coalesce(Photo.views, 0)).where(Photo.id == photo)
                views = tx.execute(query.with_for_update()).scalar_one()
                tx.execute(text("UPDATE photos SET views = :v"), {"v": views + 1})

    at_once(*[add_views] * 4)
    assert scene.scalar("SELECT views FROM photos") == 20


def test_readers_do_not_wait_for_a_writer(scene):
    scene.photos(1)
    with scene.catalogue.begin() as tx:
        tx.execute(text("DELETE FROM photos"))
        assert len(scene.states()) == 1


def test_bulk_insert_writes_each_value_under_its_column(scene):
    (photo,) = scene.photos(1)
    dataset = scene.dataset()
    table: Table = Member.__table__
    columns = ("file_key", "split", "tier", "label", "photo_id", "dataset_id")
    with scene.catalogue.begin() as tx:
        bulk_insert(tx, table, columns, [])
        bulk_insert(tx, table, columns, [("a\t\\.jpg", "train", 2, 0.1, photo, dataset)])
    rows = scene.rows("SELECT dataset_id, photo_id, label, tier, split, file_key FROM members")
    assert rows == [(dataset, photo, 0.1, 2, "train", "a\t\\.jpg")]


def test_a_watch_sees_commits_of_others_once(sqlite):
    scene = Scene(sqlite)
    watch = sqlite.watch()
    assert not watch.changed()
    scene.photos(1)
    assert watch.changed()
    assert not watch.changed()
    watch.close()


def test_a_server_needs_no_watch(postgres):
    assert postgres.watch() is None
