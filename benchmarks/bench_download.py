"""Does popq download over TLS 8 times as fast as img2dataset, and 1.25 times as a patched one?

The same work for both: fetch, check, decode in full, hash by sha256, store the original as a file.
(popq also syncs each file, measures channel moments and a perceptual hash, and writes a catalogue
row.) The image host is a local nginx with distinct photos of 500x375 and 60 to 120 KB (see
`image_host.py`), over TLS as the real one, and over plain HTTP; without latency, and with 50 ms
before each answer. popq: two `popq download` processes on one catalogue of resolved photos, the
best of some numbers of threads. img2dataset: two processes, the best of 8, 16 and 64 threads; "as
shipped" makes a TLS context for each photo, "patched" makes one. A rate is what comes beyond the
first few photos, so that start-up (seconds of imports) does not count; wall times are reported.
In turns, medians. The ceiling is popq's full decode alone, from memory, on all cores.
Options: --photos N (fewer: a quick look), --turns N, --cache FOLDER (photos and img2dataset's
virtual environment are kept there). Prints JSON, a line a claim; exits 1 on a miss.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from image_host import ImageHost, make_photos, name_of, serving
from measure import environment

from popq import api
from popq.bootstrap import Rooms
from popq.catalogue import enqueuing
from popq.images.decode import crop, decode
from popq.images.phash import perceptual_hash
from popq.settings import Settings
from popq.stages.ingest import Source

PROCESSES = 2
FEW = 64
#: ext4 goes round the numbers of files that were deleted in the last five seconds: who runs next
#: would pay for what the last one left (10 % of its CPU time).
FORGOTTEN_S = 6.0
THREADS = {"popq": (4, 8, 16), "shipped": (8, 16, 64), "patched": (8, 16, 64)}
SLOW_THREADS = {"popq": (32, 64), "patched": (64,)}
PEER = "img2dataset==1.47.0"
#: Each with its reason.
PEER_OPTIONS = {
    "input_format": "txt",  # a URL a line
    "output_format": "files",  # originals as files, as popq keeps them
    "resize_mode": "no",  # the original is wanted
    "skip_reencode": True,  # … as it came; it is decoded in full all the same
    "compute_hash": "sha256",  # popq does so too
    "extract_exif": False,  # popq does not
    "enable_wandb": False,  # no telemetry
    "processes_count": PROCESSES,  # a process a core, as for popq
    "retries": 0,  # nothing fails here
    "timeout": 30,  # … and nothing may be given up while the machine is busy
}
#: What a user who looked for the cause would do: one TLS context for all photos.
PATCH = (
    "urllib.request.urlopen(request, timeout=timeout)",
    "_OPENER.open(request, timeout=timeout)",
)
OPENER = """
import ssl
_CONTEXT = ssl.create_default_context()
_OPENER = urllib.request.build_opener(urllib.request.HTTPSHandler(context=_CONTEXT))
"""


@dataclass(frozen=True)
class Run:
    """Photos, wall seconds and CPU seconds of one run."""

    photos: int
    wall: float
    cpu: float


class Bench:
    def __init__(self, host: ImageHost, folder: Path, cache: Path, photos: int) -> None:
        self.host, self.folder, self.cache, self.photos = host, folder, cache, photos
        self.python = peer_python(cache)
        self.patched = patched_peer(self.python, folder / "patched")
        trust = str(host.authorities)
        self.env = environment(cache, SSL_CERT_FILE=trust, REQUESTS_CA_BUNDLE=trust)

    def run(self, who: str, base: str, threads: int, photos: int) -> Run:
        home = Path(tempfile.mkdtemp(dir=self.folder))
        urls = [f"{base}/{name_of(number)}" for number in range(photos)]
        try:
            if who == "popq":
                return self._popq(home, base, urls, threads)
            return self._peer(home, urls, threads, patched=who == "patched")
        finally:
            shutil.rmtree(home)
            time.sleep(FORGOTTEN_S)

    def _popq(self, home: Path, base: str, urls: Sequence[str], threads: int) -> Run:
        flickr = [url.replace(base, "https://live.staticflickr.com") for url in urls]
        (home / "list").write_text("\n".join(flickr))
        values = {
            "data_dir": home / "data",
            "flickr_image_url": base,
            "images_per_second": 1e6,
            "io_threads": threads,
        }
        with Rooms(Settings(**values)) as rooms:
            api.import_list(rooms, Source(home / "list"))
            # Smaller batches than the usual 250, so that these photos keep as many threads busy as
            # a whole list does.
            size = max(1, len(urls) // (PROCESSES * threads * 3))
            with rooms.catalogue.begin() as tx:
                enqueuing.enqueue(tx, "download", size=size)
        env = self.env | {f"POPQ_{name.upper()}": str(value) for name, value in values.items()}
        command = [sys.executable, "-m", "popq", "download", "--json"]
        run = timed([command] * PROCESSES, home, env, len(urls))
        with Rooms(Settings(**values)) as rooms, rooms.catalogue.read() as tx:
            stored = tx.exec_driver_sql("SELECT count(*) FROM photos WHERE state = 'stored'")
            if stored.scalar_one() != len(urls):
                raise SystemExit("popq did not store every photo")
        return run

    def _peer(self, home: Path, urls: Sequence[str], threads: int, *, patched: bool) -> Run:
        (home / "list").write_text("\n".join(urls))
        options = PEER_OPTIONS | {
            "url_list": home / "list",
            "output_folder": home / "out",
            "thread_count": threads,
            # Four shards a process: both are busy to the end, and few shards are little overhead.
            "number_sample_per_shard": max(1, len(urls) // (4 * PROCESSES)),
        }
        start = "from img2dataset.main import main; main()"
        command = [str(self.python), "-c", start]
        command += [f"--{name}={value}" for name, value in options.items()]
        env = self.env | ({"PYTHONPATH": str(self.patched)} if patched else {"PYTHONPATH": ""})
        run = timed([command], home, env, len(urls))
        stored = sum(1 for _ in (home / "out").rglob("*.jpg"))
        if stored != len(urls):
            raise SystemExit(f"img2dataset stored {stored} of {len(urls)} photos")
        return run


def timed(commands: Sequence[list[str]], cwd: Path, env: dict[str, str], photos: int) -> Run:
    """Run the commands beside each other to their end."""
    with (cwd / "output").open("wb") as output:
        start = time.perf_counter()
        children = [
            subprocess.Popen(command, cwd=cwd, env=env, stdout=output, stderr=output)
            for command in commands
        ]
        cpu = 0.0
        for child in children:
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            cpu += usage.ru_utime + usage.ru_stime
        wall = time.perf_counter() - start
    if any(child.returncode for child in children):
        raise SystemExit((cwd / "output").read_text("utf-8", "replace")[-2000:])
    return Run(photos, wall, cpu)


def peer_python(cache: Path) -> Path:
    """The Python of a virtual environment that holds nothing but img2dataset."""
    home = cache / PEER.replace("==", "-")
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        venv.create(home, with_pip=True, clear=True)
        # It imports imghdr, which newer Pythons do not ship.
        wanted = [PEER, "standard-imghdr; python_version >= '3.13'"]
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", *wanted], check=True, stdout=sys.stderr
        )
        (home / "ready").touch()
    return python


def patched_peer(python: Path, folder: Path) -> Path:
    """A folder with a patched copy of the package, to stand before it on the path."""
    code = "import importlib.util as u; print(u.find_spec('img2dataset').origin)"
    place = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
    shutil.copytree(Path(place.stdout.strip()).parent, folder / "img2dataset")
    module = folder / "img2dataset" / "downloader.py"
    text = module.read_text("utf-8")
    if text.count(PATCH[0]) != 1:
        raise SystemExit("img2dataset has changed: the patch does not fit")
    first = "import urllib.request\n"
    module.write_text(text.replace(*PATCH).replace(first, first + OPENER, 1), "utf-8")
    return folder


def ceiling(photos: Path, count: int) -> float:
    """Photos a second that all cores decode and do nothing else."""
    cores = len(os.sched_getaffinity(0))
    parts = [range(core, count, cores) for core in range(cores)]
    with ProcessPoolExecutor(cores) as pool:
        return sum(pool.map(_decode_rate, [photos] * cores, parts))


def more_ms(photos: Path, count: int) -> float:
    """Milliseconds of a core that popq spends on a photo for what the peer does not do at all."""
    files = [(photos / name_of(number)).read_bytes() for number in range(count)]
    images = [decode(io.BytesIO(data)).image for data in files]
    start = time.perf_counter()
    for image in images:
        crop(image).histogram()
        perceptual_hash(image)
    return 1000 * (time.perf_counter() - start) / count


def _decode_rate(photos: Path, numbers: Sequence[int]) -> float:
    files = [(photos / name_of(number)).read_bytes() for number in numbers]
    start = time.perf_counter()
    for data in files:
        decode(io.BytesIO(data))
    return len(files) / (time.perf_counter() - start)


def say(*words: object) -> None:
    print(*words, file=sys.stderr, flush=True)


def beyond(few: Sequence[Run], many: Sequence[Run]) -> dict[str, float]:
    """Photos a second and CPU seconds per 1,000 photos beyond start-up, and the wall seconds."""
    more = many[0].photos - few[0].photos
    wall, start_up = (statistics.median(run.wall for run in runs) for runs in (many, few))
    cpu, at_start = (statistics.median(run.cpu for run in runs) for runs in (many, few))
    if wall <= start_up:
        raise SystemExit("start-up takes as long as the whole: the machine is too busy to measure")
    return {
        "rate": more / (wall - start_up),
        "cpu": 1000 * (cpu - at_start) / more,
        "wall": wall,
        "start_up": start_up,
    }


def best(bench: Bench, who: str, base: str, choices: Sequence[int], photos: int) -> int:
    """The number of threads with which it is fastest here, by one run each."""
    if len(choices) == 1:
        return choices[0]
    walls = {threads: bench.run(who, base, threads, photos).wall for threads in choices}
    say(f"  {who}:", ", ".join(f"{n} threads {wall:.1f} s" for n, wall in walls.items()))
    return min(walls, key=lambda threads: walls[threads])


def leg(
    bench: Bench, base: str, choices: dict[str, Sequence[int]], turns: int
) -> dict[str, dict[str, float]]:
    """What each contestant reached at one door, in turns."""
    # As shipped it needs minutes for what the others do in seconds, at the same rate.
    sizes = {who: bench.photos // 5 if who == "shipped" else bench.photos for who in choices}
    chosen = {who: best(bench, who, base, choices[who], sizes[who] // 2) for who in choices}
    runs: dict[str, tuple[list[Run], list[Run]]] = {who: ([], []) for who in choices}
    for _ in range(turns):
        for who, threads in chosen.items():
            for found, photos in zip(runs[who], (FEW, sizes[who]), strict=True):
                found.append(bench.run(who, base, threads, photos))
            say(f"  {who}, {threads} threads: {runs[who][1][-1]}")
    return {who: beyond(*runs[who]) | {"threads": chosen[who]} for who in choices}


def claim(
    name: str, text: str, found: dict, over: str, floor: float, top: float, more: float
) -> dict:
    ratio = found["popq"]["rate"] / found[over]["rate"]
    return {
        "name": name,
        "claim": text,
        "ratio": round(ratio, 2),
        "floor": floor,
        "ok": ratio >= floor,
        "popq_per_s": round(found["popq"]["rate"]),
        "peer_per_s": round(found[over]["rate"]),
        "popq_threads": found["popq"]["threads"],
        "peer_threads": found[over]["threads"],
        "popq_share_of_ceiling": round(found["popq"]["rate"] / top, 2),
        "popq_wall_s": round(found["popq"]["wall"], 1),
        "peer_wall_s": round(found[over]["wall"], 1),
        "popq_cpu_s_per_1000": round(found["popq"]["cpu"], 2),
        "peer_cpu_s_per_1000": round(found[over]["cpu"], 2),
        "popq_cpu_s_per_1000_for_crop_moments_and_hash": round(more, 2),
    }


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=int, default=5000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "popq-bench")
    parser.add_argument("--legs", default="tls,http,slow_tls,slow_http")
    options = parser.parse_args()
    photos = options.cache / "photos"
    say("photos …")
    make_photos(photos, options.photos)
    with tempfile.TemporaryDirectory(prefix="popq-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # nginx's worker is somebody else
        (folder / "nginx").mkdir()
        with serving(photos, folder / "nginx") as host:
            bench = Bench(host, folder, options.cache, options.photos)
            results = measure(bench, photos, options.legs.split(","), options.turns)
    for result in results:
        print(json.dumps(result))
    return 0 if all(result["ok"] for result in results) else 1


def measure(bench: Bench, photos: Path, legs: Sequence[str], turns: int) -> list[dict]:
    """The claims, the main one last."""
    top = ceiling(photos, min(bench.photos, 2000))
    more = more_ms(photos, min(bench.photos, 300))
    say(f"decode alone: {top:.0f}/s; crop, moments and hash: {more:.2f} ms")
    doors = {
        "tls": (True, False),
        "http": (False, False),
        "slow_tls": (True, True),
        "slow_http": (False, True),
    }
    results = []
    for name in reversed(legs):
        tls, slow = doors[name]
        say(name)
        choices = dict(SLOW_THREADS if slow else THREADS)
        if not tls:
            choices.pop("shipped", None)  # the patch is about TLS only
        found = leg(bench, bench.host.doors[tls, slow], choices, turns if not slow else 1)
        over = f"{'TLS' if tls else 'HTTP'}{', 50 ms before each answer' if slow else ''}"
        patched = "img2dataset patched" if tls else "img2dataset"
        floor = 1.25 if tls and not slow else 1.0
        text = f"Downloads over {over}, against {patched}"
        results.append(claim(f"download_{name}", text, found, "patched", floor, top, more))
        if "shipped" in found:
            text = f"Downloads over {over}, against img2dataset as shipped"
            results.append(claim(f"download_{name}_shipped", text, found, "shipped", 8, top, more))
    return results


if __name__ == "__main__":
    sys.exit(main())
