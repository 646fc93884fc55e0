"""Does `popq import` with all metadata files take at most 6 times a raw upsert of what they hold?

The list of bench_import (305,613 rows), and beside it the five metadata files of the data set in
their real shapes: four arrays of objects and, for the users, one object of columns as pandas
writes it. popq reads, joins by uid and pid and checks all of it; the peer gets the rows ready:
one file of tab-separated values, joined before, which it upserts into tables that are popq's to
the letter, columns and JSON alike. Whole processes, in turns; what both wrote is compared. Prints
JSON; exits 1 on a miss.
"""

from __future__ import annotations

import datetime as dt
import json
import random
import sqlite3
import statistics
import sys
import tempfile
from pathlib import Path

from bench_import import PHOTOS, ROWS, write_list
from measure import Cost, environment, run

CEILING = 6.0
TURNS = 3
HERE = Path(__file__).parent
JOINED = "joined.tsv"

METADATA = """\
CREATE TABLE metadata (
    photo_id BIGINT NOT NULL, kind TEXT NOT NULL, data JSON NOT NULL,
    CONSTRAINT pk_metadata PRIMARY KEY (photo_id, kind)) WITHOUT ROWID"""
KINDS = ("additional_information", "category", "temporalspatial_information", "text", "user_data")

PEER = """
import csv
import sqlite3
import sys

rows, path, photos, metadata, *kinds = sys.argv[1:]
database = sqlite3.connect(path, isolation_level=None)
database.execute("PRAGMA journal_mode=WAL")
database.execute("PRAGMA synchronous=NORMAL")
database.execute("BEGIN IMMEDIATE")
database.execute(photos)
database.execute(metadata)


def read():
    with open(rows, newline="") as file:
        yield from csv.reader(file, delimiter="\\t")


database.executemany(
    "INSERT INTO photos (flickr_id, page_url, owner, label, title, tags, posted_at)"
    " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (flickr_id) DO UPDATE SET label = excluded.label",
    (row[:7] for row in read()),
)
for place, kind in enumerate(kinds, 7):
    database.executemany(
        "INSERT INTO metadata (photo_id, kind, data) VALUES (?, ?, ?)"
        " ON CONFLICT (photo_id, kind) DO UPDATE SET data = excluded.data",
        ((n, kind, row[place]) for n, row in enumerate(read(), 1) if row[place]),
    )
database.execute("COMMIT")
database.close()
"""

_COLUMNS = "id, flickr_id, page_url, owner, label, title, tags, posted_at"


def write_metadata(links: Path, labels: Path, folder: Path) -> None:
    """Write the five files into `folder`, and all of it joined as rows beside it."""
    rng = random.Random(1)
    words = [f"word{n}" for n in range(5_000)]
    folder.mkdir()
    files = {kind: (folder / f"train_{kind}.json").open("w") for kind in KINDS}
    users: dict[str, dict[str, object]] = {}
    joined = links.parent / JOINED
    with joined.open("w", newline="") as peer, links.open() as ours, labels.open() as theirs:
        for row, (link, label) in enumerate(zip(ours, theirs, strict=True)):
            url = link.strip().strip('"')
            uid, number = url.split("/")[4:]
            pid: int | str = int(number) if row % 2 else number
            title, tags = " ".join(rng.choices(words, k=4)), " ".join(rng.choices(words, k=12))
            posted = rng.randrange(1_420_000_000, 1_460_000_000)
            notes = {
                "additional_information": {
                    "Ispublic": "1", "Mediastatus": "ready", "Pathalias": f"alias{row % 38_312}"
                },
                "category": {
                    "Category": f"Cat{row % 11}", "Concept": f"con{row % 668}",
                    "Subcategory": f"Sub{row % 77}",
                },
                "temporalspatial_information": {
                    "Geoaccuracy": "16", "Latitude": f"{rng.uniform(-90, 90):.6f}",
                    "Longitude": f"{rng.uniform(-180, 180):.6f}",
                },
                "text": {"Mediatype": "photo"},
                "user_data": {
                    "ispro": str(row % 2), "photo_count": str(row % 9_999),
                    "photo_firstdate": str(posted - 99), "timezone_offset": "-05:00",
                    "user_description": ",".join(f"{rng.random():.3f}" for _ in range(20)),
                },
            }  # fmt: skip
            used = {
                "temporalspatial_information": {"Postdate": str(posted)},
                "text": {"Title": title, "Alltags": tags},
            }
            for kind in KINDS:
                said = {"Uid": uid, "Pid": pid, **used.get(kind, {}), **notes[kind]}
                if kind == "user_data":
                    for name, value in said.items():
                        users.setdefault(name, {})[str(row)] = value
                else:
                    files[kind].write(("[" if row == 0 else ",\n") + json.dumps(said))
            when = sqlite_time(posted)
            cells = [number, url, uid, label.strip(), title, tags, when]
            dumped = (json.dumps(notes[kind], separators=(",", ":")) for kind in KINDS)
            # No quotes in the file: JSON has them, and has no tabs.
            peer.write("\t".join([*cells, *(quoted(text) for text in dumped)]) + "\n")
    json.dump(users, files["user_data"])
    for kind, file in files.items():
        file.write("" if kind == "user_data" else "]")
        file.close()


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def sqlite_time(seconds: int) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%d %H:%M:%S.000000")


