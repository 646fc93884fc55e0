"""Opening the catalogue: engines, transactions, the database's clock, and waking on a change.

SQLite gets two engines. The writer begins with BEGIN IMMEDIATE, because a deferred transaction
that turns into a writer cannot wait for the lock and fails at once; the reader begins plainly,
because a reader that took the write lock would hang behind any frozen writer. PostgreSQL needs
only one.
"""

from __future__ import annotations

import datetime as dt
import select
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    Connection,
    DateTime,
    Dialect,
    Double,
    Engine,
    Table,
    TypeDecorator,
    create_engine,
    event,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InvalidatePoolError, NoSuchModuleError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement

from popq.catalogue import faults
from popq.errors import SECRET_OPTIONS, Misconfigured

#: An open transaction; functions of the catalogue take it first and never commit.
Tx = Connection

#: How long a SQLite writer waits for another one, in seconds.
BUSY_S = 30.0
#: What a connection to PostgreSQL asks for, unless the URL says otherwise. A server that is gone
#: without a word is noticed within a minute.
_CONNECT: Final = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
}
#: Time-outs of a session there. No statement of popq's lasts an hour, not even with 10,000,000
#: photos; an import may wait for another one; and a frozen process gives up what it holds.
_SESSION: Final = {
    "statement_timeout": "1h",
    "lock_timeout": "10min",
    "idle_in_transaction_session_timeout": "5min",
    # Statements of every batch name a range by two parameters. Their plan does not depend on where
    # it lies, but what the planner believes of its length does, so it would plan each time anew;
    # and beyond some size compile what runs for a millisecond.
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
}


class db_now(FunctionElement[float]):  # noqa: N801 - reads as the SQL function that it is
    """Seconds since 1970 by the database's clock."""

    type = Double()
    inherit_cache = True


@compiles(db_now, "sqlite")
def _sqlite_now(element: Any, compiler: Any, **options: Any) -> str:
    del element, compiler, options
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(db_now)
def _postgresql_now(element: Any, compiler: Any, **options: Any) -> str:
    del element, compiler, options
    return "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"


class UtcDateTime(TypeDecorator[dt.datetime]):
    """A moment, always with its time zone (UTC): SQLite forgets it, PostgreSQL converts it."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> Any:
        """Write it in UTC."""
        del dialect
        return None if value is None else value.astimezone(dt.UTC)

    def process_result_value(
        self, value: dt.datetime | None, dialect: Dialect
    ) -> dt.datetime | None:
        """Read it in UTC."""
        del dialect
        if value is None or value.tzinfo is not None:
            return value and value.astimezone(dt.UTC)
        return value.replace(tzinfo=dt.UTC)


class Catalogue:
    """The door to one catalogue; cheap to make, connects on first use, safe between threads."""

    def __init__(self, url: str, user: str = "") -> None:
        """`user` (a worker's name) stands behind "popq" in PostgreSQL's pg_stat_activity."""
        self.url = _parse(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.is_sqlite:
            self._writer = _sqlite_engine(self.url, "BEGIN IMMEDIATE")
            self._reader = _sqlite_engine(self.url, "BEGIN")
        else:
            self._writer = _postgresql_engine(self.url, f"popq {user}".strip())
            # Each statement has a snapshot of its own there anyway: a transaction around readings
            # would cost two round trips, and be held open by whoever dawdles between them.
            self._reader = self._writer.execution_options(isolation_level="AUTOCOMMIT")

    def __str__(self) -> str:
        shown = self.url.difference_update_query(SECRET_OPTIONS)
        return shown.render_as_string(hide_password=True)

    @property
    def driver(self) -> Any:
        """The driver's module, as PEP 249 has it."""
        return self._writer.dialect.loaded_dbapi

    @property
    def path(self) -> Path | None:
        """The file of a SQLite catalogue; None for a server."""
        return Path(self.url.database or "") if self.is_sqlite else None

    def exists(self) -> bool:
        """Return whether there is a database to read: a SQLite file, or any server."""
        return self.path is None or self.path.is_file()

    def create_folder(self) -> None:
        """Make the folder of a SQLite catalogue, so that the file can be created in it."""
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Misconfigured(f"Cannot make the folder of {self}: {error}.") from error

    @contextmanager
    def begin(self, *, create: bool = False) -> Iterator[Tx]:
        """Open a writing transaction: committed at the end of the block, rolled back on an error.

        Raises `ServiceDown` when the database does not answer, is held by others or has no room,
        and `Misconfigured` when it holds no catalogue or may not be written. A SQLite file is made
        only with `create`.
        """
        if not create:
            self._must_exist()
        with _errors_of(self), self._writer.begin() as tx:
            yield tx

    @contextmanager
    def single(self) -> Iterator[Tx]:
        """Open a connection for writing statements of which each is a transaction by itself.

        That saves PostgreSQL two round trips of three. On SQLite it is `begin`.
        """
        self._must_exist()
        engine = self._writer if self.is_sqlite else self._reader
        with _errors_of(self), engine.begin() as tx:
            yield tx

    @contextmanager
    def read(self) -> Iterator[Tx]:
        """Open a connection for reading; errors as in `begin`.

        On SQLite all that it reads is of one moment, on PostgreSQL what one statement reads.
        """
        self._must_exist()
        with _errors_of(self), self._reader.connect() as tx:
            yield tx

    def _must_exist(self) -> None:
        if not self.exists():
            raise Misconfigured(f"There is no catalogue at {self}; make one with `popq init`.")

    def watch(self) -> Watch | None:
        """Return a watch on commits of others (SQLite), or None where there is none to be had.

        PostgreSQL has LISTEN, but a thread that waits would need a connection for it, and those who
        NOTIFY commit one after the other. A sweep every two seconds costs less, and the doorbell
        of a broker is there for those who cannot wait.
        """
        return Watch(self.path) if self.path is not None else None

    def close(self) -> None:
        """Close every connection."""
        self._writer.dispose()
        self._reader.dispose()


class Watch:
    """Notices commits to a SQLite file by `PRAGMA data_version`: cheap, and it takes no lock.

    Threads may share one, as long as one of them looks at a time.
    """

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, check_same_thread=False)
        self._seen = self._version()

    def _version(self) -> int:
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def changed(self) -> bool:
        """Return whether anybody has committed since the last look."""
        seen, self._seen = self._seen, self._version()
        return seen != self._seen

    def close(self) -> None:
        """Close the watch's own connection."""
        self._connection.close()


