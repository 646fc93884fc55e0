"""Does `popq import` into PostgreSQL take at most 3 times `COPY` to a temporary table plus upsert?

The list of bench_import.py: 305,613 links with labels. Both sides are whole processes, in turns,
each into a database of its own that popq has migrated: `python -m popq import`, and a peer that
trusts every row, knows one shape of link, copies them into a temporary table and merges it by one
`INSERT … ON CONFLICT`. Second claim: importing the list a second time takes no longer than the
first time (the medians are compared). `--turns` says how often; the first one is a warm-up.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg
from bench_import import ROWS, write_list
from measure import Cost, environment, run
from server import database, postgres

from popq.catalogue import migrate
from popq.catalogue.db import Catalogue

CEILING = 3.0
TURNS = 3
PEER = """
import sys

import psycopg

links, labels, url = sys.argv[1:]


def rows():
    with open(links) as ours, open(labels) as theirs:
        for link, label in zip(ours, theirs, strict=True):
            page = link.strip().strip('"')
            _, _, _, _, owner, number = page.split("/")
            yield int(number), page, owner, float(label)


with psycopg.connect(url) as connection:
    connection.execute(
        "CREATE TEMPORARY TABLE incoming"
        " (flickr_id bigint, page_url text, owner text, label float8)"
    )
    with connection.cursor().copy("COPY incoming FROM STDIN") as copy:
        for row in rows():
            copy.write_row(row)
    connection.execute(
        "INSERT INTO photos (flickr_id, page_url, owner, label) SELECT * FROM incoming"
        " ON CONFLICT (flickr_id) DO UPDATE SET label = excluded.label"
        " WHERE photos.label IS DISTINCT FROM excluded.label"
    )
"""
_ROWS = """
SELECT count(*), sum(hashtextextended(concat_ws(' ', id, flickr_id, page_url, owner, label), 0))
"""


def turn(server: str, folder: Path, lists: tuple[Path, Path], popq_first: bool) -> list[Cost]:
    """Import with both sides; return what popq, the peer, and popq's second import took."""
    links, labels = map(str, lists)
    with ExitStack() as stack:
        urls = {
            name: stack.enter_context(database(server, f"popq_bench_import_{name}"))
            for name in ("popq", "peer")
        }
        for url in urls.values():
            with closing(Catalogue(url)) as catalogue:
                migrate.upgrade(catalogue)
        env = environment(folder, POPQ_DATABASE_URL=urls["popq"], POPQ_DATA_DIR=str(folder))

        def popq() -> Cost:
            return run("-m", "popq", "import", links, "--labels", labels, cwd=folder, env=env)

        def peer() -> Cost:
            return run("-c", PEER, links, labels, urls["peer"], cwd=folder, env=env)

        sides = (popq, peer) if popq_first else (peer, popq)
        costs = {side: side() for side in sides}
        again = popq()
        held = []
        for url in urls.values():
            with psycopg.connect(url) as connection:
                held.append(connection.execute(f"{_ROWS} FROM photos").fetchone())
        if held[0] != held[1] or held[0][0] != ROWS:
            raise SystemExit("the peer no longer writes what popq writes; bring it up to date")
    return [costs[popq], costs[peer], again]


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--turns", type=int, default=TURNS)
    turns = options.parse_args().turns
    with tempfile.TemporaryDirectory() as name, postgres() as server:
        folder = Path(name)
        lists = write_list(folder)
        taken = [turn(server, folder, lists, bool(n % 2)) for n in range(turns + 1)]
    popq, peer, again = zip(*taken[1:], strict=True)
    ratio = statistics.median(a.wall / b.wall for a, b in zip(popq, peer, strict=True))
    walls = [statistics.median(cost.wall for cost in side) for side in (popq, peer, again)]
    second = {"name": "import_postgres_again", "ratio": round(walls[2] / walls[0], 3)}
    second |= {"claim": "Does a second import into PostgreSQL take no longer than the first?"}
    second |= {"ceiling": 1.0, "ok": walls[2] <= walls[0], "seconds": round(walls[2], 2)}
    first = {"name": "import_postgres", "ratio": round(ratio, 3), "ceiling": CEILING}
    first |= {"ok": ratio <= CEILING, "rows": ROWS}
    first |= {"popq_seconds": round(walls[0], 2), "peer_seconds": round(walls[1], 2)}
    for result in (second, first):
        print(json.dumps(result))
    return 0 if first["ok"] and second["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
