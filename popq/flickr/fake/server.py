"""The fake Flickr's HTTP server: API, image host and counters on one port of this machine."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from functools import partial
from http.server import ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, urlsplit

from popq.flickr.fake import desk, oembed, photos, reply, rest, static
from popq.flickr.fake.accounts import Call, identify, refuse_nonce
from popq.flickr.fake.counters import Counters, Counts
from popq.flickr.fake.desk import Desk
from popq.flickr.fake.faults import Answerer, Faults, Host, Request
from popq.flickr.fake.oembed import OEMBED_PATH
from popq.flickr.fake.plan import Plan
from popq.flickr.fake.renditions import Cache
from popq.flickr.fake.reply import Fail, Reply
from popq.flickr.fake.wire import Wire
from popq.flickr.fake.world import World

DEMO_KEY = "0123456789abcdef0123456789abcdef"
DEMO_SECRET = "0123456789abcdef"  # noqa: S105 - of the fake, opens nothing

REST_PATH = "/services/rest/"

_MOST_FORM = 16 * 2**20  # bytes of a request's body that are read


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
        self.files = Cache()
        self.desk = Desk(self.world, self.faults, self.counting, self.keys)
        self._server = _Server((host, port), self)
        self._thread: threading.Thread | None = None
        self.port: int = self._server.server_address[1]
        self.image_url = f"http://{host}:{self.port}"
        self.api_url = f"{self.image_url}{REST_PATH}"
        self.oembed_url = f"{self.image_url}{OEMBED_PATH}"
        self.desk_url = f"{self.image_url}{desk.FOLDER}/"

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
        """Serve from a thread of its own; the times of faults count from now."""
        self.faults.begin()
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

    def apply(self, plan: Plan) -> None:
        """Change the world, its keys and faults as a plan says; `BadInput` for a strange photo."""
        plan.apply(self.world, self.faults, self.keys)

    def counters(self, window_s: float = 3600.0) -> Counts:
        """Return what clients did so far, as GET /_popq/counters does."""
        return self.counting.snapshot(window_s)


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


class _Handler(Wire):
    """Reads a request, lets faults strike, sends the answer."""

    server: _Server

    def setup(self) -> None:
        self.stopping = self.server.stopping
        super().setup()

    def serve(self) -> None:
        """Answer one request, and count it."""
        form = self._form()
        parts = urlsplit(self.path)
        if parts.path == desk.FOLDER or parts.path.startswith(f"{desk.FOLDER}/"):
            params = dict(parse_qsl(parts.query))
            answer = self.server.flickr.desk.answer(self.command, parts.path, params, form)
            self.send(answer)
            return
        match parts.path.rstrip("/"):
            case "/services/rest":
                host, make = Host.API, partial(self._call_api, parts.path, parts.query, form)
            case "/services/oembed":
                host, make = Host.WWW, partial(self._ask_oembed, parts.query)
            case _:
                host, make = Host.IMAGE, partial(self._fetch_image, parts.path)
        counters = self.server.flickr.counting
        with ExitStack() as under_way:
            under_way.enter_context(counters.running(host))
            reply = self.packed(make())
            # First, so that whoever has the answer finds it counted, and no longer under way.
            counters.answered(host, reply.status, len(reply.body[: reply.cut_at]))
            self.send(reply, under_way.close)

    def _form(self) -> str:
        length = self.headers.get("Content-Length") or "0"
        size = int(length) if length.isascii() and length.isdigit() else 0
        return self.rfile.read(min(size, _MOST_FORM)).decode("utf-8", "replace")

    def _call_api(self, path: str, query: str, form: str) -> Reply:
        flickr = self.server.flickr
        authorization = self.headers.get("Authorization")
        call = Call(self.command, f"{self._origin()}{path}", query, form, authorization)
        pairs = parse_qsl(query, keep_blank_values=True) + parse_qsl(form, keep_blank_values=True)
        params = dict(pairs)
        caller = identify(call, params)
        kind = params.get("method") or "(none)"
        request = Request(Host.API, caller.key, kind, photos.photo_id(params))
        replayed = self._count(request, caller.nonce)

        def answer(fail: Fail | None = None) -> Reply:
            if replayed and flickr.world.refuse_replayed_nonces:
                return refuse_nonce()
            return rest.answer(
                call,
                params,
                caller,
                world=flickr.world,
                keys=flickr.keys,
                faults=flickr.faults,
                image_base=self._origin(),
                fail=fail,
            )

        return self._struck(request, answer)

    def _ask_oembed(self, query: str) -> Reply:
        params = dict(parse_qsl(query, keep_blank_values=True))
        request = Request(Host.WWW, self.client_address[0], "oembed", oembed.photo_id(params))
        self._count(request, None)
        world = self.server.flickr.world

        def answer(fail: Fail | None = None) -> Reply:
            if fail is not None:  # a code of the API, which oEmbed has none of
                return reply.broken(503, "Service Unavailable")
            return oembed.answer(params, world, image_base=self._origin())

        return self._struck(request, answer)

    def _fetch_image(self, path: str) -> Reply:
        flickr = self.server.flickr
        photo, kind = static.named(path)
        request = Request(Host.IMAGE, self.client_address[0], kind, photo)
        self._count(request, None)
        # Real Flickr's placeholder is on another host; "localhost" is another name of this one.
        placeholder_base = f"http://localhost:{flickr.port}"

        def answer(fail: Fail | None = None) -> Reply:
            if fail is not None:
                return reply.broken(503, "Service Unavailable")
            return static.answer(
                path, flickr.world, flickr.files, placeholder_base=placeholder_base
            )

        return self._struck(request, answer)

    def _struck(self, request: Request, answer: Answerer) -> Reply:
        trouble = self.server.flickr.faults.strike(request)
        return answer() if trouble is None else trouble.spoil(answer)

    def _count(self, request: Request, nonce: str | None) -> bool:
        agent = self.headers.get("User-Agent", "")
        return self.server.flickr.counting.request(request, agent, nonce)

    def _origin(self) -> str:
        return "http://" + self.headers.get("Host", self.server.flickr.image_url[7:])
