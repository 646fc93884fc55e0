"""Fetching: what a host may answer, over real sockets, and what it means for the photo."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import shutil
import socket
import ssl
import struct
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import unquote

import pytest

import popq
from popq.errors import Misconfigured, Outcome, Permanent, Throttled, Transient
from popq.images.fetch import HOST, ImageClient, forbids

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

    def answer_dripping(self, _):
        """Drip headers, each byte well within the read time-out."""
        self.send_response(200)
        self.flush_headers()
        try:
            while not self.server.closing.wait(0.02):
                self.wfile.write(b"x")
        except OSError:
            pass
        self.close_connection = True

    def answer_robots(self, rest):
        self.answer(BODY, X_Robots_Tag=unquote(rest))

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


def client_of(server, **options):
    defaults = {"base_url": server.url, "connect_timeout_s": 30, "read_timeout_s": 30}
    return ImageClient(max_bytes=1_000_000, **(defaults | options))


@pytest.fixture
def client(server):
    with client_of(server) as client:
        yield client


@pytest.mark.parametrize("where", ["photo.jpg", "chunked", "gzip"])
def test_a_photo_comes_whole_with_its_hash(client, server, where):
    fetched = client.fetch(f"{server.url}/{where}")
    assert fetched.sha256 == hashlib.sha256(BODY).hexdigest()
    assert fetched.data == BODY
    assert fetched.content_type == "image/jpeg"


def test_without_a_content_type_decoding_will_tell(client, server):
    assert client.fetch(f"{server.url}/untyped").content_type == ""


def test_the_host_is_told_who_asks(client, server):
    client.fetch(f"{server.url}/photo.jpg")
    _, headers, _ = server.seen[0]
    assert headers["User-Agent"].startswith(f"popq/{popq.__version__} (")
    assert headers["Accept-Encoding"] == "identity"


def test_one_thread_keeps_its_connection(client, server):
    for _ in range(3):
        client.fetch(f"{server.url}/photo.jpg")
    assert len({address for _, _, address in server.seen}) == 1


def test_many_threads_share_a_client(client, server):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: client.fetch(f"{server.url}/photo.jpg"), range(40)))
    assert {one.sha256 for one in found} == {hashlib.sha256(BODY).hexdigest()}


def test_a_client_that_was_closed_connects_anew(client, server):
    client.fetch(f"{server.url}/photo.jpg")
    client.close()
    assert client.fetch(f"{server.url}/photo.jpg").data == BODY


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
        ("moved/http://127.0.0.1:6379/a.jpg", (Outcome.PLACEHOLDER, 302)),
        ("moved/http://169.254.169.254/latest/meta-data/", (Outcome.PLACEHOLDER, 302)),
        ("moved/http://live.staticflickr.com:22/a.jpg", (Outcome.PLACEHOLDER, 302)),
        ("moved/file:///etc/passwd", (Outcome.PLACEHOLDER, 302)),
        ("robots/noai", (Outcome.PRIVATE, 200)),
        ("robots/popq:%20noindex", (Outcome.PRIVATE, 200)),
    ],
)
def test_a_fact_about_the_photo_is_permanent(client, server, where, expected):
    with pytest.raises(Permanent) as caught:
        client.fetch(f"{server.url}/{where}")
    assert (caught.value.outcome, caught.value.http_status) == expected


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
def test_a_fault_that_passes_is_transient(client, server, where, status):
    with pytest.raises(Transient) as caught:
        client.fetch(f"{server.url}/{where}")
    assert caught.value.outcome == Outcome.TRANSIENT
    assert status is None or caught.value.http_status == status


def test_a_host_that_is_not_there_is_transient():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{taken.getsockname()[1]}"
        client = ImageClient(base_url=base, max_bytes=1, connect_timeout_s=30, read_timeout_s=30)
        with client, pytest.raises(Transient, match="refused"):
            client.fetch(f"{base}/photo.jpg")


def test_nothing_is_repeated(client, server):
    for where in ("status/500", "hangup", "429"):
        with pytest.raises((Transient, Throttled)):
            client.fetch(f"{server.url}/{where}")
    assert [seen for seen, _, _ in server.seen] == ["/status/500", "/hangup", "/429"]


def test_a_429_is_for_the_whole_host(client, server):
    with pytest.raises(Throttled) as caught:
        client.fetch(f"{server.url}/429")
    assert caught.value.host == HOST == "images"
    assert caught.value.retry_after_s is None


@pytest.mark.parametrize(
    ("form", "bounds"),
    [("seconds", (17, 17)), ("date", (1, 90)), ("zoneless", (1, 90)), ("past", (0, 0))],
)
def test_a_429_may_say_how_long(client, server, form, bounds):
    with pytest.raises(Throttled) as caught:
        client.fetch(f"{server.url}/wait/{form}")
    assert bounds[0] <= caught.value.retry_after_s <= bounds[1]


def test_a_wait_that_cannot_be_read_is_none(client, server):
    with pytest.raises(Throttled) as caught:
        client.fetch(f"{server.url}/wait/junk")
    assert caught.value.retry_after_s is None


@pytest.mark.parametrize("where", ["hops/3", "moved//photo.jpg"])
def test_redirects_at_home_are_followed(client, server, where):
    assert client.fetch(f"{server.url}/{where}").data == BODY


@pytest.mark.parametrize("name", ["live", "farm5", "c2"])
def test_redirects_to_flickrs_hosts_are_followed(server, name, monkeypatch):
    # Flickr's hosts are reached through a proxy, which is the server of this test.
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setattr(Handler, "do_GET", answer_as_proxy)
    with client_of(server) as client:
        target = f"http://{name}.staticflickr.com/photo.jpg"
        assert client.fetch(f"{server.url}/moved/{target}").data == BODY


def answer_as_proxy(handler):
    if handler.path.startswith("http://"):
        handler.answer_photo("")
    else:
        handler.answer_moved(handler.path.removeprefix("/moved/"))


@pytest.mark.parametrize(
    "url",
    [
        "photo.jpg",
        "ftp://live.staticflickr.com/photo.jpg",
        "http:///photo.jpg",
        "http://[oops/photo.jpg",
        "http://live.staticflickr.com:99999/photo.jpg",
        "http://live.staticflickr.com:6379/photo.jpg",
        "http://live.staticflickr.com@example.invalid/photo.jpg",
        "http://user@live.staticflickr.com/photo.jpg",
        "http://live.staticflickr.com.example.invalid/photo.jpg",
        "http://example.invalid/live.staticflickr.com/photo.jpg",
        "http://127.0.0.1/photo.jpg",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/photo.jpg",
        "http://2130706433/photo.jpg",
    ],
)
def test_a_host_that_is_not_flickrs_is_not_asked(client, server, url):
    """Counted, not final: it says something about the row, not about the photo."""
    with pytest.raises(Transient) as caught:
        client.fetch(url)
    assert caught.value.outcome == Outcome.NOT_FLICKR
    assert not server.seen


@pytest.mark.parametrize("where", ["silence", "stall"])
def test_silence_ends_with_the_read_time_out(server, where):
    with client_of(server, read_timeout_s=0.2) as client, pytest.raises(Transient, match="timed"):
        client.fetch(f"{server.url}/{where}")


@pytest.mark.parametrize("where", ["drip", "dripping"])
def test_a_drip_ends_with_the_total_time_out(server, where):
    """Of the body, and of the headers."""
    with client_of(server, total_timeout_s=0.3) as client, pytest.raises(Transient, match="slow"):
        client.fetch(f"{server.url}/{where}")


def test_a_slow_answer_before_the_body_counts_too(server):
    with client_of(server, total_timeout_s=0) as client, pytest.raises(Transient, match="slow"):
        client.fetch(f"{server.url}/photo.jpg")


@pytest.mark.parametrize(
    ("robots", "forbidden"),
    [
        ("noai", True),
        ("NoImageAI", True),
        ("nofollow, noindex", True),
        ("none", True),
        ("unavailable_after: 25 Jun 2030, noai", True),
        ("popq: noai", True),
        ("otherbot: noai, nofollow", False),
        ("otherbot: noai, popq: noindex", True),
        ("all", False),
        ("nofollow, max-snippet: 20", False),
        ("", False),
    ],
)
def test_what_x_robots_tag_forbids(robots, forbidden):
    assert forbids(robots) is forbidden


def test_other_robots_directives_are_not_ours(client, server):
    assert client.fetch(f"{server.url}/robots/otherbot:%20noai").data == BODY


def test_a_short_refusal_keeps_the_connection(client, server):
    """Sizes that are missing are asked for one after the other."""
    for _ in range(3):
        with pytest.raises(Permanent):
            client.fetch(f"{server.url}/status/404")
    assert client.fetch(f"{server.url}/photo.jpg").data == BODY
    assert len({address for _, _, address in server.seen}) == 1


def test_a_flickr_host_with_an_address_of_ones_own_network_is_not_asked(server):
    """By DNS: the name server says that Flickr's host is this machine."""

    def lookup(host, port, **_):
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.server_port))]

    asked = []
    with client_of(server, lookup=lookup) as client:
        for url in (
            "http://live.staticflickr.com/65535/1_a_z.jpg",
            "https://farm5.static.flickr.com/65535/1_a_z.jpg",
            f"{server.url}/moved/http://live.staticflickr.com/photo.jpg",
        ):
            with pytest.raises(Misconfigured, match=r"resolves to 127\.0\.0\.1"):
                client.fetch(url)
    assert asked == [
        "live.staticflickr.com",
        "farm5.static.flickr.com",
        "127.0.0.1",
        "live.staticflickr.com",
    ]
    assert [path for path, _, _ in server.seen] == ["/moved/http://live.staticflickr.com/photo.jpg"]


