"""Does `popq score` take as much memory for 100,000 photos as for 1,000?

A catalogue of so many stored photos, all of them members of the run's data set, is scored by the
command itself; what counts is the peak memory of its process. Photos share one small JPEG, which is
decoded for each of them, and the network is ResNet18 at 32 pixels, so that it takes minutes. There
is no pack: its pages are the system's, which takes them back. Prints JSON; exits 1 on a miss.
`bench_score_memory.py PHOTOS` takes PHOTOS for the longer list.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import tempfile
from pathlib import Path

from measure import Cost, environment, run

CEILING = 1.1
PHOTOS = 100_000
FEWER = 1_000
FIRST = 16
MORE = (
    """INSERT INTO photos (source_key, page_url, label, state, image_url, file_key, sha256)
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
    SELECT 'more/' || i, page_url, label, state, image_url, file_key, sha256
    FROM n, photos WHERE photos.id = 1""",
    """INSERT INTO members (dataset_id, photo_id, label, tier, split, file_key)
    SELECT 1, id, label, 1, 'train', file_key FROM photos WHERE id > ?""",
)


def prepare(folder: Path, photos: int) -> None:
    """Make a catalogue of so many photos in `folder`, and a run of random weights."""
    # Not by the measuring process: a child never shows less memory than its parent had.
    from bench_score import stored  # noqa: PLC0415 - see above

    from popq.bootstrap import Rooms  # noqa: PLC0415
    from popq.settings import Settings  # noqa: PLC0415

    with Rooms(Settings(data_dir=folder)) as rooms:
        stored(rooms, folder, FIRST, "resnet18", width=96, image_size=32)
    with sqlite3.connect(folder / "popq.db") as connection:
        connection.execute(MORE[0], (photos - FIRST,))
        connection.execute(MORE[1], (FIRST,))


def score(root: Path, photos: int) -> Cost:
    with tempfile.TemporaryDirectory(dir=root) as name:
        folder, env = Path(name), environment(root, POPQ_DATA_DIR=name)
        run(__file__, name, str(photos), cwd=root, env=env)
        cost = run("-m", "popq", "-q", "score", "--run", "1", cwd=folder, env=env)
        with sqlite3.connect(folder / "popq.db") as connection:
            assert connection.execute("SELECT count(*) FROM scores").fetchone() == (photos,)
    return cost


def main(photos: int) -> int:
    with tempfile.TemporaryDirectory() as name:
        few, many = (score(Path(name), size) for size in (FEWER, photos))
    ratio = many.mb / few.mb
    result = {
        "name": "score_memory_flat",
        "ratio": round(ratio, 3),
        "ceiling": CEILING,
        "ok": ratio <= CEILING,
        "photos": photos,
        "mb": round(many.mb, 1),
        "fewer_photos": FEWER,
        "mb_of_fewer": round(few.mb, 1),
        "seconds": round(many.wall, 1),
    }
    print(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    if len(sys.argv) > 2:
        prepare(Path(sys.argv[1]), int(sys.argv[2]))
        sys.exit()
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else PHOTOS))
