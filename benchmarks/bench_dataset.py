"""Is `popq dataset create` on 305,613 stored photos done in 5 s, and its mean and std exact?

The catalogue is made up: 38,312 owners, scores with the real set's ties, hashes of which one in a
hundred is near another's, exact channel sums. The command runs as a whole process: it reads every
photo, finds copies, splits by owner, cuts tiers, writes the members and reads them back. Beside it
a floor: a plain sqlite3 process that reads the same columns and writes as many member rows. The
mean and deviation are compared with fractions of the integers. Prints JSON, a line a claim; exits 1
on a miss.
"""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import statistics
import sys
import tempfile
from decimal import Context
from fractions import Fraction
from pathlib import Path

from bench_import import OWNERS, ROWS
from measure import environment, run

CEILING_S = 5.0
TURNS = 3

FLOOR = """
import sqlite3
import sys

database = sqlite3.connect(sys.argv[1], isolation_level=None)
rows = database.execute(
    "SELECT id, flickr_id, owner, label, posted_at, file_key, sha256, phash FROM photos"
    " JOIN moments ON photo_id = id WHERE state = 'stored' AND label IS NOT NULL ORDER BY id"
).fetchall()
database.execute("BEGIN IMMEDIATE")
database.execute(
    "INSERT INTO datasets (name, count, tiers, cuts, tier_labels, tie_rule, split_rule, val, test,"
    " seed, salt, mean, std, fingerprint) VALUES ('f', 1, 3, '[]', '[]', '', '', 0, 0, 0, '', '[]',"
    " '[]', '')"
)
database.executemany(
    "INSERT INTO members (dataset_id, photo_id, label, tier, split, file_key)"
    " VALUES (1, ?, ?, 1, 'train', ?)",
    ((row[0], row[3], row[5]) for row in rows),
)
database.execute("COMMIT")
"""


def fill(path: Path) -> None:
    """Write the photos and their sums, the same on every run."""
    rng = random.Random(ROWS)
    hashes: list[int] = []
    photos, moments = [], []
    for row in range(1, ROWS + 1):
        near = hashes and rng.random() < 0.01
        phash = rng.choice(hashes) ^ (1 << rng.randrange(64)) if near else rng.getrandbits(64)
        hashes.append(phash)
        sha256 = f"{rng.getrandbits(256):064x}"
        label = round(min(16.56, max(1.0, rng.gauss(6.406, 2.473))), 2)
        owner = f"{10_000_000 + rng.randrange(OWNERS)}@N00"
        number, file = 10_000_000_000 + 7 * row, f"{sha256[:2]}/{sha256[2:4]}/{sha256}.jpg"
        posted = f"2015-0{rng.randrange(1, 10)}-01 00:00:00.000000"
        photos.append(
            (row, number, f"https://www.flickr.com/photos/{owner}/{number}", owner, label,
             "stored", "https://live.staticflickr.com/1", posted, file, sha256, f"{phash:016x}")
        )  # fmt: skip
        sums = [rng.randrange(65536 * 40, 65536 * 200) for _ in range(3)]
        moments.append((row, 65536, *sums, *(total * 180 for total in sums)))
    database = sqlite3.connect(path)
    database.executemany(
        "INSERT INTO photos (id, flickr_id, page_url, owner, label, state, image_url, posted_at,"
        " file_key, sha256, phash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        photos,
    )
    database.executemany("INSERT INTO moments VALUES (?, ?, ?, ?, ?, ?, ?, ?)", moments)
    database.commit()
    database.close()


def is_exact(path: Path) -> bool:
    """Whether mean and std are the floats nearest to fractions of the training photos' integers.

    Of the root, as nobody can write it as a fraction, by 60 digits.
    """
    many = Context(prec=60)
    database = sqlite3.connect(path)
    mean, std = map(json.loads, database.execute("SELECT mean, std FROM datasets").fetchone())
    rows = database.execute(
        "SELECT pixels, sum_r, sum_g, sum_b, square_r, square_g, square_b FROM moments"
        " JOIN members USING (photo_id) WHERE split = 'train'"
    ).fetchall()
    database.close()
    pixels, *totals = (sum(column) for column in zip(*rows, strict=True))
    for channel in range(3):
        exact = Fraction(totals[channel], pixels * 255)
        spread = Fraction(totals[channel + 3], pixels * 255**2) - exact**2
        ratio = many.divide(*map(many.create_decimal, spread.as_integer_ratio()))
        if (mean[channel], std[channel]) != (float(exact), float(many.sqrt(ratio))):
            return False
    return True


def main() -> int:
    turns = []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        env = environment(root, POPQ_DATA_DIR=str(root))
        run("-m", "popq", "init", cwd=root, env=env)
        # By a child: what this process holds, popq's would seem to hold too.
        run(__file__, str(root / "popq.db"), cwd=Path(__file__).parent, env=env)
        (root / "popq.db").rename(root / "full.db")
        for number in range(TURNS + 1):
            shutil.copy(root / "full.db", root / "popq.db")
            shutil.copy(root / "full.db", root / "floor.db")
            ours = run("-m", "popq", "dataset", "create", "d", cwd=root, env=env)
            floor = run("-c", FLOOR, str(root / "floor.db"), cwd=root, env=env)
            turns.append((ours, floor))
            exact = is_exact(root / "popq.db") if number == TURNS else True
            for left in root.glob("popq.db*"):
                left.unlink()
    turns = turns[1:]  # the first turn compiled the modules
    seconds = statistics.median(ours.wall for ours, _ in turns)
    print(
        json.dumps(
            {
                "name": "dataset_create",
                "measured": round(seconds, 2),
                "unit": "s",
                "ceiling": CEILING_S,
                "ok": seconds < CEILING_S and exact,
                "rows": ROWS,
                "times_the_floor": round(
                    statistics.median(ours.wall / floor.wall for ours, floor in turns), 2
                ),
                "floor_seconds": round(statistics.median(floor.wall for _, floor in turns), 2),
                "popq_mb": round(max(ours.mb for ours, _ in turns), 1),
                "mean_and_std_exact": exact,
            }
        )
    )
    return 0 if seconds < CEILING_S and exact else 1


if __name__ == "__main__":
    if len(sys.argv) > 1:
        fill(Path(sys.argv[1]))
        sys.exit()
    sys.exit(main())
