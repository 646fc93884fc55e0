"""Is `popq import` of the SMP training list at most three times a raw SQLite upsert of it?

The list is made up, in the shape of train_img.txt and train_label.txt: 305,613 rows of 38,312
owners, half of the links in quotes, no newline at the end of the labels. Both sides are timed as
whole processes, in turns: `python -m popq import LINKS --labels LABELS` with no catalogue there
yet, and the peer below, which trusts every row, knows one shape of link and writes the same rows
with one `executemany` in one transaction into a table that is popq's to the letter (checked, as
are the rows). The time is CPU time, user and system: both sides are single threads on a local
file, and CPU time is what a busy machine disturbs least; wall time is reported beside it. A second
claim: popq's memory stays below 300 MB. Prints JSON; exits 1 above a ceiling.
"""

from __future__ import annotations

import json
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

CEILING = 3.0
CEILING_MB = 300
TURNS = 5
ROWS = 305_613
OWNERS = 38_312

#: The peer creates popq's table of photos as it is; `main` checks that it still is.
PHOTOS = """\
CREATE TABLE photos (
    id INTEGER NOT NULL,
    flickr_id BIGINT,
    source_key TEXT,
    page_url TEXT NOT NULL,
    owner TEXT,
    label DOUBLE,
    state TEXT DEFAULT 'listed' NOT NULL,
    reason TEXT,
    server TEXT,
    secret TEXT,
    image_url TEXT,
    title TEXT,
    tags TEXT,
    views BIGINT,
    posted_at DATETIME,
    taken_at TEXT,
    licence BIGINT,
    file_key TEXT,
    sha256 TEXT,
    phash TEXT,
    bytes BIGINT,
    width BIGINT,
    height BIGINT,
    format TEXT,
    imported_at DATETIME DEFAULT (CURRENT_TIMESTAMP) NOT NULL,
    resolved_at DATETIME,
    stored_at DATETIME
)"""

PEER = '''
import sqlite3, sys

links, labels, path, ddl = sys.argv[1:]
database = sqlite3.connect(path, isolation_level=None)
database.execute("PRAGMA journal_mode=WAL")
database.execute("PRAGMA synchronous=NORMAL")
database.execute("BEGIN IMMEDIATE")
database.execute(ddl)


def rows():
    with open(links) as ours, open(labels) as theirs:
        for link, label in zip(ours, theirs, strict=True):
            url = link.strip().strip('"')
            _, _, _, _, owner, number = url.split("/")
            yield int(number), url, owner, float(label), None, None, None


database.executemany(
    "INSERT INTO photos (flickr_id, page_url, owner, label, server, secret, image_url)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (flickr_id) DO UPDATE SET label = excluded.label",
    rows(),
)
database.execute("COMMIT")
database.close()
'''


@dataclass(frozen=True)
class Cost:
    """What one process took from start to end."""

    cpu: float
    wall: float
    mb: float


def run(*command: str, **env: str) -> Cost:
    start = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, *command], env={**os.environ, **env}, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{command[:3]} ended with {child.returncode}")
    # Linux counts ru_maxrss in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return Cost(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss * unit / 1e6)


def write_list(folder: Path) -> tuple[Path, Path]:
    rng = random.Random(305613)
    owners = [f"{n}@N{rng.randrange(100):02}" for n in rng.sample(range(10**6, 10**9), OWNERS)]
    ids = rng.sample(range(10**8, 10**10), ROWS)
    links, labels = folder / "train_img.txt", folder / "train_label.txt"
    with links.open("w") as ours:
        for number in ids:
            url = f"https://www.flickr.com/photos/{rng.choice(owners)}/{number}"
            ours.write(f'"{url}"\n' if rng.random() < 0.5 else f"{url}\n")
    scores = (f"{min(16.56, max(1.0, rng.gauss(6.406, 2.473))):.2f}" for _ in range(ROWS))
    labels.write_text("\n".join(scores))
    return links, labels


def popq(folder: Path, links: Path, labels: Path) -> Cost:
    command = ("-m", "popq", "import", str(links), "--labels", str(labels))
    url = f"sqlite:///{folder / 'popq.db'}"
    return run(*command, POPQ_DATA_DIR=str(folder), POPQ_DATABASE_URL=url)


def peer(folder: Path, ddl: str, links: Path, labels: Path) -> Cost:
    return run("-c", PEER, str(links), str(labels), str(folder / "peer.db"), ddl)


def rows(path: Path) -> list[tuple]:
    with sqlite3.connect(path) as database:
        columns = "id, flickr_id, page_url, owner, label, state, server, secret, image_url"
        return database.execute(f"SELECT {columns} FROM photos ORDER BY id").fetchall()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as f:
        links, labels = write_list(Path("/tmp/bimp"))
        print(popq(Path(f), links, labels))
        print(popq(Path(f), links, labels))
        with sqlite3.connect(Path(f) / "popq.db") as database:
            print(database.execute("SELECT sql FROM sqlite_master WHERE name='photos'").fetchone()[0])
            print(database.execute("SELECT name, sql FROM sqlite_master WHERE tbl_name='photos'").fetchall()[1:])
            ddl = database.execute("SELECT sql FROM sqlite_master WHERE name='photos'").fetchone()[0]
        print(peer(Path(f), ddl, links, labels))
        print(rows(Path(f) / "popq.db")[:3])
        print(rows(Path(f) / "popq.db") == rows(Path(f) / "peer.db"))
