"""Puts an answer of the fake Flickr on the wire: chunked, packed, late, cut or not at all."""

from __future__ import annotations

import gzip
import os
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler

from popq.flickr.fake.reply import HangUp, Pause, Reply

_IDLE_S = 60  # a connection kept open for longer without a request is closed
_BUFFER = 16 * 1024
_DROPS = 20  # pieces of a body that drips
_LINGER_NONE = struct.pack("ii", 1, 0)  # close() then resets the connection
_NOTHING = frozenset({204, 304})


class Wire(BaseHTTPRequestHandler):
    """A connection; its subclass's `serve` answers a request, and `stopping` ends every pause."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = _BUFFER
    timeout = _IDLE_S
    stopping: threading.Event

    def serve(self) -> None:
        """Answer the request that was read, by `send`."""
        raise NotImplementedError

    def do_GET(self) -> None:
        """Answer a GET."""
        self.serve()

    def do_HEAD(self) -> None:
        """Answer a GET without its body."""
        self.serve()

    def do_POST(self) -> None:
        """Answer a POST."""
        self.serve()

    def do_DELETE(self) -> None:
        """Answer a DELETE."""
        self.serve()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Stay silent: the counters tell what came in."""

    def packed(self, reply: Reply) -> Reply:
        """Return an answer as it goes out: packed by gzip if its client wants that."""
        names = {name.lower(): value for name, value in reply.headers}
        if (
            not reply.chunked
            or "content-encoding" in names
            or names.get("content-type", "").startswith("image/")
            or "gzip" not in self.headers.get("Accept-Encoding", "")
        ):
            return reply
        return replace(
            reply,
            headers=(*reply.headers, ("Content-Encoding", "gzip")),
            body=gzip.compress(reply.body, compresslevel=1),
        )

    def send(self, reply: Reply, ending: Callable[[], None] = lambda: None) -> None:
        """Send an answer, with all that is wrong with it.

        `ending` is called before the last bytes: whoever has the whole answer finds it done.
        """
        if reply.hang_up is not None:
            ending()
            self._hang_up(reply.hang_up)
            return
        if reply.pause_s and reply.pause is Pause.FIRST:
            self.stopping.wait(reply.pause_s)
        lying = reply.cut_at is not None or reply.stated_length is not None
        if lying:
            self.close_connection = True
        self._send_head(reply)
        bodiless = self.command == "HEAD" or reply.status in _NOTHING
        if bodiless:
            ending()
        else:
            self._send_body(reply, ending)
        self.wfile.flush()

    def _send_head(self, reply: Reply) -> None:
        phrase = self.responses.get(reply.status, ("",))[0]
        lines = [
            f"{self.protocol_version} {reply.status} {phrase}",
            f"Date: {self.date_time_string()}",
            *(f"{name}: {value}" for name, value in reply.headers),
        ]
        if reply.chunked:
            lines.append("Transfer-Encoding: chunked")
        else:
            stated = len(reply.body) if reply.stated_length is None else reply.stated_length
            lines.append(f"Content-Length: {stated}")
        lines += ["", ""]
        if not (reply.pause_s and reply.pause is Pause.HEADERS):
            self.wfile.write("\r\n".join(lines).encode("latin-1"))
            return
        for line in lines[:-1]:
            self.wfile.write(f"{line}\r\n".encode("latin-1"))
            self.wfile.flush()
            self.stopping.wait(reply.pause_s)

    def _send_body(self, reply: Reply, ending: Callable[[], None]) -> None:
        body = reply.body if reply.cut_at is None else reply.body[: reply.cut_at]
        pieces = _pieces(body, reply)
        for number, piece in enumerate(pieces, start=1):
            if number == len(pieces) and not reply.chunked:
                ending()
            if reply.chunked:
                self.wfile.write(b"%x\r\n" % len(piece))
                self.wfile.write(piece)  # a large one goes out as it is, without a copy
                self.wfile.write(b"\r\n")
            else:
                self.wfile.write(piece)
            if number < len(pieces):
                self.wfile.flush()
                self.stopping.wait(reply.pause_s)
        ending()
        if reply.chunked and reply.cut_at is None:
            self.wfile.write(b"0\r\n\r\n")

    def _hang_up(self, way: HangUp) -> None:
        self.close_connection = True
        if way is HangUp.RESET:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
            # Past the polite farewell of socketserver, which would look like a plain close.
            os.close(self.connection.detach())


def _pieces(body: bytes, reply: Reply) -> list[bytes]:
    parts = 1
    if reply.pause_s and reply.pause is Pause.MIDDLE:
        parts = 2
    elif reply.pause_s and reply.pause is Pause.DRIP:
        parts = _DROPS
    step = max(1, -(-len(body) // parts))
    return [body[start : start + step] for start in range(0, len(body), step)]
