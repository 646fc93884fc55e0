"""A PostgreSQL and a Redis of the benchmarks' own: known settings, and nobody else in them.

`POPQ_BENCH_PG_URL` names another to use: a user who may create databases. Its settings then are
whatever they are, and go into no figure.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg

#: What differs from PostgreSQL's defaults: memory and WAL as any installation of popq's size would
#: have. Commits wait for the disk, autovacuum runs.
SETTINGS = {
    "listen_addresses": "",
    "shared_buffers": "1GB",
    "maintenance_work_mem": "256MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "15min",
}
START_S = 30.0


@contextmanager
def postgres(folder: str | None = None) -> Iterator[str]:
    """Yield the URL of a server that is ours until the end of the block; its data goes with it."""
    given = os.environ.get("POPQ_BENCH_PG_URL")
    if given:
        yield given.replace("postgresql+psycopg://", "postgresql://", 1)
        return
    home = Path(tempfile.mkdtemp(prefix="popq-bench-", dir=folder))
    user = _user()
    if user is not None:
        shutil.chown(home, user)
    programs = _programs()
    data = home / "data"
    made = [str(programs / "initdb"), "-A", "trust", "-U", "popq", "-E", "UTF8", "--locale=C"]
    subprocess.run([*made, "-D", str(data)], check=True, user=user, cwd=home, capture_output=True)
    options = [part for name in SETTINGS for part in ("-c", f"{name}={SETTINGS[name]}")]
    command = [str(programs / "postgres"), "-D", str(data), "-k", str(home), *options]
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, user=user, cwd=home)
    url = f"postgresql://popq@/postgres?host={home}"
    try:
        _wait(url, server, home / "log")
        yield url
    finally:
        server.send_signal(2)  # ends its sessions, then itself
        server.wait(60)
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def database(server: str, name: str) -> Iterator[str]:
    """Yield the URL of a new database on the server, dropped at the end of the block."""
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        admin.execute(f"CREATE DATABASE {name}")
    parts = urlsplit(server)
    try:
        yield urlunsplit(parts._replace(path=f"/{name}"))
    finally:
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def redis() -> Iterator[str]:
    """Yield the URL of a Redis (or Valkey) that is ours until the end of the block."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        raise SystemExit("no Redis here: install redis-server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        where = ["--bind", "127.0.0.1", "--port", port, "--dir", folder, "--save", ""]
        server = subprocess.Popen([program, *where], stdout=subprocess.DEVNULL)
        try:
            until = time.monotonic() + START_S
            while not _answers(int(port)):
                if time.monotonic() > until or server.poll() is not None:
                    raise SystemExit("Redis did not start")
                time.sleep(0.05)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()
            server.wait(60)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _programs() -> Path:
    on_path = shutil.which("initdb")
    if on_path is not None:
        return Path(on_path).resolve().parent
    found = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(found, key=lambda path: float(path.parts[-3]), default=None)
    if newest is None:
        raise SystemExit("no PostgreSQL here: install it, or set POPQ_BENCH_PG_URL")
    return newest.parent


def _user() -> str | None:
    """Whom to run the server as: it refuses to run as root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in names)


def _wait(url: str, server: subprocess.Popen, log: Path) -> None:
    until = time.monotonic() + START_S
    while True:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            if time.monotonic() > until or server.poll() is not None:
                raise SystemExit(f"PostgreSQL did not start:\n{log.read_text()}") from None
            time.sleep(0.05)
        else:
            return
