"""A local image host for benchmarks: nginx from the distribution, with photos of its own.

Debian and Ubuntu: `apt-get install nginx libnginx-mod-http-echo openssl`. The echo module's
`echo_sleep` adds latency: the answer to each request is held back by nginx's own timer, which
costs no CPU and delays no other connection. (`tc netem` would delay packets instead, but needs
root and a kernel that has it.) Two doors, HTTP and HTTPS, each with and without latency.
"""

from __future__ import annotations

import getpass
import io
import os
import random
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import certifi
from PIL import Image
from sklearn.datasets import load_sample_images

FIRST_ID = 52_000_000_000
SIZE = (500, 375)
LEAST, MOST = 60_000, 120_000
LATENCY_S = 0.05
MODULE = Path("/usr/lib/nginx/modules/ngx_http_echo_module.so")
CONFIGURATION = """
load_module {module};
{user}
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  types {{ image/jpeg jpg; }}
  default_type application/octet-stream;
  sendfile on;
  tcp_nopush on;
  keepalive_timeout 75s;
  keepalive_requests 100000;
  root {photos};
  ssl_certificate {folder}/certificate.pem;
  ssl_certificate_key {folder}/key.pem;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{http};
    listen 127.0.0.1:{https} ssl;
  }}
  server {{
    listen 127.0.0.1:{slow_http};
    listen 127.0.0.1:{slow_https} ssl;
    location / {{ echo_sleep {latency}; echo_exec @photos; }}
    location @photos {{ }}
  }}
}}
"""


@dataclass(frozen=True)
class ImageHost:
    """The base URLs of the four doors, by (TLS, latency), and the CA file that vouches for it."""

    doors: dict[tuple[bool, bool], str]
    authorities: Path


def name_of(number: int) -> str:
    """The path of photo `number`, as Flickr would name its 500-pixel rendition."""
    return f"65535/{FIRST_ID + number}_{number:010x}_z.jpg"


def make_photos(folder: Path, count: int) -> None:
    """Make `count` distinct photos of 500x375 and 60 to 120 KB; what is there is kept."""
    (folder / "65535").mkdir(parents=True, exist_ok=True)
    missing = [number for number in range(count) if not (folder / name_of(number)).exists()]
    with ProcessPoolExecutor() as pool:
        list(pool.map(_make, [folder] * len(missing), missing, chunksize=50))


def _make(folder: Path, number: int) -> None:
    """Blend two crops of the photographs that scikit-learn ships."""
    rng = random.Random(number)
    while True:
        parts = []
        for pixels in load_sample_images().images:
            width = rng.randrange(300, 560)
            height = width * 3 // 4
            x, y = rng.randrange(640 - width + 1), rng.randrange(427 - height + 1)
            cut = Image.fromarray(pixels).crop((x, y, x + width, y + height))
            parts.append(cut.resize(SIZE, Image.Resampling.BICUBIC))
        out = io.BytesIO()
        Image.blend(*parts, rng.uniform(0.2, 0.8)).save(out, "JPEG", quality=rng.randint(93, 96))
        if LEAST <= len(out.getvalue()) <= MOST:
            break
    path = folder / name_of(number)
    part = path.with_suffix(".part")
    part.write_bytes(out.getvalue())
    part.replace(path)


@contextmanager
def serving(photos: Path, folder: Path) -> Iterator[ImageHost]:
    """Serve `photos`; keys, logs and configuration lie in `folder`."""
    if not MODULE.exists():
        raise SystemExit("needs apt-get install nginx libnginx-mod-http-echo")
    authorities = _certificate(folder)
    names = ("http", "https", "slow_http", "slow_https")
    ports = dict(zip(names, _free_ports(len(names)), strict=True))
    # As root nginx would serve as somebody else, who may not read the photos.
    user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
    text = CONFIGURATION.format(
        module=MODULE, user=user, folder=folder, photos=photos, latency=LATENCY_S, **ports
    )
    (folder / "nginx.conf").write_text(text)
    server = subprocess.Popen(["nginx", "-c", folder / "nginx.conf", "-p", folder])
    doors = {
        (False, False): f"http://127.0.0.1:{ports['http']}",
        (True, False): f"https://127.0.0.1:{ports['https']}",
        (False, True): f"http://127.0.0.1:{ports['slow_http']}",
        (True, True): f"https://127.0.0.1:{ports['slow_https']}",
    }
    try:
        for base in doors.values():
            _wait_for(f"{base}/{name_of(0)}", authorities)
        yield ImageHost(doors, authorities)
    finally:
        server.terminate()
        server.wait()


def _certificate(folder: Path) -> Path:
    """Make a certificate for 127.0.0.1; return a CA file with it and all that the world trusts.

    With all of them, since that is what a client has to load for the real image host.
    """
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=127.0.0.1"
    more = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem"]
    subprocess.run(
        [*command.split(), *more, "-out", "certificate.pem"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    authorities = folder / "authorities.pem"
    world = Path(certifi.where()).read_text("utf-8")
    authorities.write_text(world + (folder / "certificate.pem").read_text("utf-8"), "utf-8")
    return authorities


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def _wait_for(url: str, authorities: Path) -> None:
    context = ssl.create_default_context(cafile=authorities)
    until = time.monotonic() + 10
    while True:
        try:
            with urllib.request.urlopen(url, context=context) as answer:
                size = len(answer.read())
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
            continue
        if LEAST <= size <= MOST:
            return
        raise SystemExit(f"{url} gave {size} bytes")
