"""Does `popq import` of the SMP training list take at most 3 times a raw SQLite upsert of it?

The list is made up, in the shape of train_img.txt and train_label.txt: 305,613 rows of 38,312
owners, half of the links in quotes, no newline at the end of the labels. Both sides are whole
processes, in turns: `python -m popq import LINKS --labels LABELS` where there is no catalogue yet,
and the peer below, which trusts every row, knows one shape of link, and writes the same rows with
one `executemany` in one transaction into a table that is popq's to the letter (that is checked,
and so are the rows). Wall time counts; CPU time (user and system) is reported beside it, and so is
a second import, which changes nothing. Second claim: popq's memory peaks below 300 MB in all of
these imports. Prints JSON, a line a claim; exits 1 on a miss.
"""

from __future__ import annotations

import json
import random
import sqlite3
import statistics
import sys
import tempfile
from pathlib import Path

from measure import Cost, environment, run

CEILING = 3.0
CEILING_MB = 300
TURNS = 5
ROWS = 305_613
OWNERS = 38_312

#: popq's table, which the peer fills too: what SQLite says of it, spaces aside.
PHOTOS = """\
CREATE TABLE photos (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
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
    stored_at DATETIME,
    CONSTRAINT ck_photos_reason_of_exit CHECK (
        (reason IS NULL AND state NOT IN ('gone', 'rejected'))
        OR (state = 'gone' AND reason IS NOT NULL
            AND reason IN ('gone', 'not_found', 'placeholder', 'private'))
        OR (state = 'rejected' AND reason IS NOT NULL
            AND reason IN ('corrupt', 'kills_worker', 'too_large', 'too_small', 'video'))),
    CONSTRAINT ck_photos_resolved_has_url CHECK (state <> 'resolved' OR image_url IS NOT NULL),
    CONSTRAINT ck_photos_stored_has_file CHECK (
        state <> 'stored' OR (file_key IS NOT NULL AND sha256 IS NOT NULL)),
    CONSTRAINT ck_photos_state CHECK (
        state IN ('gone', 'listed', 'rejected', 'resolved', 'stored')),
    CONSTRAINT ck_photos_one_identity CHECK ((flickr_id IS NULL) <> (source_key IS NULL)),
    CONSTRAINT uq_photos_flickr_id UNIQUE (flickr_id),
    CONSTRAINT uq_photos_source_key UNIQUE (source_key)
)"""
OWNERS_INDEX = "CREATE INDEX ix_photos_owner ON photos (owner)"

PEER = """
import sqlite3
import sys

links, labels, path, table, index = sys.argv[1:]
database = sqlite3.connect(path, isolation_level=None)
database.execute("PRAGMA journal_mode=WAL")
database.execute("PRAGMA synchronous=NORMAL")
database.execute("BEGIN IMMEDIATE")
database.execute(table)
database.execute(index)


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
"""

_COLUMNS = "id, flickr_id, page_url, owner, label, state, server, secret, image_url"
#: popq's rows that the peer has not; as both have as many, none means that they are the same.
DIFFERENT = f"""
SELECT count(*) FROM (
    SELECT {_COLUMNS} FROM main.photos EXCEPT SELECT {_COLUMNS} FROM peer.photos
)"""


def write_list(folder: Path) -> tuple[Path, Path]:
    """Write the links and the labels, the same on every run."""
    rng = random.Random(ROWS)
    owners = [f"{n}@N{rng.randrange(100):02}" for n in rng.sample(range(10**6, 10**9), OWNERS)]
    links, labels = folder / "train_img.txt", folder / "train_label.txt"
    with links.open("w") as file:
        for row, number in enumerate(rng.sample(range(10**8, 10**10), ROWS)):
            owner = owners[row] if row < OWNERS else rng.choice(owners)
            url = f"https://www.flickr.com/photos/{owner}/{number}"
            file.write(f'"{url}"\n' if rng.random() < 0.5 else f"{url}\n")
    with labels.open("w") as file:
        for row in range(ROWS):
            label = min(16.56, max(1.0, rng.gauss(6.406, 2.473)))
            file.write(f"\n{label:.2f}" if row else f"{label:.2f}")
    return links, labels


