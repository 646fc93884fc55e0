"""Servers that a test may kill, and relays that stand between workers and a server."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import socketserver
import subprocess
import tempfile
import threading
import time
import uuid
from contextlib import closing
from pathlib import Path

import redis
import servers
from sqlalchemy.engine import make_url


class OwnRedis:
    """A Redis of one's own on a port that stays the same however often it dies."""

    def __init__(self, folder):
        self._binary = servers._redis_binary()
        if self._binary is None:
            servers._do_without("Redis or Valkey", "POPQ_TEST_REDIS_URL (and its binaries)")
        self._folder = folder
        self._server = None
        self.port = servers.free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        servers._stop(self._server)

    def start(self):
        where = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self._folder))
        log = self._folder / "redis.log"
        command = [self._binary, *where, "--save", "", "--appendonly", "no"]
        self._server = servers._start(command, log)
        servers._wait_until(lambda: servers._redis_answers(self.url), "Redis", log)

    def kill(self):
        """Kill it; what it held is lost."""
        with self.client() as client:
            os.kill(client.info()["process_id"], signal.SIGKILL)
        servers._stop(self._server)

    def flush(self):
        with self.client() as client:
            client.flushall()

    def client(self):
        return closing(redis.Redis.from_url(self.url))


class OwnPostgres:
    """A PostgreSQL of one's own that may be stopped hard and started again on the same data."""

    def __init__(self):
        self._binaries = servers._postgres_binaries()
        if self._binaries is None:
            servers._do_without("PostgreSQL", "PATH (its binaries: this test restarts a server)")
        self._user = servers._user_for_postgres()
        # A short path, since it holds a socket.
        self._folder = Path(tempfile.mkdtemp(prefix="popq-chaos-pg-", dir="/tmp"))
        self._server = None
        self.admin = f"postgresql+psycopg://popq@/postgres?host={self._folder}"

    def __enter__(self):
        if self._user is not None:
            shutil.chown(self._folder, self._user)
        made = [str(self._binaries / "initdb"), "--no-sync", "-A", "trust", "-U", "popq"]
        options = ("-E", "UTF8", "--locale=C", "-D", str(self._folder / "data"))
        subprocess.run(
            [*made, *options], check=True, user=self._user, cwd=self._folder, capture_output=True
        )
        self.start()
        return self

    def __exit__(self, *_):
        servers._stop(self._server)
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self):
        data = self._folder / "data"
        options = ("-c", "listen_addresses=", "-c", "fsync=off")
        command = [str(self._binaries / "postgres"), "-D", str(data), "-k", str(self._folder)]
        log = self._folder / "log"
        self._server = servers._start([*command, *options], log, user=self._user)
        servers._wait_until(lambda: servers._may_make_databases(self.admin), "PostgreSQL", log)

    def stop(self, *, crash):
        """Stop it: politely (its clients are told), or as if it had crashed."""
        pid = int((self._folder / "data" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, signal.SIGQUIT if crash else signal.SIGINT)
        servers._stop(self._server)

    @contextlib.contextmanager
    def database(self):
        """Yield the URL of a fresh database."""
        name = f"chaos_{uuid.uuid4().hex[:8]}"
        servers._administer(self.admin, f"CREATE DATABASE {name}")
        yield make_url(self.admin).set(database=name).render_as_string(hide_password=False)
        servers._administer(self.admin, f"DROP DATABASE {name} WITH (FORCE)")


class Relay:
    """Passes connections on to a server on this machine, at the port `target`.

    `hear(port, pending)` is called with the client's port and the bytes of it that were not passed
    on yet; it takes out of the `bytearray` what it is done with and returns what is passed on.
    """

    def __init__(self, hear, target=0):
        relay = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                relay._serve(self.request, self.client_address[1])

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request, client_address):
                """A client or server that dies is what these tests are about."""

        self.target = target
        self._hear = hear
        self._open = set()
        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]

    def __enter__(self):
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        for end in list(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._server.server_close()
        until = time.monotonic() + 10
        while self._open and time.monotonic() < until:
            time.sleep(0.01)

    def _serve(self, client, port):
        with socket.create_connection(("127.0.0.1", self.target)) as server:
            self._open |= {client, server}
            back = threading.Thread(target=self._copy, args=(server, client), daemon=True)
            back.start()
            pending = bytearray()
            try:
                while data := client.recv(65536):
                    pending += data
                    server.sendall(self._hear(port, pending))
            except OSError:
                pass
            finally:
                for end in (client, server):
                    with contextlib.suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)
                back.join()
                self._open -= {client, server}

    def _copy(self, source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)


def every_message_twice(queue, sent):
    """Return what a relay before Redis does to put each message into the queue twice.

    `sent` is a list that grows by one for each message.
    """

    def hear(port, pending):
        out = bytearray()
        for words in _commands(pending):
            twice = words
            if words[0].upper() == b"LPUSH" and words[1] == queue.encode():
                twice = [*words, *words[2:]]
                sent.append(len(words) - 2)
            out += b"*%d\r\n" % len(twice)
            for word in twice:
                out += b"$%d\r\n%b\r\n" % (len(word), word)
        return bytes(out)

    return hear


def _commands(pending):
    """Take whole Redis commands out of the bytes and yield each as a list of its words."""
    while (end := pending.find(b"\r\n")) >= 0:
        at, words = end + 2, []
        for _ in range(int(pending[1:end])):
            end = pending.find(b"\r\n", at)
            if end < 0:
                return
            size = int(pending[at + 1 : end])
            at = end + 2 + size + 2
            if len(pending) < at:
                return
            words.append(bytes(pending[end + 2 : end + 2 + size]))
        del pending[:at]
        yield words


def owner_of(port, pids):
    """Return which of the processes has the TCP socket that is bound to the local port."""
    wanted = f":{port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    # An old connection of the port may linger, with no inode.
    inodes = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(wanted) and row[9] != "0"}
    for pid in pids:
        with contextlib.suppress(OSError):
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    if str(link.readlink()) in inodes:
                        return pid
    return None
