"""Is `popq fake-flickr` no bottleneck: 0.6 of the images a CPU second of Python's http.server?

Both serve the same 200 files of about 80 KB to 8 clients that keep their connections, in turns,
median of 3. The peer is `ThreadingHTTPServer` with `SimpleHTTPRequestHandler` and HTTP/1.1: it
reads and sends a file, and counts, checks, scripts and chunks nothing. Clients are processes that
speak HTTP by bare sockets, so that they cost little; what counts is the server's own CPU time,
which a busy machine hardly changes. Also claimed: 1,500 images a CPU second, and as many API calls
(getInfo). Prints JSON; exits 1 on a miss.
"""

from __future__ import annotations

import json
import multiprocessing
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

FILES = 200
CLIENTS = 8
REQUESTS = 500  # a client and turn
TURNS = 3
FLOOR = 0.6
ENOUGH = 1500
KEY = "0123456789abcdef0123456789abcdef"
FIRST_ID = 52_000_000_000

#: A server that tells its port and its paths, then its CPU time whenever a line comes in.
SERVER = """
import sys, time
from pathlib import Path
kind, folder = sys.argv[1], Path(sys.argv[2])
if kind == "fake":
    from popq.flickr.fake.server import FakeFlickr
    from popq.flickr.fake.world import folder_world
    server = FakeFlickr(folder_world(folder))
    port, photos = server.port, server.world.photos.values()
    print(port, *(f"/{p.server}/{p.flickr_id}_{p.secret}_z.jpg" for p in photos), flush=True)
    server.start()
else:
    import functools, http.server, threading
    class Handler(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        def log_message(self, *arguments):
            pass
    handler = functools.partial(Handler, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    print(server.server_port, *(f"/{path.name}" for path in folder.iterdir()), flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
for line in sys.stdin:
    print(time.process_time(), flush=True)
"""


def fill(folder: Path) -> None:
    for number in range(FILES):
        rng = np.random.default_rng(number)
        coarse = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        smooth = Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC)
        noisy = np.asarray(smooth) + rng.integers(-18, 18, (375, 500, 3))
        picture = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
        picture.save(folder / f"{FIRST_ID + number}.jpg", quality=90)


def fetch(port: int, paths: list[str], count: int) -> None:
    """Fetch `count` paths in turn by one connection, and read every byte."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = connection.makefile("rb")
        for number in range(count):
            path = paths[number % len(paths)]
            head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: bench\r\n\r\n"
            connection.sendall(head.encode())
            if b" 200 " not in stream.readline():
                raise SystemExit(f"{path} was not served")
            length = None
            while (line := stream.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            if length is not None:
                stream.read(length)
                continue
            while size := int(stream.readline(), 16):
                stream.read(size + 2)
            stream.readline()


class Server:
    def __init__(self, kind: str, folder: Path) -> None:
        command = [sys.executable, "-c", SERVER, kind, str(folder)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        port, *self.paths = self.process.stdout.readline().split()
        self.port = int(port)
        fetch(self.port, self.paths, FILES)  # warms both up

    def cpu(self) -> float:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def rates(self, paths: list[str]) -> tuple[float, float]:
        """Return requests a CPU second of the server, and a second of wall time."""
        before, start = self.cpu(), time.perf_counter()
        clients = [
            multiprocessing.Process(
                target=fetch, args=(self.port, paths[25 * n :] + paths[: 25 * n], REQUESTS)
            )
            for n in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        if any(client.exitcode for client in clients):
            raise SystemExit("a client failed")
        done = CLIENTS * REQUESTS
        wall = time.perf_counter() - start
        return done / (self.cpu() - before), done / wall

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder)
        fake, peer = Server("fake", folder), Server("peer", folder)
        try:
            call = f"/services/rest/?method=flickr.photos.getInfo&api_key={KEY}&photo_id="
            calls = [f"{call}{FIRST_ID + number}" for number in range(FILES)]
            turns = [(fake.rates(fake.paths), peer.rates(peer.paths)) for _ in range(TURNS)]
            api = [fake.rates(calls)[0] for _ in range(TURNS)]
        finally:
            fake.stop()
            peer.stop()
    ratio = statistics.median(ours[0] / theirs[0] for ours, theirs in turns)
    images = statistics.median(ours[0] for ours, _ in turns)
    api_rate = statistics.median(api)
    result = {
        "name": "fake-flickr",
        "ratio": round(ratio, 3),
        "floor": FLOOR,
        "ok": ratio >= FLOOR and min(images, api_rate) >= ENOUGH,
        "images_per_cpu_second": round(images),
        "images_per_second": round(statistics.median(ours[1] for ours, _ in turns)),
        "api_calls_per_cpu_second": round(api_rate),
        "peer_images_per_cpu_second": round(statistics.median(theirs[0] for _, theirs in turns)),
    }
    print(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
