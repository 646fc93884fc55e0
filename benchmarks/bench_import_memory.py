"""Does `popq import` take as much memory for ten times as many rows, joined and relabelled too?

Two lists that are made up, one ten times as long as the other, each with its labels and a metadata
file (a JSON array). Each is imported, and then again with another label on every row, which makes
every photo an update. What counts is the peak memory of the whole process. Prints JSON; exits 1 on
a miss. `bench_import_memory.py ROWS` takes ROWS for the longer list, 1,000,000 otherwise.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from measure import environment, run

CEILING = 1.25
ROWS = 1_000_000
HERE = Path(__file__).parent


def write(folder: Path, rows: int) -> None:
    """Write a list, two files of labels and one of metadata into `folder`."""
    with (folder / "list").open("w") as links, (folder / "text.json").open("w") as text:
        for row in range(rows):
            owner, number = f"{10_000_000 + row // 8}@N00", 10_000_000_000 + 7 * row
            links.write(f"https://www.flickr.com/photos/{owner}/{number}\n")
            said = {"Uid": owner, "Pid": number, "Title": f"photo {row}", "Mediatype": "photo"}
            text.write(("," if row else "[") + json.dumps(said))
        text.write("]")
    for turn in range(2):
        with (folder / f"labels{turn}").open("w") as labels:
            labels.writelines(f"{1 + (row + turn) % 1565 / 100:.2f}\n" for row in range(rows))


def peak(root: Path, rows: int) -> tuple[float, float]:
    """Return the peaks, in MB, of a first import and of one that changes every photo."""
    with tempfile.TemporaryDirectory(dir=root) as name:
        folder = Path(name)
        # By a child: what this process holds, popq's would seem to hold too.
        run(__file__, name, str(rows), cwd=HERE, env=environment(root))
        # What SQLite stages goes where the lists are: a /tmp may itself be memory.
        env = environment(root, POPQ_DATA_DIR=name, SQLITE_TMPDIR=name)
        first, second = (
            run(
                *("-m", "popq", "import", "list", "--labels", f"labels{turn}"),
                *("--metadata", "text.json"),
                cwd=folder,
                env=env,
            )
            for turn in range(2)
        )
    return first.mb, second.mb


def main(rows: int) -> int:
    with tempfile.TemporaryDirectory() as name:
        short, long = (peak(Path(name), size) for size in (rows // 10, rows))
    ratio = max(ours / theirs for ours, theirs in zip(long, short, strict=True))
    print(
        json.dumps(
            {
                "name": "import_memory_flat",
                "ratio": round(ratio, 3),
                "ceiling": CEILING,
                "ok": ratio <= CEILING,
                "rows": rows,
                "mb": [round(mb, 1) for mb in long],
                "mb_of_a_tenth": [round(mb, 1) for mb in short],
            }
        )
    )
    return 0 if ratio <= CEILING else 1


if __name__ == "__main__":
    if len(sys.argv) > 2:
        write(Path(sys.argv[1]), int(sys.argv[2]))
        sys.exit()
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS))
