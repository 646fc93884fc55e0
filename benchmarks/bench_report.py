"""Does `popq report` of the SMP training list, scored, take under 10 s?

The catalogue is made by SQL: 305,613 stored photos of 38,312 owners in a data set (three tiers, a
fifth of the owners for validation), a run with ten epochs and metrics, and a score of every photo;
and a fifth as many that are gone, whose year of upload their neighbours tell.
All photos share one picture of 640 pixels, which the page decodes once for each of its thirty. What
counts is the wall time of the whole process `python -m popq report`, the median of turns; beside it
stands a floor: a process with nothing but sqlite3 that reads every label and score of the run.
Second claim: the page stays below 3 MB. Prints JSON, a line a claim; exits 1 on a miss.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import sqlite3
import statistics
import sys
import tempfile
from pathlib import Path

from measure import Cost, environment, run
from PIL import Image
from sklearn.datasets import load_sample_images

from popq.images.store import Store, key_for

CEILING_S = 10
CEILING_MB = 3
TURNS = 5
ROWS = 305_613
OWNERS = 38_312
TEN_YEARS_S = 10 * 365 * 86_400
CUTS = (5.21, 7.33)
TIER_LABELS = (3.7, 6.3, 9.2)

FLOOR = """
import sqlite3
import sys

database = sqlite3.connect(sys.argv[1])
query = "SELECT m.label, s.score FROM members m JOIN scores s ON s.photo_id = m.photo_id"
assert len(database.execute(query + " WHERE s.run_id = 1").fetchall()) == int(sys.argv[2])
"""

METRICS = {
    "n": 60_000,
    "accuracy": 0.45,
    "balanced_accuracy": 0.45,
    "macro_f1": 0.44,
    "quadratic_kappa": 0.3,
    "cross_entropy": 1.04,
    "confusion": [[12_000, 5_000, 3_000], [6_000, 7_000, 7_000], [5_000, 7_000, 8_000]],
    "spearman": 0.35,
    "mae": 1.85,
    "chance": 1 / 3,
    "p_chance": 0.0,
    "without_pixels": {
        "majority": 0.34,
        "nearest_id": 0.39,
        "nearest_id_25": 0.4,
        "mean_colour": 0.38,
    },
}
CONFIG = {"arch": "resnet50", "epochs": 10, "batch_size": 64, "lr": 0.02, "image_size": 224}


def put_picture(folder: Path) -> tuple[str, str]:
    """Keep one photograph in the store; return its sha256 and key."""
    out = io.BytesIO()
    Image.fromarray(load_sample_images().images[0]).save(out, "JPEG", quality=90)
    sha256 = hashlib.sha256(out.getvalue()).hexdigest()
    key = key_for(sha256, "JPEG")
    Store(str(folder / "store")).put(out.getvalue(), key)
    return sha256, key


def rows(key: str):
    """Yield each photo's rows: (photo), (member), (score), the same on every run."""
    rng = random.Random(ROWS)
    for photo in range(1, ROWS + 1):
        owner = rng.randrange(OWNERS)
        label = round(min(16.56, max(1.0, rng.gauss(6.406, 2.473))), 2)
        tier = 1 + sum(label >= cut for cut in CUTS)
        first, second = sorted((rng.random(), rng.random()))
        shares = (first, second - first, 1 - second)
        score = sum(share * mean for share, mean in zip(shares, TIER_LABELS, strict=True))
        url = f"https://www.flickr.com/photos/{owner}@N00/{10**9 + photo}"
        likeliest = 1 + max(range(3), key=shares.__getitem__)
        yield (
            (photo, 10**9 + 2 * photo, url, f"{owner}@N00", label, f"Photo {photo}", photo % 11),
            (photo, label, tier, "train" if owner % 5 else "val", key),
            (photo, score, likeliest, json.dumps(shares)),
        )


