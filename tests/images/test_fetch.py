"""Fetching: what a host may answer, over real sockets, and what it means for the photo."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

import popq
from popq.errors import Misconfigured, Outcome, Permanent, Throttled, Transient
from popq.images.fetch import HOST, ImageClient

BODY = b"\xff\xd8\xff" + bytes(range(256)) * 700
HTML = b"<html><body><h1>429 Too Many Requests</h1></body></html>"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by path: `/status/404`, or one of the methods below."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.seen.append((self.path, dict(self.headers), self.client_address))
        name, _, rest = self.path.strip("/").partition("/")
        getattr(self, f"answer_{name.removesuffix('.jpg')}")(rest)

    def answer(self, body, *, status=200, content_type="image/jpeg", length=None, **headers):
        self.send_response(status)
        if content_type is not None:
            self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def begin(self, *, status=200, **headers):
        """Start an answer whose end is the end of the connection."""
        self.send_response(status)
        for name, value in {"Content_Type": "image/jpeg", "Connection": "close", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.close_connection = True

    def answer_photo(self, _):
        self.answer(BODY)

    def answer_status(self, rest):
        self.answer(b"", status=int(rest), content_type="text/html")

    def answer_429(self, _):
        self.answer(HTML, status=429, content_type="text/html")

    def answer_wait(self, rest):
        when = datetime.now(UTC) + timedelta(seconds=90)
        value = {"seconds": "17", "past": "Wed, 21 Oct 2015 07:28:00 GMT", "junk": "soon"}
        value["date"] = format_datetime(when, usegmt=True)
        value["zoneless"] = when.strftime("%a, %d %b %Y %H:%M:%S -0000")
        self.answer(HTML, status=429, content_type="text/html", Retry_After=value[rest])

    def answer_html(self, _):
        self.answer(HTML, content_type="text/html; charset=utf-8")

    def answer_untyped(self, _):
        self.answer(BODY, content_type=None)

    def answer_empty(self, _):
        self.answer(b"")

    def answer_chunked(self, rest):
        self.begin(Transfer_Encoding="chunked")
        for start in range(0, len(BODY), 50_000):
            part = BODY[start : start + 50_000]
            self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        if rest != "cut":
            self.wfile.write(b"0\r\n\r\n")

    def answer_short(self, _):
        self.answer(BODY[:1000], length=len(BODY))
        self.close_connection = True

    def answer_announced(self, _):
        self.answer(b"", length=10_000_000)
        self.close_connection = True

    def answer_endless(self, _):
        self.begin()
        try:
            while True:
                self.wfile.write(bytes(100_000))
        except OSError:
            pass

    def answer_gzip(self, rest):
        packed = gzip.compress(BODY)
        self.begin(Content_Encoding="gzip")
        body = {"": packed, "cut": packed[:-20], "damaged": packed[:20] + b"\x00" * 50}[rest]
        self.wfile.write(body)

    def answer_bomb(self, _):
        self.begin(Content_Encoding="gzip")
        self.wfile.write(gzip.compress(bytes(5_000_000)))

    def answer_brotli(self, _):
        self.answer(BODY, Content_Encoding="br")

    def answer_silence(self, _):
        self.server.closing.wait(5)
        self.close_connection = True

    def answer_stall(self, _):
        self.begin()
        self.wfile.write(BODY[:1000])
        self.server.closing.wait(5)

    def answer_drip(self, _):
        self.begin()
        try:
            while not self.server.closing.wait(0.02):
                self.wfile.write(b"x")
        except OSError:
            pass

    def answer_hangup(self, _):
        self.close_connection = True

    def answer_reset(self, _):
        self.begin(Content_Length=str(len(BODY)))
        self.wfile.write(BODY[:1000])
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def answer_nonsense(self, _):
        self.wfile.write(b"this is not HTTP\r\n\r\n")
        self.close_connection = True

    def answer_moved(self, rest):
        self.answer(b"", status=302, Location=rest)

    def answer_brackets(self, _):
        self.answer(b"", status=302, Location="http://[oops/a.jpg")

    def answer_talkative(self, _):
        self.begin(status=302, Location="http://example.invalid/photo.jpg")
        self.server.closing.wait(5)

    def answer_hops(self, rest):
        left = int(rest)
        self.answer(b"", status=302, Location=f"/hops/{left - 1}" if left > 1 else "/photo.jpg")

    def answer_nowhere(self, _):
        self.answer(b"", status=302)


class Server(http.server.ThreadingHTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen = []
        self.closing = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_):
        """Say nothing: a client that hangs up is what some tests are about."""


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()
    thread.join()


def client_of(server, **times):
    defaults = {"connect_timeout_s": 30, "read_timeout_s": 30}
    return ImageClient(base_url=server.url, max_bytes=1_000_000, **(defaults | times))


@pytest.fixture
def client(server):
    with client_of(server) as client:
        yield client


@pytest.fixture
def path(tmp_path):
    return tmp_path / "part"


@pytest.mark.parametrize("where", ["photo.jpg", "chunked", "gzip"])
def test_a_photo_comes_whole_with_its_hash(client, server, path, where):
    fetched = client.fetch(f"{server.url}/{where}", path)
    assert path.read_bytes() == BODY
    assert fetched.sha256 == hashlib.sha256(BODY).hexdigest()
    assert fetched.bytes == len(BODY)
    assert fetched.content_type == "image/jpeg"


def test_without_a_content_type_decoding_will_tell(client, server, path):
    assert client.fetch(f"{server.url}/untyped", path).content_type == ""


def test_the_host_is_told_who_asks(client, server, path):
    client.fetch(f"{server.url}/photo.jpg", path)
    _, headers, _ = server.seen[0]
    assert headers["User-Agent"].startswith(f"popq/{popq.__version__} (")
    assert headers["Accept-Encoding"] == "identity"


def test_one_thread_keeps_its_connection(client, server, path):
    for _ in range(3):
        client.fetch(f"{server.url}/photo.jpg", path)
    assert len({address for _, _, address in server.seen}) == 1


def test_many_threads_share_a_client(client, server, tmp_path):
    with ThreadPoolExecutor(8) as pool:
        found = list(
            pool.map(
                lambda n: client.fetch(f"{server.url}/photo.jpg", tmp_path / str(n)), range(40)
            )
        )
    assert {one.sha256 for one in found} == {hashlib.sha256(BODY).hexdigest()}


def test_a_client_that_was_closed_connects_anew(client, server, path):
    client.fetch(f"{server.url}/photo.jpg", path)
    client.close()
    assert client.fetch(f"{server.url}/photo.jpg", path).bytes == len(BODY)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("status/404", (Outcome.GONE, 404)),
        ("status/410", (Outcome.GONE, 410)),
        ("status/403", (Outcome.PRIVATE, 403)),
        ("html.jpg", (Outcome.PLACEHOLDER, 200)),
        ("endless", (Outcome.TOO_LARGE, None)),
        ("announced", (Outcome.TOO_LARGE, None)),
        ("bomb", (Outcome.TOO_LARGE, None)),
        ("moved/http://example.invalid/photo.jpg", (Outcome.PLACEHOLDER, 302)),
        ("moved/http://live.staticflickr.com.example.invalid/a.jpg", (Outcome.PLACEHOLDER, 302)),
        ("moved/http://x@live.staticflickr.com/a.jpg", (Outcome.PLACEHOLDER, 302)),
        ("moved/ftp://live.staticflickr.com/a.jpg", (Outcome.PLACEHOLDER, 302)),
        ("talkative", (Outcome.PLACEHOLDER, 302)),
        ("brackets", (Outcome.PLACEHOLDER, 302)),
        ("moved//pw/images/en-us/photo_unavailable.png", (Outcome.PLACEHOLDER, 302)),
        ("hops/4", (Outcome.PLACEHOLDER, None)),
    ],
)
def test_a_fact_about_the_photo_is_permanent(client, server, path, where, expected):
    with pytest.raises(Permanent) as caught:
        client.fetch(f"{server.url}/{where}", path)
    assert (caught.value.outcome, caught.value.http_status) == expected
    assert not path.exists()


@pytest.mark.parametrize(
    ("where", "status"),
    [
        ("status/400", 400),
        ("status/401", 401),
        ("status/408", 408),
        ("status/500", 500),
        ("status/502", 502),
        ("status/504", 504),
        ("status/204", 204),
        ("nowhere", 302),
        ("empty", 200),
        ("short", None),
        ("chunked/cut", None),
        ("gzip/cut", 200),
        ("gzip/damaged", None),
        ("brotli", None),
        ("hangup", None),
        ("reset", None),
        ("nonsense", None),
    ],
)
def test_a_fault_that_passes_is_transient(client, server, path, where, status):
    with pytest.raises(Transient) as caught:
        client.fetch(f"{server.url}/{where}", path)
    assert caught.value.outcome == Outcome.TRANSIENT
    assert status is None or caught.value.http_status == status
    assert not path.exists()


def test_a_host_that_is_not_there_is_transient(client, path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(Transient, match="refused"):
            client.fetch(f"http://127.0.0.1:{taken.getsockname()[1]}/photo.jpg", path)


def test_nothing_is_repeated(client, server, path):
    for where in ("status/500", "hangup", "429"):
        with pytest.raises((Transient, Throttled)):
            client.fetch(f"{server.url}/{where}", path)
    assert [seen for seen, _, _ in server.seen] == ["/status/500", "/hangup", "/429"]


def test_a_429_is_for_the_whole_host(client, server, path):
    with pytest.raises(Throttled) as caught:
        client.fetch(f"{server.url}/429", path)
    assert caught.value.host == HOST == "images"
    assert caught.value.retry_after_s is None
    assert not path.exists()


@pytest.mark.parametrize(
    ("form", "bounds"),
    [("seconds", (17, 17)), ("date", (1, 90)), ("zoneless", (1, 90)), ("past", (0, 0))],
)
def test_a_429_may_say_how_long(client, server, path, form, bounds):
    with pytest.raises(Throttled) as caught:
        client.fetch(f"{server.url}/wait/{form}", path)
    assert bounds[0] <= caught.value.retry_after_s <= bounds[1]


def test_a_wait_that_cannot_be_read_is_none(client, server, path):
    with pytest.raises(Throttled) as caught:
        client.fetch(f"{server.url}/wait/junk", path)
    assert caught.value.retry_after_s is None


@pytest.mark.parametrize("where", ["hops/3", "moved//photo.jpg"])
def test_redirects_at_home_are_followed(client, server, path, where):
    assert client.fetch(f"{server.url}/{where}", path).bytes == len(BODY)


@pytest.mark.parametrize("name", ["live", "farm5", "c2"])
def test_redirects_to_flickrs_hosts_are_followed(server, path, name, monkeypatch):
    # Flickr's hosts are reached through a proxy, which is the server of this test.
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setattr(Handler, "do_GET", answer_as_proxy)
    with client_of(server) as client:
        target = f"http://{name}.staticflickr.com/photo.jpg"
        assert client.fetch(f"{server.url}/moved/{target}", path).bytes == len(BODY)


def answer_as_proxy(handler):
    if handler.path.startswith("http://"):
        handler.answer_photo("")
    else:
        handler.answer_moved(handler.path.removeprefix("/moved/"))


@pytest.mark.parametrize("url", ["photo.jpg", "ftp://127.0.0.1/photo.jpg", "http:///photo.jpg"])
def test_what_is_no_web_address_is_permanent(client, path, url):
    with pytest.raises(Permanent) as caught:
        client.fetch(url, path)
    assert caught.value.outcome == Outcome.NOT_FLICKR


def test_a_path_that_cannot_be_written_is_misconfigured(client, server, tmp_path):
    with pytest.raises(Misconfigured, match="nowhere"):
        client.fetch(f"{server.url}/photo.jpg", tmp_path / "nowhere" / "part")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's disk that is full")
def test_a_full_disk_is_misconfigured(client, server, path):
    path.symlink_to("/dev/full")
    with pytest.raises(Misconfigured, match="No space left"):
        client.fetch(f"{server.url}/photo.jpg", path)
    assert not path.is_symlink()


def test_a_failure_removes_what_was_there_before(client, server, path):
    path.write_bytes(b"an earlier try")
    with pytest.raises(Permanent):
        client.fetch(f"{server.url}/status/404", path)
    assert not path.exists()


@pytest.mark.parametrize("where", ["silence", "stall"])
def test_silence_ends_with_the_read_time_out(server, path, where):
    with client_of(server, read_timeout_s=0.2) as client, pytest.raises(Transient, match="timed"):
        client.fetch(f"{server.url}/{where}", path)
    assert not path.exists()


def test_a_drip_ends_with_the_total_time_out(server, path):
    with client_of(server, total_timeout_s=0.3) as client, pytest.raises(Transient, match="slow"):
        client.fetch(f"{server.url}/drip", path)
    assert not path.exists()


def test_a_slow_answer_before_the_body_counts_too(server, path):
    with client_of(server, total_timeout_s=0) as client, pytest.raises(Transient, match="slow"):
        client.fetch(f"{server.url}/photo.jpg", path)
