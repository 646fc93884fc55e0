"""A run's scores as CSV, JSON Lines, Parquet, or the submission of the SMP challenge."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any, Final, TextIO

from popq.catalogue import exports, runs
from popq.catalogue.db import Catalogue, Tx
from popq.errors import BadInput
from popq.export import tables
from popq.images.whole import whole_file

KINDS: Final = ("csv", "jsonl", "parquet", "smp")


def save(
    catalogue: Catalogue, run: int, target: Path, kind: str, *, split: str | None = None
) -> int:
    """Write the run's scores (of one split, if given) to a file; return how many there were.

    Raises `BadInput` for an unknown run and when it has scored none of these photos.
    """
    with catalogue.read() as tx, closing(_begun(tx, run, split)) as found:
        columns = (*exports.SCORE_COLUMNS, *_shares(next(found)))
        with whole_file(target) as scratch:
            if kind == "smp":
                with scratch.open("w", encoding="utf-8") as out:
                    return _write_smp(out, found)
            return tables.write(scratch, kind, columns, _rows(found))


def write(
    catalogue: Catalogue, run: int, out: TextIO, kind: str, *, split: str | None = None
) -> int:
    """Write them to an open text file, as `csv`, `jsonl` or `smp`; as `save` otherwise."""
    with catalogue.read() as tx, closing(_begun(tx, run, split)) as found:
        columns = (*exports.SCORE_COLUMNS, *_shares(next(found)))
        if kind == "smp":
            return _write_smp(out, found)
        lines = tables.write_csv if kind == "csv" else tables.write_jsonl
        return lines(out, columns, _rows(found))


#: Some scores: their columns, and probabilities.
_Part = list[tuple[tuple[Any, ...], list[float]]]


def _begun(tx: Tx, run: int, split: str | None) -> Any:
    """Yield the first part twice, since its probabilities name columns, and then the others."""
    runs.get(tx, run)
    found = exports.scores(tx, run, split)
    first = next(found, None)
    if first is None:
        where = "" if split is None else f" of the split {split}"
        message = f"Run {run} has scored no photo{where}"
        raise BadInput(f"{message}; `popq score --run {run}` scores what is stored.")
    yield first
    yield from chain([first], found)


def _shares(part: _Part) -> list[str]:
    return [f"p{tier}" for tier in range(1, len(part[0][1]) + 1)]


def _rows(parts: Iterator[_Part]) -> Iterator[list[tuple[Any, ...]]]:
    for part in parts:
        yield [(*row, *shares) for row, shares in part]


def _write_smp(out: TextIO, parts: Iterator[_Part]) -> int:
    names = exports.SCORE_COLUMNS
    flickr, key, score = (names.index(name) for name in ("flickr_id", "source_key", "score"))
    out.write('{"version":"VERSION 1.2","result":[')
    written = 0
    for part in parts:
        for row, _ in part:
            post = json.dumps(exports.post_id(row[flickr], row[key]))
            comma = "," if written else ""
            # All digits: rounded to four, a sure network's scores are ties, and its rho another.
            told = json.dumps(row[score])
            out.write(f'{comma}\n{{"post_id":{post},"popularity_score":{told}}}')
            written += 1
    out.write('\n],"external_data":{"used":"false","details":""}}\n')
    return written
