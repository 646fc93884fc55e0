"""What a run came to, and how two runs differ: nothing of it may depend on what died meanwhile."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from popq.flickr.fake.faults import Host

COLUMNS = (
    "flickr_id, owner, state, reason, server, secret, title, views, file_key, sha256,"
    " phash, bytes, width, height, format"
)


def outcome(home):
    """Return the catalogue and the store of a house, by the name of what is compared.

    Photos are known by Flickr's ids: ours depend on how a list came in.
    """
    return {
        "photos": home.sql(f"SELECT {COLUMNS} FROM photos"),
        "moments": home.sql(
            "SELECT flickr_id, pixels, sum_r, sum_g, sum_b, square_r, square_g, square_b"
            " FROM moments JOIN photos ON id = photo_id"
        ),
        "files": stored_files(home),
        # Of each stage, what its batches counted: an effect that happened twice shows here.
        "counts": [
            (stage, *map(int, counts))
            for stage, *counts in home.sql(
                "SELECT stage, sum(moved), sum(exited), sum(failed), sum(bytes)"
                " FROM jobs JOIN batches ON job_id = jobs.id GROUP BY stage ORDER BY stage"
            )
        ],
        "failures": home.sql(
            "SELECT flickr_id, outcome, count(*) FROM failures JOIN photos ON photos.id = photo_id"
            " GROUP BY flickr_id, outcome"
        ),
        # Each run's; which job wrote one is not compared.
        "scores": home.sql(
            "SELECT run_id, flickr_id, tier, score, CAST(probabilities AS text)"
            " FROM scores JOIN photos ON photos.id = photo_id"
        ),
        "open": home.sql(
            "SELECT stage, state FROM jobs WHERE state NOT IN ('done', 'cancelled') UNION ALL"
            " SELECT 'batch', state FROM batches WHERE state <> 'done'"
        ),
    }


def stored_files(home):
    """Return the keys in the store; what is being written is no key yet."""
    root = Path(home.rooms.settings.store())
    found = (Path(folder, name) for folder, _, names in os.walk(root) for name in names)
    keys = (str(path.relative_to(root)) for path in found)
    return sorted(key for key in keys if not key.startswith("."))


def differences(expected, found):
    """Return what differs as lines to read, a few rows of each kind; none when all is the same."""
    lines = []
    for name, rows in expected.items():
        missing, more = Counter(rows), Counter(found[name])
        missing, more = missing - more, more - missing
        if missing or more:
            lines.append(f"{name}: {missing.total()} rows are missing, {more.total()} are too many")
            lines += [f"  - {row}" for row in sorted(missing.elements(), key=str)[:6]]
            lines += [f"  + {row}" for row in sorted(more.elements(), key=str)[:6]]
    return lines


def asked(home):
    """Return how often each photo was asked for at each host."""
    counts = home.flickr.counters()
    return Counter(
        {(Host.API.value, photo): n for photo, n in counts["api_calls_per_photo"].items()}
        | {(Host.IMAGE.value, photo): n for photo, n in counts["image_calls_per_photo"].items()}
    )


def asked_again(undisturbed, disturbed):
    """Return for how many photos a host was asked anew, each time counted.

    A photo that takes several calls (a size is missing, a corrupt one is tried thrice) counts once
    for the calls that one more round of it takes.
    """
    more = disturbed - undisturbed
    return sum(-(-count // max(1, undisturbed[photo])) for photo, count in more.items())
