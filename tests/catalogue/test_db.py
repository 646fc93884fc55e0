"""Opening a catalogue: what goes wrong is said in popq's words; clocks, locks and watches."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from catalogue.scene import Scene, at_once, wait_for_waiters
from sqlalchemy import Table, func, select, text
from sqlalchemy.engine import make_url

from popq.catalogue.db import Catalogue, bulk_insert, db_now
from popq.catalogue.models import Member, Photo, PhotoMetadata
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
    for url in (
        "postgresql+psycopg://popq:s3cret@h/popq",
        "postgresql+asyncpg://popq:s3cret@h/p",
        "postgresql://h/popq?user=popq&password=s3cret",
    ):
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
    with (
        pytest.raises(ServiceDown, match=r"does not answer(?s:.*)correct POPQ_DATABASE_URL"),
        catalogue.read(),
    ):
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


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_each_way_to_write_a_url_leads_to_the_same_catalogue(migrated_postgres, scheme):
    catalogue = Catalogue(scheme + migrated_postgres[migrated_postgres.index("://") :])
    with catalogue.read() as tx:
        assert tx.execute(text("SELECT count(*) FROM alembic_version")).scalar_one() == 1
    catalogue.close()


def test_the_server_is_told_who_we_are_and_for_how_long_to_wait(migrated_postgres):
    catalogue = Catalogue(migrated_postgres, "host:17:abc")
    names = ("application_name", "statement_timeout", "lock_timeout")
    with catalogue.read() as tx:
        told = [tx.execute(text(f"SHOW {name}")).scalar_one() for name in names]
        idle = tx.execute(text("SHOW idle_in_transaction_session_timeout")).scalar_one()
    catalogue.close()
    assert told == ["popq host:17:abc", "1h", "10min"]
    assert idle == "5min"


def test_what_the_url_says_of_a_session_stands(migrated_postgres):
    url = make_url(migrated_postgres)
    asked = {"application_name": "mine", "options": "-c lock_timeout=7s"}
    catalogue = Catalogue(url.update_query_dict(asked).render_as_string(hide_password=False))
    with catalogue.read() as tx:
        names = ("application_name", "lock_timeout")
        assert [tx.execute(text(f"SHOW {n}")).scalar_one() for n in names] == ["mine", "7s"]
    catalogue.close()


def cut_off(scene, tx) -> None:
    """Cut a transaction's connection, as a restart of the server does."""
    pid = tx.execute(text("SELECT pg_backend_pid()")).scalar_one()
    assert scene.scalar("SELECT pg_terminate_backend(:pid, 5000)", pid=pid)


@pytest.mark.parametrize("use", ["statement", "COPY", "commit"])
def test_a_connection_that_is_cut_is_told_and_the_next_one_works(postgres, use):
    scene = Scene(postgres)
    (photo,) = scene.photos(1)
    values = [(photo, "text", "{}")]
    told = pytest.raises(ServiceDown, match=r"does not answer(?s:.*)correct POPQ_DATABASE_URL")
    with told, postgres.begin() as tx:
        tx.execute(text("UPDATE photos SET views = 1"))
        cut_off(scene, tx)
        if use == "statement":
            tx.execute(text("UPDATE photos SET views = 2"))
        elif use == "COPY":
            table: Table = PhotoMetadata.__table__
            bulk_insert(tx, table, ("photo_id", "kind", "data"), values)
    assert scene.rows("SELECT views FROM photos") == [(None,)]
    assert scene.do("UPDATE photos SET views = 3") == 1


def test_connections_that_a_restart_cuts_while_they_rest_are_not_noticed(postgres):
    scene = Scene(postgres)
    with postgres.read() as one, postgres.read() as other:  # two connections in the pool
        pids = [tx.execute(text("SELECT pg_backend_pid()")).scalar_one() for tx in (one, other)]
    url = postgres.url.render_as_string(hide_password=False)
    killer = Catalogue(url)
    for pid in pids:
        with killer.read() as tx:
            tx.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
    killer.close()
    assert scene.photos(2) != []


def test_many_threads_have_a_connection_each(scene):
    """More than SQLAlchemy's pool would give out by itself."""
    everybody = threading.Barrier(20)

    def look():
        with scene.catalogue.read() as tx:
            everybody.wait(20)
            return tx.execute(text("SELECT 1")).scalar_one()

    assert at_once(*[look] * 20) == [1] * 20


def test_who_waits_too_long_for_a_lock_is_told(postgres):
    scene = Scene(postgres)
    scene.photos(1)
    with postgres.begin() as holder:
        holder.execute(text("UPDATE photos SET views = 1"))
        told = pytest.raises(ServiceDown, match=r"Others hold what this needs.*pg_stat_activity")
        with told, postgres.begin() as tx:
            tx.execute(text("SET LOCAL lock_timeout = 10"))
            tx.execute(text("UPDATE photos SET views = 2"))


