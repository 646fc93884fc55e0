"""Parquet, which needs the extra `parquet`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from popq.errors import BadInput, Misconfigured
from popq.lists.files import NOTHING, Document, spooled
from popq.lists.rows import Row, Table, repeated

#: Rows made into Python objects at a time.
_CHUNK: Final = 4096
#: Bytes of a column that are read at a time; without it, those of a whole row group.
_BUFFER: Final = 1 << 20


def parquet(document: Document) -> Table:
    """Read Parquet; values are Python objects, a row's line is its number from 1.

    Raises `Misconfigured` without pyarrow, and `BadInput`, also while rows are read, for a file
    that is damaged or cut, or that holds a value for which Python has no object.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415 - an optional extra
        from pyarrow import parquet as pq  # noqa: PLC0415 - the same
    except ImportError as error:
        message = f"{document.shown} is Parquet, which needs pyarrow: pip install 'popq[parquet]'"
        raise Misconfigured(f"{message}. {NOTHING}") from error
    # ArrowInvalid, -IOError and others are their own bases' errors too; a value without its
    # object is a ValueError or OverflowError, damaged text a UnicodeDecodeError.
    broken = (pa.ArrowException, OSError, ValueError, OverflowError)
    source = spooled(document.file, document.stack)
    try:
        file = pq.ParquetFile(source, buffer_size=_BUFFER, pre_buffer=False)
        document.stack.enter_context(file)
        names = list(file.schema_arrow.names)
    except broken as error:
        raise _damaged(document, error) from error
    name = repeated(names)
    if name is not None:
        message = f"{document.shown} has more than one column {name!r}; rename or remove one"
        raise BadInput(f"{message}. {NOTHING}")
    return Table(tuple(names), _rows(document, file, tuple(names), broken))


def _rows(
    document: Document, file: Any, names: tuple[str, ...], broken: tuple[type[Exception], ...]
) -> Iterator[Row]:
    number = 0
    # Measured: with threads, or read ahead, memory grows with the file.
    batches = file.iter_batches(batch_size=_CHUNK, use_threads=False)
    while True:
        try:
            batch = next(batches, None)
            columns = [] if batch is None else [column.to_pylist() for column in batch.columns]
        except broken as error:
            raise _damaged(document, error) from error
        if batch is None:
            return
        for values in zip(*columns, strict=True):
            number += 1
            yield Row(number, dict(zip(names, values, strict=True)))


def _damaged(document: Document, error: Exception) -> BadInput:
    message = f"{document.shown} is Parquet that is damaged, cut or not readable ({error})"
    return BadInput(f"{message}; fetch or write it again. {NOTHING}")
