"""JSON: an array of objects, lines of one object each, or one object of columns."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Final

from popq.errors import BadInput
from popq.lists.files import NOTHING, Document, room, scratch
from popq.lists.lines import LONGEST, as_text, decoding, whole_lines
from popq.lists.rows import Row, Table, faulty
from popq.lists.scan import Scanner

#: Lines looked at to tell lines of objects from one object.
_LOOK: Final = 20
#: Values of a column that are held at a time; a row's may be long, a whole profile each.
_CHUNK: Final = 512
#: More columns are rows: the file was written the other way round.
_MOST_COLUMNS: Final = 1000
_COLUMN: Final = re.compile(r'\s*\{\s*"[^"\\]*(?:\\.[^"\\]*)*"\s*:\s*[\[{]')
#: Where each chunk of a column lies in the temporary file: its start and length.
_Places = list[tuple[int, int]]


def array(document: Document) -> Table:
    """Read a JSON array of objects; a row's line is its number from 1.

    What is no object is a row with a fault. Raises `BadInput`, while rows are read, where the text
    is no JSON or ends too soon.
    """
    scanner = Scanner(as_text(document), document)
    return Table(None, _array(scanner))


def objects(document: Document) -> Table:
    """Read lines of one object each, or one object of columns, told by the first 20 lines.

    A line that is no object is a row with a fault. An object of columns, as pandas writes it, is
    `{"Uid": {"0": "59@N75", …}, "Pid": {"0": "775", …}}` or `{"Uid": ["59@N75", …], …}`; it is read
    once, into a temporary file, and its row's line is the number from 1. Raises `BadInput` for
    neither of both, and for columns that do not belong to the same rows.
    """
    text = as_text(document)
    head = _head(text, document)
    whole = [found for line in head if (found := _object(line)) is not None]
    alone = sum(not line.isspace() for line in head) == 1
    if not whole or (alone and all(isinstance(v, dict | list) for v in whole[0].values())):
        start = "".join(head)
        if not whole and not _COLUMN.match(start):
            message = f"{document.shown} is neither lines of one JSON object each nor columns"
            raise BadInput(f"{message} (nor an array). Fetch or write it again. {NOTHING}")
        return _columns(Scanner(text, document, start), document)
    with decoding(document):  # the last of them was perhaps not read to its end
        head[-1] += "" if head[-1].endswith(("\n", "\r")) else text.readline(LONGEST)
    source = itertools.chain(head, whole_lines(text, document, len(head)))
    return Table(None, _lines(source))


def _head(text: io.TextIOWrapper, document: Document) -> list[str]:
    """Return the first lines, of which the last may be cut where `LONGEST` is reached."""
    head: list[str] = []
    left = LONGEST
    with decoding(document):
        while left > 0 and len(head) < _LOOK and (line := text.readline(left)):
            head.append(line)
            left -= len(line)
    return head


def _object(line: str) -> dict[str, Any] | None:
    if not line.endswith("}") and not line.rstrip().endswith("}"):
        return None  # without building all that a long line holds before it is cut
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _array(scanner: Scanner) -> Iterator[Row]:
    fields: tuple[int, dict[str, Any], None]
    for number, item in enumerate(scanner.items(), start=1):
        if isinstance(item, dict):
            # Past the tuple's own constructor: this runs once for each row of a list.
            fields = (number, item, None)
            yield tuple.__new__(Row, fields)
        else:
            yield faulty(number, f"it is no JSON object: {item!r:.40}")
    scanner.end()


def _lines(source: Iterator[str]) -> Iterator[Row]:
    for number, line in enumerate(source, start=1):
        found = _object(line)
        if found is not None:
            yield Row(number, found)
        elif line.strip():
            yield faulty(number, f"it is no JSON object, or cut short: {line.strip()[:40]!r}")


def _columns(scanner: Scanner, document: Document) -> Table:
    """Write each column's values to a temporary file, since they stand one after the other."""
    spool = scratch(document.stack)
    places: dict[str, _Places] = {}
    first: tuple[str, int, bytes] | None = None
    scanner.take("{")
    while scanner.peek() != "}":
        if places:
            scanner.take(",")
        name = scanner.name()
        if name in places or len(places) == _MOST_COLUMNS:
            what = f"names the column {name!r} twice" if name in places else "holds rows by number"
            message = f"{document.shown} {what}; it is read as one JSON object of columns"
            raise BadInput(f"{message}: write an array of objects. {NOTHING}")
        if scanner.peek() not in {"[", "{"}:
            message = f"{document.shown} is one JSON object, and its {name!r} is no whole column"
            raise BadInput(f"{message}: write an array of objects. {NOTHING}")
        places[name], keys = _spool(scanner, document, spool)
        first = first or keys
        if keys != first:
            message = f"{document.shown}: the columns {next(iter(places))!r} and {name!r}"
            raise BadInput(f"{message} do not name the same rows in the same order. {NOTHING}")
    scanner.take("}")
    scanner.end()
    return Table(tuple(places), _in_step(document, spool, places))


def _spool(
    scanner: Scanner, document: Document, spool: IO[bytes]
) -> tuple[_Places, tuple[str, int, bytes]]:
    """Write one column; return where it is, and what says whether two name the same rows."""
    digest = hashlib.sha256()
    places: _Places = []
    count = 0
    mark = scanner.peek()
    values = scanner.items() if mark == "[" else scanner.members()
    while chunk := list(itertools.islice(values, _CHUNK)):
        count += len(chunk)
        if mark == "{":
            digest.update(json.dumps([key for key, _ in chunk]).encode())
            chunk = [value for _, value in chunk]
        with _shallow(document):
            text = json.dumps(chunk).encode()
        with room():
            places.append((spool.tell(), len(text)))
            spool.write(text)
    return places, (mark, count, digest.digest())


@contextmanager
def _shallow(document: Document) -> Iterator[None]:
    """Turn a `RecursionError`, for what the scanner could just read, into `BadInput`."""
    try:
        yield
    except RecursionError:
        message = f"{document.shown} holds a value that is nested too deeply"
        raise BadInput(f"{message}; remove it. {NOTHING}") from None


def _in_step(document: Document, spool: IO[bytes], places: dict[str, _Places]) -> Iterator[Row]:
    number = 0
    for chunk in zip(*places.values(), strict=True):
        columns = []
        for start, length in chunk:
            spool.seek(start)
            with _shallow(document):
                columns.append(json.loads(spool.read(length)))
        for values in zip(*columns, strict=True):
            number += 1
            yield Row(number, dict(zip(places, values, strict=True)))