def test_what_takes_too_long_is_no_server_to_be_started(postgres):
    told = pytest.raises(ServiceDown, match=r"A statement in postgresql.*was cancelled.*try again")
    with told, postgres.begin() as tx:
        tx.execute(text("SET LOCAL statement_timeout = 10"))
        tx.execute(text("SELECT pg_sleep(60)"))


def test_a_sqlite_file_that_another_program_holds_is_no_server_to_be_started(sqlite):
    with sqlite.begin() as tx:
        tx.execute(text("PRAGMA busy_timeout = 10"))  # of the connection that comes next, too
    with contextlib.closing(sqlite3.connect(sqlite.path)) as other:
        other.execute("BEGIN IMMEDIATE")
        told = pytest.raises(ServiceDown, match=r"^Others write to sqlite:.*try again when they")
        with told, sqlite.begin():
            pass


def test_a_full_disk_under_a_sqlite_file_is_told_as_such(sqlite):
    told = pytest.raises(ServiceDown, match=r"^There is no room for sqlite:.*make room")
    with told, sqlite.begin() as tx:
        tx.execute(text("PRAGMA max_page_count = 1"))  # no more than there are
        tx.execute(text("INSERT INTO photos (flickr_id, page_url) VALUES (1, zeroblob(1000000))"))


def test_a_full_disk_under_a_server_is_told_as_such(postgres):
    raised = "DO $$ BEGIN RAISE 'could not extend file' USING ERRCODE = 'disk_full'; END $$"
    told = pytest.raises(ServiceDown, match=r"^The server of postgresql.* has no room.*make room")
    with told, postgres.begin() as tx:
        tx.execute(text(raised))


def test_transactions_that_wait_for_each_other_are_to_try_again(postgres):
    scene = Scene(postgres)
    one, other = scene.photos(2)
    lock = text("SELECT 1 FROM photos WHERE id = :id FOR UPDATE")

    def in_the_other_order():
        with postgres.begin() as tx:
            tx.execute(lock, {"id": other})
            locked.set()
            tx.execute(lock, {"id": one})

    locked = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        told = pytest.raises(ServiceDown, match=r"^Others wrote to postgresql.*try again")
        with told, postgres.begin() as tx:
            tx.execute(text("SET LOCAL deadlock_timeout = '50ms'"))  # so that it is this one
            tx.execute(lock, {"id": one})
            waiting = pool.submit(in_the_other_order)
            locked.wait()
            wait_for_waiters(scene, 1)
            tx.execute(lock, {"id": other})
        waiting.result()


def test_a_transaction_that_another_has_overtaken_is_to_try_again(postgres):
    scene = Scene(postgres)
    scene.photos(1)
    told = pytest.raises(ServiceDown, match=r"^Others wrote to postgresql.*try again")
    with told, postgres.begin() as tx:
        tx.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        tx.execute(text("SELECT 1 FROM photos"))
        scene.do("UPDATE photos SET views = 1")
        tx.execute(text("UPDATE photos SET views = 2"))


@pytest.mark.parametrize("user", ["popq", "readonly_user", "no such table"])
def test_a_wrong_password_is_told_as_such_whoever_has_it(user):
    """From a server that says to a client's first words what PostgreSQL says to a wrong one."""

    def refuse():
        client, _ = server.accept()
        with client:
            client.recv(1024)
            said = f'password authentication failed for user "{user}"'
            fields = (b"SFATAL", b"VFATAL", b"C28P01", b"M" + said.encode(), b"")
            body = b"".join(field + b"\0" for field in fields)
            client.sendall(b"E" + struct.pack("!I", len(body) + 4) + body)

    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        refused = pool.submit(refuse)
        plain = "sslmode=disable&gssencmode=disable"
        port = server.getsockname()[1]
        catalogue = Catalogue(f"postgresql://{user}:x@127.0.0.1:{port}/popq?{plain}")
        told = pytest.raises(Misconfigured, match=r"refuses the user or the password.*correct POPQ")
        with told, catalogue.read():
            pass
        refused.result()
        catalogue.close()


def test_a_server_without_the_database_says_how_to_make_it(postgres):
    url = postgres.url.set(database="popq_is_not_there").render_as_string(hide_password=False)
    catalogue = Catalogue(url)
    told = pytest.raises(Misconfigured, match=r"is not on its server(?s:.*)make it with createdb")
    with told, catalogue.read():
        pass
    catalogue.close()