def same_work(ours: Path, theirs: Path) -> bool:
    """Whether both sides hold the same rows in tables of the same shape."""
    database = sqlite3.connect(ours)
    database.execute("ATTACH ? AS peer", (str(theirs),))
    shapes = [
        sorted(
            squeezed(sql)
            for (sql,) in database.execute(f"{query} tbl_name = 'photos' AND sql IS NOT NULL")
        )
        for query in (f"SELECT sql FROM {name}.sqlite_master WHERE" for name in ("main", "peer"))
    ]
    counts = [
        database.execute(f"SELECT count(*) FROM {name}.photos").fetchone()[0]
        for name in ("main", "peer")
    ]
    different = database.execute(DIFFERENT).fetchone()[0]
    database.close()
    same_shape = shapes[0] == shapes[1] == sorted(map(squeezed, (PHOTOS, OWNERS_INDEX)))
    return same_shape and counts == [ROWS, ROWS] and different == 0


def squeezed(sql: str) -> str:
    return "".join(sql.split())


def turn(folder: Path, compiled: Path, lists: tuple[Path, Path], popq_first: bool) -> list[Cost]:
    """Import with both sides; return what popq, the peer, and popq's second import took."""
    links, labels = map(str, lists)
    ours, theirs = folder / "popq.db", folder / "peer.db"
    env = environment(compiled, POPQ_DATA_DIR=str(folder))

    def popq() -> Cost:
        return run("-m", "popq", "import", links, "--labels", labels, cwd=folder, env=env)

    def peer() -> Cost:
        given = (links, labels, str(theirs), PHOTOS, OWNERS_INDEX)
        return run("-c", PEER, *given, cwd=folder, env=env)

    first, second = (popq, peer) if popq_first else (peer, popq)
    costs = {side: side() for side in (first, second)}
    if not same_work(ours, theirs):
        raise SystemExit("the peer no longer writes what popq writes; bring it up to date")
    return [costs[popq], costs[peer], popq()]


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        lists = write_list(root)
        turns = []
        for number in range(TURNS + 1):
            folder = root / str(number)
            folder.mkdir()
            turns.append(turn(folder, root, lists, popq_first=bool(number % 2)))
    # The first turn compiled the modules.
    popq, peer, again = zip(*turns[1:], strict=True)
    ratio = statistics.median(
        ours.wall / theirs.wall for ours, theirs in zip(popq, peer, strict=True)
    )
    cpu_ratio = statistics.median(
        ours.cpu / theirs.cpu for ours, theirs in zip(popq, peer, strict=True)
    )
    peak = max(cost.mb for cost in (*popq, *again))
    memory = {
        "name": "import_memory",
        "claim": "Does `popq import` of that list stay below 300 MB of memory?",
        "measured": round(peak, 1),
        "unit": "MB",
        "ceiling": CEILING_MB,
        "ok": peak < CEILING_MB,
    }
    speed = {
        "name": "import",
        "ratio": round(ratio, 3),
        "ceiling": CEILING,
        "ok": ratio <= CEILING,
        "rows": ROWS,
        "popq_seconds": round(statistics.median(cost.wall for cost in popq), 2),
        "peer_seconds": round(statistics.median(cost.wall for cost in peer), 2),
        "second_import_seconds": round(statistics.median(cost.wall for cost in again), 2),
        "cpu_ratio": round(cpu_ratio, 3),
        "popq_cpu_seconds": round(statistics.median(cost.cpu for cost in popq), 2),
        "peer_cpu_seconds": round(statistics.median(cost.cpu for cost in peer), 2),
    }
    print(json.dumps(memory))
    print(json.dumps(speed))
    return 0 if memory["ok"] and speed["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
