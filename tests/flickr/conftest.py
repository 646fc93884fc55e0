"""A small world behind real sockets."""

from __future__ import annotations

import io
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
from PIL import Image

from popq.flickr import urls
from popq.flickr.client import FlickrClient
from popq.flickr.fake.server import DEMO_KEY, DEMO_SECRET, FakeFlickr
from popq.flickr.fake.world import FakePhoto, Fate, World

READ_TIMEOUT_S = 5.0
JSON = {"format": "json", "nojsoncallback": "1"}

FIRST_ID = 52000000000


def draw(width, height, kind="JPEG", mode="RGB", **options):
    out = io.BytesIO()
    gradient = Image.linear_gradient("L").resize((width, height)).convert(mode)
    gradient.save(out, kind, **options)
    return out.getvalue()


@pytest.fixture(scope="session")
def picture():
    """Make the bytes of a picture: (width, height, kind, mode, options of Pillow's save)."""
    return draw


@pytest.fixture(scope="session")
def big_jpeg():
    return draw(1200, 800)


@pytest.fixture
def world(big_jpeg):
    """One photo of each fate, ids 52000000000 and up in the order of `Fate`."""
    world = World()
    for number, fate in enumerate(Fate):
        world.add(
            FakePhoto(
                flickr_id=FIRST_ID + number,
                owner="12345678@N00",
                server="65535",
                secret="0123456789",
                image=lambda: big_jpeg,
                title="Ein Café &#039;42' 🎈",
                tags=("blue", "sky/2"),
                views=18043,
                licence=4,
                fate=fate,
            )
        )
    return world


@pytest.fixture
def by_fate(world):
    return {photo.fate: photo for photo in world.photos.values()}


@pytest.fixture
def fake(world):
    with FakeFlickr(world) as server:
        yield server


@pytest.fixture
def connect(fake):
    """Make clients of the fake; they are closed before it stops."""
    clients = []

    def make(key=DEMO_KEY, secret=DEMO_SECRET, *, api_url=None, **timeouts):
        client = FlickrClient(
            key,
            secret,
            api_url=api_url or fake.api_url,
            **({"connect_timeout_s": 5.0, "read_timeout_s": READ_TIMEOUT_S} | timeouts),
        )
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def client(connect):
    return connect()


@pytest.fixture
def session():
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def ask(fake, session):
    """Make one plain call with the demo key; gives the response."""

    def call(method, *, key=DEMO_KEY, **params):
        wanted = {"method": method, "api_key": key, **JSON, **params}
        return session.get(
            fake.api_url, params={name: value for name, value in wanted.items() if value}
        )

    return call


@pytest.fixture
def fetch(fake, session):
    """Get one image of a photo; gives the response, redirects not followed."""

    def get(photo, size="z", *, secret=None, base=None):
        url = urls.image_url(
            base or fake.image_url, photo.server, photo.flickr_id, secret or photo.secret, size
        )
        return session.get(url, allow_redirects=False)

    return get


@pytest.fixture(scope="session")
def answering():
    """A server that answers every call, GET or POST, with what the test says last.

    Gives (its base URL, set_answer).
    """

    class Handler(BaseHTTPRequestHandler):
        answer, status, headers_sent = b"", 200, ()

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def do_GET(self):
            self.send_response(Handler.status)
            for name, value in Handler.headers_sent:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(Handler.answer)))
            self.end_headers()
            self.wfile.write(Handler.answer)

        def log_message(self, *args):
            pass

    def set_answer(body, *, status=200, headers=()):
        Handler.answer = body if isinstance(body, bytes) else json.dumps(body).encode()
        Handler.status, Handler.headers_sent = status, headers

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", set_answer
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def canned(answering):
    """A client of the API whose answers the test says; gives (client, set_answer)."""
    base, set_answer = answering
    url = f"{base}/services/rest/"
    with FlickrClient(
        DEMO_KEY, DEMO_SECRET, api_url=url, connect_timeout_s=5, read_timeout_s=5
    ) as client:
        yield client, set_answer


@pytest.fixture
def wire(fake):
    """Send one GET by a bare socket and read until the server closes.

    Gives the lines of the answer's head and the bytes behind it, exactly as they came.
    """

    def get(path, *headers):
        lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{fake.port}", "Connection: close"]
        with socket.create_connection(("127.0.0.1", fake.port), timeout=30) as connection:
            connection.sendall("\r\n".join([*lines, *headers, "", ""]).encode())
            with connection.makefile("rb") as stream:
                head, _, body = stream.read().partition(b"\r\n\r\n")
        return head.decode().split("\r\n"), body

    return get
