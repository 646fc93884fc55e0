"""An image host that answers oddly on request, and clients of it."""

from __future__ import annotations

import gzip
import http.server
import socket
import struct
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import unquote

from popq.images.fetch import ImageClient

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

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

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

    def answer_busy(self, _):
        """Answer 429, and hang up before its page is whole."""
        self.answer(HTML[:6], status=429, content_type="text/html", length=117, Retry_After="7")
        self.close_connection = True

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

    def answer_immense(self, _):
        self.answer(BODY, length="9" * 5000)
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

    def answer_chunks(self, rest):
        """Drip the length of a chunk, or what follows the last one."""
        self.begin(Transfer_Encoding="chunked")
        start, part = {"length": (b"1;", b"x"), "trailer": (b"1\r\n{\r\n0\r\n", b"A: b\r\n")}[rest]
        try:
            self.wfile.write(start)
            while not self.server.closing.wait(0.02):
                self.wfile.write(part)
        except OSError:
            pass

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


def client_of(server, **options):
    defaults = {"base_url": server.url, "connect_timeout_s": 30, "read_timeout_s": 30}
    return ImageClient(max_bytes=1_000_000, **(defaults | options))
