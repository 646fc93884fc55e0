"""A worker that fetches the largest files there may be, eight at a time, stays below 600 MB."""

from __future__ import annotations

import contextlib
import http.server
import io
import os
import shutil
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from houses import house, quiet, small_world
from PIL import Image
from processes import Processes

from popq import api
from popq.catalogue import enqueuing
from popq.stages.ingest import Source

THREADS = 8
ROUNDS = 2
#: Just within all limits: 50 million pixels, of noise, in a file that is hardly less than 20 MB.
SIZE, FILE = (8192, 6144), 19_500_000


def noise():
    """Return a progressive JPEG, whose decoder keeps all of it in memory, and more."""
    grey = np.random.default_rng(5).integers(0, 256, SIZE[::-1], dtype=np.uint8)
    pixels = np.stack((grey // 16 + 100, grey // 20 + 90, grey // 16 + 80), axis=-1)
    out = io.BytesIO()
    options = {"quality": 95, "subsampling": 0, "progressive": True}
    Image.fromarray(pixels).save(out, "JPEG", **options)
    return out.getvalue().ljust(FILE, b"\0")


@contextlib.contextmanager
def image_host(data):
    """Serve a picture under every name, as other bytes under each: the fake would shrink it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            name = self.path.encode()
            self.send_response(200)
            self.send_header("Content-Type", "image/jpeg")
            self.send_header("Content-Length", str(len(data) + len(name)))
            self.end_headers()
            self.wfile.write(data)
            self.wfile.write(name)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def peak_mb(pid):
    """Return the most memory that the process has had, 0.0 once it has ended."""
    # Not its resource usage, which begins with what its parent had when it was started.
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's account of memory")
def test_eight_threads_of_the_largest_files_stay_below_600_mb(tmp_path):
    data = noise()
    assert len(data) == FILE
    photos = THREADS * ROUNDS
    with (
        image_host(data) as url,
        house(tmp_path, small_world(photos), flickr_image_url=url, io_threads=THREADS) as home,
    ):
        source = home.list_files(tmp_path)
        source.links.write_text(
            "".join(
                f"https://live.staticflickr.com/65535/{photo.flickr_id}_{photo.secret}_z.jpg\n"
                for photo in home.flickr.world.photos.values()
            )
        )
        api.import_list(home.rooms, source)
        with home.rooms.catalogue.begin() as tx:
            enqueuing.enqueue(tx, "download", size=ROUNDS)  # a batch for each thread
        with Processes(tmp_path, home.settings()) as processes:
            worker = processes.start("download")
            peaks = [0.0]

            def ended():
                peaks.append(peak_mb(worker.pid))
                return worker.poll() is not None

            processes.wait_until(ended, seconds=900, every_s=0.02)
            assert worker.returncode == 0, processes.tail()
        assert home.sql("SELECT state, count(*) FROM photos GROUP BY state") == [("stored", photos)]
        shutil.rmtree(home.rooms.settings.store())  # half a gigabyte
        assert 100 < max(peaks) < 600


def test_large_files_of_a_folder_are_not_all_held_at_once(tmp_path):
    """Those of eight threads together would be 156 MB; three of them find room in the budget."""
    folder = tmp_path / "images"
    folder.mkdir()
    dot = io.BytesIO()
    Image.new("RGB", (1, 1)).save(dot, "PNG")
    names = [f"{number}.png" for number in range(2 * THREADS)]
    for name in names:
        (folder / name).write_bytes(dot.getvalue() + name.encode())
        os.truncate(folder / name, FILE)
    (tmp_path / "paths.txt").write_text("\n".join(names))
    with house(tmp_path, small_world(1), io_threads=THREADS) as home:
        api.import_list(home.rooms, Source(tmp_path / "paths.txt", images_dir=folder))
        with home.rooms.catalogue.begin() as tx:
            enqueuing.enqueue(tx, "download", size=2)
        tracemalloc.start()
        try:
            assert api.work(home.rooms, "download", on_progress=quiet).exited == len(names)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert FILE < peak < 4 * FILE
