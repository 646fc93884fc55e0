"""The one door for tables: the shape is told by the content, never by the file's name."""

from __future__ import annotations

import codecs
import re
from typing import Final

from popq.lists.delimited import delimited
from popq.lists.files import Document
from popq.lists.objects import array, objects
from popq.lists.parquet import parquet
from popq.lists.rows import Row, Table

__all__ = ["Row", "Table", "is_table", "table"]

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
