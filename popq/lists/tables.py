"""The one door for tables: the shape is told by the content, never by the file's name."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import Final

from popq.errors import BadInput
from popq.lists.delimited import delimited
from popq.lists.files import NOTHING, Document
from popq.lists.objects import array, objects
from popq.lists.parquet import parquet
from popq.lists.rows import Row, Table

__all__ = ["Row", "Table", "is_table", "table", "with_columns"]

#: How an array of objects, lines of objects or an object of columns begins.
_OBJECTS: Final = re.compile(rb'(?:\xef\xbb\xbf)?\s*(?:\[\s*\{|\{\s*")')


def table(document: Document) -> Table:
    """Return the rows of a document, read as they are asked for, in memory that stays flat.

    Parquet, a JSON array of objects, lines of JSON objects, one JSON object of columns (as pandas
    writes it), else CSV or TSV with a header. Text is passed on as it is: lone surrogates and NULs
    of JSON included. Raises `BadInput`, here or while rows are read, for what cannot be read as
    its shape, and `Misconfigured` for Parquet without pyarrow.
    """
    start = document.file.peek()
    if start.startswith(b"PAR1"):
        return parquet(document)
    match start.removeprefix(codecs.BOM_UTF8).lstrip()[:1]:
        case b"[":
            return array(document)
        case b"{":
            return objects(document)
        case _:
            return delimited(document)


def is_table(document: Document) -> bool:
    """Return whether the content can be nothing but a table: CSV may also be lines of links."""
    start = document.file.peek()
    return start.startswith(b"PAR1") or _OBJECTS.match(start) is not None


def with_columns(rows: Table, document: Document, *names: str | None) -> Iterator[Row]:
    """Return the rows of a table that has these columns; `BadInput` where it has not."""
    wanted = [name for name in names if name is not None]
    if rows.columns is None:
        return _until_seen(rows.rows, document, wanted)
    for name in wanted:
        if name not in rows.columns:
            there = ", ".join(rows.columns)[:200]
            message = f"{document.shown} has no column {name!r}; its columns are: {there}"
            raise BadInput(f"{message}. {NOTHING}")
    return rows.rows


def _until_seen(rows: Iterator[Row], document: Document, wanted: list[str]) -> Iterator[Row]:
    """Yield rows that may each have fields of their own; `BadInput` if a wanted one never came."""
    first: tuple[str, ...] = ()
    for row in rows:
        if wanted:
            first = first or tuple(row.values)
            wanted = [name for name in wanted if name not in row.values]
        yield row
    if wanted and first:
        there = ", ".join(first)[:200]
        message = f"{document.shown}: no row has a field {wanted[0]!r}; the first row has: {there}"
        raise BadInput(f"{message}. {NOTHING}")