def fill(path: Path, sha256: str, key: str) -> None:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA synchronous=OFF")
    database.execute("BEGIN")
    photos, members, scores = zip(*rows(key), strict=True)
    # Ten years of photos, a good quarter of an hour from one to the next.
    moment = f"datetime(1136073600 + ?1 * {TEN_YEARS_S // ROWS}, 'unixepoch') || '.000000'"
    database.executemany(
        "INSERT INTO photos (id, flickr_id, page_url, owner, label, title, licence, state,"
        " file_key, sha256, posted_at)"
        f" VALUES (?, ?, ?, ?, ?, ?, ?, 'stored', '{key}', '{sha256}', {moment})",
        photos,
    )
    database.execute(
        "INSERT INTO photos (flickr_id, page_url, state, reason) SELECT flickr_id + 1,"
        " page_url, 'gone', 'not_found' FROM photos WHERE id % 5 = 0"
    )
    database.execute(
        "INSERT INTO datasets (id, name, count, tiers, cuts, tier_labels, tie_rule, split_rule,"
        " val, test, seed, salt, mean, std, fingerprint) VALUES (1, 'smp', ?, 3, ?, ?, 'upper',"
        " 'owner', 0.2, 0, 0, 'popq:0', '[0.4, 0.4, 0.4]', '[0.2, 0.2, 0.2]', 'f00d')",
        (ROWS, json.dumps(CUTS), json.dumps(TIER_LABELS)),
    )
    database.executemany(
        "INSERT INTO members (dataset_id, photo_id, label, tier, split, file_key)"
        " VALUES (1, ?, ?, ?, ?, ?)",
        members,
    )
    database.execute(
        "INSERT INTO runs (id, dataset_id, config, seed, state, best_epoch, weights_sha256,"
        " metrics, finished_at) VALUES (1, 1, ?, 0, 'done', 10, 'beef', ?, CURRENT_TIMESTAMP)",
        (json.dumps(CONFIG), json.dumps(METRICS)),
    )
    database.executemany(
        "INSERT INTO epochs (run_id, epoch, train_loss, train_accuracy, val_loss, val_accuracy,"
        " lr, seconds, images_per_second) VALUES (1, ?, ?, 0.4, ?, 0.4, 0.02, 500, 480)",
        [(epoch, 1.1 / epoch, 1.2 / epoch) for epoch in range(1, 11)],
    )
    database.executemany(
        "INSERT INTO scores (run_id, photo_id, score, tier, probabilities) VALUES (1, ?, ?, ?, ?)",
        scores,
    )
    database.execute("COMMIT")
    database.close()


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        env = environment(folder, POPQ_DATA_DIR=name)
        run("-m", "popq", "init", cwd=folder, env=env)
        path = folder / "popq.db"
        fill(path, *put_picture(folder))
        turns: list[tuple[Cost, Cost]] = []
        for _ in range(TURNS + 1):
            ours = run("-m", "popq", "report", "-o", "report.html", cwd=folder, env=env)
            turns.append((ours, run("-c", FLOOR, str(path), str(ROWS), cwd=folder, env=env)))
        html = (folder / "report.html").read_text("utf-8")
    # The first turn compiled the modules and found the fonts.
    popq, floor = zip(*turns[1:], strict=True)
    seconds = statistics.median(cost.wall for cost in popq)
    whole = (
        html.count('src="data:image/jpeg') == 30
        and f'"summary.stored" data-v="{ROWS}"' in html
        and '"year.estimated"' in html
    )
    size = {
        "name": "report_size",
        "claim": "Does that page, with its thirty pictures, stay below 3 MB?",
        "measured": round(len(html.encode()) / 1e6, 2),
        "unit": "MB",
        "ceiling": CEILING_MB,
        "ok": whole and len(html.encode()) < CEILING_MB * 1e6,
    }
    speed = {
        "name": "report",
        "measured": round(seconds, 2),
        "unit": "s",
        "ceiling": CEILING_S,
        "ok": whole and seconds < CEILING_S,
        "rows": ROWS,
        "slowest_seconds": round(max(cost.wall for cost in popq), 2),
        "cpu_seconds": round(statistics.median(cost.cpu for cost in popq), 2),
        "floor_seconds": round(statistics.median(cost.wall for cost in floor), 2),
        "times_the_floor": round(
            statistics.median(o.wall / f.wall for o, f in zip(popq, floor, strict=True)), 1
        ),
    }
    print(json.dumps(size))
    print(json.dumps(speed))
    return 0 if size["ok"] and speed["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
