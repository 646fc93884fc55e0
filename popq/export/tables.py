"""Rows of any number as CSV, JSON Lines or Parquet, each written as it comes.

Cells are as the catalogue has them; see `failures` for why none is changed for spreadsheets.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TextIO

from popq.errors import BadInput, Misconfigured

#: A table: its columns, and its rows some at a time.
Chunks = Iterable[Sequence[Sequence[Any]]]
#: Parquet's types of the columns that are no text.
_INTEGERS: Final = frozenset(
    {"photo_id", "flickr_id", "licence", "tier", "run_id", "predicted_tier"}
)
_NUMBERS: Final = frozenset({"label", "score"})
#: What Python's writer of CSV is told that a line ends with; see `_Lines`.
_END: Final = "\r\n"


class _Lines:
    """What a writer of CSV writes to, so that cells with a CR are quoted and lines end with LF.

    Python quotes just what may end a line, so it must be told CR LF: readers take a bare CR for it.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, line: str) -> None:
        """Write a line that ends with CR LF."""
        self._out.write(line.removesuffix(_END) + "\n")


def csv_by_name(out: TextIO, columns: Sequence[str]) -> csv.DictWriter[str]:
    """Return a writer of rows that are dicts, below a line of their names."""
    table = csv.DictWriter(_Lines(out), columns, lineterminator=_END)
    table.writeheader()
    return table


def write_csv(out: TextIO, columns: Sequence[str], chunks: Chunks) -> int:
    """Write a line of names and a line a row; return how many rows there were."""
    table = csv.writer(_Lines(out), lineterminator=_END)
    table.writerow(columns)
    written = 0
    for rows in chunks:
        table.writerows(rows)
        written += len(rows)
    return written


def write_jsonl(out: TextIO, columns: Sequence[str], chunks: Chunks) -> int:
    """Write a JSON object a row, a line each; return how many there were."""
    written = 0
    for rows in chunks:
        lines = (json.dumps(dict(zip(columns, row, strict=True))) for row in rows)
        out.writelines(f"{line}\n" for line in lines)
        written += len(rows)
    return written


def write_parquet(target: Path, columns: Sequence[str], chunks: Chunks) -> int:
    """Write Parquet with a row group for each part; return how many rows there were.

    Raises `Misconfigured` without pyarrow.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415 - an optional extra
        from pyarrow import parquet as pq  # noqa: PLC0415 - the same
    except ImportError as error:
        message = "Parquet needs pyarrow, which is not installed"
        raise Misconfigured(f"{message}; pip install 'popq[parquet]'.") from error
    schema = pa.schema([(name, _kind(pa, name)) for name in columns])
    written = 0
    with pq.ParquetWriter(target, schema) as file:
        for rows in _merged(chunks):
            parts = zip(*rows, strict=True)
            arrays = [pa.array(part, kind.type) for part, kind in zip(parts, schema, strict=True)]
            file.write_table(pa.Table.from_arrays(arrays, schema=schema))
            written += len(rows)
    return written


def write(target: Path, kind: str, columns: Sequence[str], chunks: Chunks) -> int:
    """Write rows to a file that is there already or not, as `csv`, `jsonl` or `parquet`."""
    if kind == "parquet":
        return write_parquet(target, columns, chunks)
    lines: Callable[[TextIO, Sequence[str], Chunks], int]
    lines = write_csv if kind == "csv" else write_jsonl
    with target.open("w", encoding="utf-8", newline="") as out:
        return lines(out, columns, chunks)


def kind_of(target: Path, kinds: Sequence[str]) -> str:
    """Return the kind that a file's ending names; `BadInput` when it names none of `kinds`."""
    ending = target.suffix.lower().removeprefix(".")
    if ending not in kinds:
        message = f"{target} names no kind of file by its ending"
        raise BadInput(f"{message}; say --format {', '.join(kinds)}.")
    return ending


def _kind(pa: Any, name: str) -> Any:
    if name in _INTEGERS:
        return pa.int64()
    number = name in _NUMBERS or (name[:1] == "p" and name[1:].isdecimal())
    return pa.float64() if number else pa.string()


def _merged(chunks: Chunks) -> Iterator[list[Sequence[Any]]]:
    """Yield rows in larger parts: small row groups are slow to read."""
    rows: list[Sequence[Any]] = []
    for chunk in chunks:
        rows.extend(chunk)
        if len(rows) >= _GROUP:
            yield rows
            rows = []
    if rows:
        yield rows


_GROUP: Final = 50_000