def same_work(ours: Path, theirs: Path) -> bool:
    """Whether both sides hold the same photos and the same JSON."""
    database = sqlite3.connect(ours)
    database.execute("ATTACH ? AS peer", (str(theirs),))
    for columns, table in ((_COLUMNS, "photos"), ("photo_id, kind, data", "metadata")):
        query = f"SELECT {columns} FROM {{}}.{table}"
        for one, other in (("main", "peer"), ("peer", "main")):
            difference = f"{query.format(one)} EXCEPT {query.format(other)}"
            if database.execute(f"SELECT count(*) FROM ({difference})").fetchone()[0]:
                return False
    count = database.execute("SELECT count(*) FROM metadata").fetchone()[0]
    database.close()
    return count == ROWS * len(KINDS)


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        # By a child: what this process holds, popq's would seem to hold too.
        run(__file__, str(root), cwd=HERE, env=environment(root))
        links, labels, joined = (
            root / name for name in ("train_img.txt", "train_label.txt", JOINED)
        )
        turns = []
        for number in range(TURNS + 1):
            folder = root / str(number)
            folder.mkdir()
            env = environment(root, POPQ_DATA_DIR=str(folder))
            listed = ("import", str(links), "--labels", str(labels))
            metadata = ("--metadata", str(root / "train_allmetadata_json"))
            ours = run("-m", "popq", *listed, *metadata, cwd=folder, env=env)
            peer = (str(joined), str(folder / "peer.db"), PHOTOS, METADATA, *KINDS)
            theirs = run("-c", PEER, *peer, cwd=folder, env=env)
            if not number and not same_work(folder / "popq.db", folder / "peer.db"):
                raise SystemExit("the peer does not write what popq writes")
            turns.append((ours, theirs))
    return report(turns[1:])  # the first turn compiled the modules


def report(turns: list[tuple[Cost, Cost]]) -> int:
    ratio = statistics.median(ours.wall / theirs.wall for ours, theirs in turns)
    print(
        json.dumps(
            {
                "name": "import_with_metadata",
                "ratio": round(ratio, 3),
                "ceiling": CEILING,
                "ok": ratio <= CEILING,
                "rows": ROWS,
                "popq_seconds": round(statistics.median(ours.wall for ours, _ in turns), 2),
                "peer_seconds": round(statistics.median(theirs.wall for _, theirs in turns), 2),
                "popq_mb": round(max(ours.mb for ours, _ in turns), 1),
            }
        )
    )
    return 0 if ratio <= CEILING else 1


if __name__ == "__main__":
    if len(sys.argv) > 1:
        write_metadata(*write_list(Path(sys.argv[1])), Path(sys.argv[1]) / "train_allmetadata_json")
        sys.exit()
    sys.exit(main())
