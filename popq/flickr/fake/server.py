"""The fake Flickr's HTTP server: API, image host and counters on one port of this machine."""

from __future__ import annotations

import gzip
import json
import os
import socket
import struct
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, urlsplit

from popq.flickr.fake import rest, static
from popq.flickr.fake.accounts import Call, identify
from popq.flickr.fake.counters import Counters, Counts
from popq.flickr.fake.faults import Faults, Host
from popq.flickr.fake.reply import HangUp, Reply
from popq.flickr.fake.world import World

DEMO_KEY = "0123456789abcdef0123456789abcdef"
DEMO_SECRET = "0123456789abcdef"  # noqa: S105 - of the fake, opens nothing

COUNTERS_PATH = "/_popq/counters"
REST_PATH = "/services/rest/"

_CHUNK = 16 * 1024
_IDLE_S = 60  # a connection kept open for longer without a request is closed
_LINGER_NONE = struct.pack("ii", 1, 0)  # close() then resets the connection


class FakeFlickr:
    """A fake Flickr that serves `world` between `start()` and `stop()`, or inside `with`.

    `keys` maps API keys to their secrets. `port` 0 takes any free one. `world` and `faults` may be
    changed while it serves. The URLs are known once it is constructed.
    """

    def __init__(
        self,
        world: World,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        keys: Mapping[str, str] | None = None,
        faults: Faults | None = None,
    ) -> None:
        self.world = world
        self.keys = {DEMO_KEY: DEMO_SECRET} if keys is None else dict(keys)
        self.faults = Faults() if faults is None else faults
        self.counting = Counters()
        self._server = _Server((host, port), self)
        self._thread: threading.Thread | None = None
        self.port: int = self._server.server_address[1]
        self.image_url = f"http://{host}:{self.port}"
        self.api_url = f"{self.image_url}{REST_PATH}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Serve from a thread of its own."""
        serve = partial(self._server.serve_forever, poll_interval=0.02)
        self._thread = threading.Thread(target=serve, name="fake-flickr", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the port and every connection; returns when all threads have ended."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._thread = None
        self._server.close_all()

    def counters(self) -> Counts:
        """Return what clients did so far, as GET /_popq/counters does."""
        return self.counting.snapshot()


class _Server(ThreadingHTTPServer):
    """One thread a connection; all are ended and joined on close."""

    daemon_threads = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], flickr: FakeFlickr) -> None:
        self.flickr = flickr
        self.stopping = threading.Event()
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        connection, address = super().get_request()
        with self._open_lock:
            self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
    ) -> None:
        # A client that hangs up is its own business; anything else is a bug and is printed.
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    def close_all(self) -> None:
        with self._open_lock:
            for connection in self._open:
                with suppress(OSError):  # already gone
                    connection.shutdown(socket.SHUT_RDWR)
        self.stopping.set()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Reads a request, lets faults strike, sends the answer."""

    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = _CHUNK
    timeout = _IDLE_S

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Stay silent: the counters tell what came in."""

    def _serve(self) -> None:
        form = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode(
            "utf-8", "replace"
        )
        parts = urlsplit(self.path)
        if parts.path == COUNTERS_PATH:
            counts = json.dumps(self.server.flickr.counters()).encode()
            self._send(Reply(200, (("Content-Type", "application/json"),), counts, chunked=False))
            return
        is_api = parts.path.rstrip("/") == REST_PATH.rstrip("/")
        host = Host.API if is_api else Host.IMAGE
        counters = self.server.flickr.counting
        with counters.running(host):
            reply = (
                self._call_api(parts.path, parts.query, form)
                if is_api
                else self._fetch_image(parts.path)
            )
            counters.answered(host, reply.status)  # first, so that whoever has it finds it counted
            self._send(reply)

    def _call_api(self, path: str, query: str, form: str) -> Reply:
        flickr = self.server.flickr
        authorization = self.headers.get("Authorization")
        call = Call(self.command, f"{self._origin()}{path}", query, form, authorization)
        pairs = parse_qsl(query, keep_blank_values=True) + parse_qsl(form, keep_blank_values=True)
        params = dict(pairs)
        caller = identify(call, params)
        photo = rest.photo_id(params)
        self._count(Host.API, caller.key, photo, caller.nonce)

        def answer() -> Reply:
            return rest.answer(
                call,
                params,
                caller,
                world=flickr.world,
                keys=flickr.keys,
                faults=flickr.faults,
                image_base=self._origin(),
            )

        trouble = flickr.faults.strike(Host.API, caller.key, photo)
        return answer() if trouble is None else trouble.spoil(answer)

    def _fetch_image(self, path: str) -> Reply:
        flickr = self.server.flickr
        photo = static.photo_id(path)
        who = self.client_address[0]
        self._count(Host.IMAGE, who, photo, None)
        # Real Flickr's placeholder is on another host; "localhost" is another name of this one.
        placeholder_base = f"http://localhost:{flickr.port}"
        answer = partial(static.answer, path, flickr.world, placeholder_base=placeholder_base)
        trouble = flickr.faults.strike(Host.IMAGE, who, photo)
        return answer() if trouble is None else trouble.spoil(answer)

    def _count(self, host: Host, who: str, photo: int | None, nonce: str | None) -> None:
        agent = self.headers.get("User-Agent", "")
        self.server.flickr.counting.request(host, who, photo, agent, nonce)

    def _origin(self) -> str:
        return "http://" + self.headers.get("Host", self.server.flickr.image_url[7:])

    def _send(self, reply: Reply) -> None:
        if reply.hang_up is not None:
            self._hang_up(reply.hang_up)
            return
        if reply.pause_s and not reply.pause_inside:
            self.server.stopping.wait(reply.pause_s)
        headers, body = list(reply.headers), reply.body
        if self._may_gzip(reply):
            headers.append(("Content-Encoding", "gzip"))
            body = gzip.compress(body, compresslevel=1)
        self.send_response_only(reply.status)
        self.send_header("Date", self.date_time_string())
        for name, value in headers:
            self.send_header(name, value)
        if reply.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if reply.cut_at is not None:
            body = body[: reply.cut_at]
            self.close_connection = True
        self._send_body(body, reply)

    def _send_body(self, body: bytes, reply: Reply) -> None:
        step = max(1, len(body) // 2) if reply.pause_inside else _CHUNK
        for start in range(0, len(body), step):
            if start and reply.pause_inside:
                self.wfile.flush()
                self.server.stopping.wait(reply.pause_s)
            piece = body[start : start + step]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if reply.chunked else piece)
        if reply.chunked:
            self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def _may_gzip(self, reply: Reply) -> bool:
        names = {name.lower(): value for name, value in reply.headers}
        return (
            reply.chunked
            and "content-encoding" not in names
            and not names.get("content-type", "").startswith("image/")
            and "gzip" in self.headers.get("Accept-Encoding", "")
        )

    def _hang_up(self, way: HangUp) -> None:
        self.close_connection = True
        if way is HangUp.RESET:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
            # Past the polite farewell of socketserver, which would look like a plain close.
            os.close(self.connection.detach())