def test_a_name_is_resolved_once_for_what_is_checked_and_connected_to(server):
    """DNS rebinding: there is no second answer that could lead elsewhere."""
    answers = iter(["127.0.0.1"])

    def lookup(host, port, **_):
        assert host == "mirror.test"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    base = f"http://mirror.test:{server.server_port}"
    with client_of(server, base_url=base, lookup=lookup) as client:
        assert client.fetch(f"{base}/photo.jpg").data == BODY
    assert next(answers, None) is None


@pytest.fixture
def certificate(tmp_path, monkeypatch):
    """A certificate for mirror.test that the environment trusts."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl")
    both = tmp_path / "both.pem"
    names = "-subj /CN=mirror.test -addext subjectAltName=DNS:mirror.test"
    command = f"req -x509 -newkey rsa:2048 -nodes -days 2 {names} -keyout key -out certificate"
    subprocess.run([openssl, *command.split()], cwd=tmp_path, check=True, capture_output=True)
    both.write_text((tmp_path / "key").read_text() + (tmp_path / "certificate").read_text())
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "certificate"))
    return both


def test_over_tls_the_certificate_must_be_the_names(server, certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)

    def lookup(host, port, **_):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    for name in ("mirror.test", "other.test"):
        base = f"https://{name}:{server.server_port}"
        with client_of(server, base_url=base, lookup=lookup) as client:
            if name == "mirror.test":
                assert client.fetch(f"{base}/photo.jpg").data == BODY
            else:
                with pytest.raises(Transient, match="certificate"):
                    client.fetch(f"{base}/photo.jpg")