def bulk_insert(
    tx: Tx, table: Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    """Insert many rows by the driver's fastest plain way; `rows` are tuples in order of `columns`.

    Values go to the driver as they are (no type processing), so only numbers, text and None.
    """
    if not rows:
        return
    if tx.dialect.name == "postgresql":
        names = ", ".join(columns)
        cursor = tx.connection.cursor()
        with cursor.copy(f"COPY {table.name} ({names}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        return
    names, marks = ", ".join(columns), ", ".join("?" * len(columns))
    statement = f"INSERT INTO {table.name} ({names}) VALUES ({marks})"  # noqa: S608 - our names
    tx.exec_driver_sql(statement, list(map(tuple, rows)))


def bulk_select(tx: Tx, query: Any, size: int) -> Iterator[Sequence[Any]]:
    """Yield a query's rows, `size` at a time, as the driver gives them.

    Values come as they are (no type processing), so only numbers, text and None.
    """
    text = query.compile(dialect=tx.dialect, compile_kwargs={"literal_binds": True})
    with closing(tx.connection.cursor()) as cursor:
        cursor.execute(str(text))
        while rows := cursor.fetchmany(size):
            yield rows


def insert_or_keep(tx: Tx, model: Any) -> Any:
    """Return an INSERT that leaves a row alone whose key is there already."""
    dialect = postgresql if tx.dialect.name == "postgresql" else sqlite
    return dialect.insert(model).on_conflict_do_nothing()


def _parse(url: str) -> URL:
    use = "use sqlite:///FILE or postgresql://USER@HOST/NAME."
    try:
        parsed = make_url(url)
        if parsed.drivername in {"postgres", "postgresql"}:  # as hosts of databases give them out
            parsed = parsed.set(drivername="postgresql+psycopg")
        dialect = parsed.get_dialect()
        known = (dialect.name, dialect.driver) in {
            ("sqlite", "pysqlite"),
            ("postgresql", "psycopg"),
        }
        if known:
            dialect.import_dbapi()
    except (ArgumentError, NoSuchModuleError) as error:
        message = f"POPQ_DATABASE_URL is no database popq can open ({error})"
        raise Misconfigured(f"{message}; {use}") from None
    except ModuleNotFoundError as error:
        message = f"The driver {error.name} for {parsed.get_backend_name()} is not installed"
        raise Misconfigured(f"{message}; pip install 'popq[postgres]'.") from None
    if not known:
        message = (
            f"POPQ_DATABASE_URL names a database or driver that popq does not use ({parsed!r})"
        )
        raise Misconfigured(f"{message}; {use}")
    if dialect.name == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise Misconfigured("A catalogue in memory would be lost; name a file: sqlite:///FILE.")
    return parsed


def _postgresql_engine(url: URL, name: str) -> Engine:
    options = " ".join(f"-c {setting}={value}" for setting, value in _SESSION.items())
    asked = {**_CONNECT, "application_name": name, "options": options}
    asked = {key: value for key, value in asked.items() if key not in url.query}
    # As many connections as threads.
    engine = create_engine(url, max_overflow=-1, connect_args=asked)

    @event.listens_for(engine, "checkout")
    def _on_checkout(connection: Any, *pooled: object) -> None:
        # A server that is stopped says good-bye, which lies there unread: so a connection that a
        # restart has cut is known without asking. To ask each time would take every fifth round
        # trip of a batch.
        del pooled
        try:
            look = select.poll()
            look.register(connection, select.POLLIN)
            if look.poll(0):
                engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise InvalidatePoolError from error

    return engine


def _sqlite_engine(url: URL, begin: str) -> Engine:
    # Threads share the engine, each with a connection of its own from the pool.
    asked = {"timeout": BUSY_S, "check_same_thread": False}
    engine = create_engine(url, max_overflow=-1, connect_args=asked)

    @event.listens_for(engine, "connect")
    def _on_connect(connection: sqlite3.Connection, record: object) -> None:
        del record
        connection.isolation_level = None  # the statement below begins, not the driver
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


@contextmanager
def _errors_of(catalogue: Catalogue) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        told = _told(catalogue, error.orig, cut=error.connection_invalidated)
        if told is None:
            raise
        raise told from error
    except catalogue.driver.Error as error:
        # From a cursor of the driver's own (`bulk_insert`), which SQLAlchemy does not see.
        told = _told(catalogue, error, cut=False)
        if told is None:
            raise
        raise told from error


def _told(catalogue: Catalogue, error: object, *, cut: bool) -> faults.Told | None:
    """Return what a driver's error means to popq, or None for one that is a mistake of popq's."""
    told = (faults.of_sqlite if catalogue.is_sqlite else faults.of_postgresql)(catalogue, error)
    if told is None and (cut or isinstance(error, catalogue.driver.OperationalError)):
        told = faults.no_answer(catalogue, error)
    return told
