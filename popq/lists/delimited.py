"""CSV, TSV and their like: a header, then rows of cells."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from typing import Final

from popq.errors import BadInput
from popq.lists.files import NOTHING, Document, empty
from popq.lists.lines import as_text, not_text, whole_lines
from popq.lists.rows import Row, Table, faulty, repeated

_DELIMITERS: Final = "\t,;"


def delimited(document: Document) -> Table:
    """Read text with a header; its delimiter is the one that cuts the header into most names.

    Names may stand between blanks, as in `pid uid url`; then cells stand between tabs if the first
    row has any, else between blanks. Missing cells at a row's end are ""; blank lines are skipped.
    Raises `BadInput`, also while rows are read, for what is no text in UTF-8, a header that names
    a column twice, and a quote that is never closed.
    """
    source = whole_lines(as_text(document), document)
    above, header = _first(source)
    if not header:
        raise empty(document.shown)
    if "\0" in header:
        raise not_text(document)
    delimiter = max(_DELIMITERS, key=lambda mark: _fit(header, mark))
    if len(header.split()) > 1 and not any(mark in header for mark in _DELIMITERS + '"'):
        header, source, delimiter = _between_blanks(header, source)
    cells = _cells(itertools.chain([header], source), delimiter, above + 1, document.shown)
    _, _, names = next(cells)
    name = repeated(names)
    if name is not None:
        message = f"{document.shown} has more than one column {name!r}; rename or remove one"
        raise BadInput(f"{message}. {NOTHING}")
    return Table(tuple(names), _rows(cells, tuple(names)))


def _fit(header: str, delimiter: str) -> tuple[bool, int]:
    """Return whether quotes stand only around whole names then, and how many names there are."""
    try:
        return True, len(next(csv.reader([header], delimiter=delimiter, strict=True)))
    except csv.Error:
        return False, len(next(csv.reader([header], delimiter=delimiter)))


def _first(source: Iterator[str]) -> tuple[int, str]:
    """Return how many blank lines come next, and the line after them ("" at the end)."""
    blank = 0
    for line in source:
        if line.strip():
            return blank, line
        blank += 1
    return blank, ""


def _between_blanks(header: str, source: Iterator[str]) -> tuple[str, Iterator[str], str]:
    """Turn names between blanks, and the rows unless they have tabs, into tabs and their like."""
    blank, row = _first(source)
    # The blank lines go back, since they count.
    source = itertools.chain(itertools.repeat("\n", blank), [row] if row else [], source)
    if "\t" not in row:
        source = ("\t".join(line.split()) + "\n" for line in source)
    return "\t".join(header.split()) + "\n", source, "\t"


class _End:
    """Follows the last line, and knows whether csv went on to it: then a quote is open."""

    reached = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.reached = True
        raise StopIteration


def _cells(
    source: Iterator[str], delimiter: str, line: int, shown: str
) -> Iterator[tuple[int, int, list[str]]]:
    """Yield first line, last line and cells of each row that is not blank."""
    end = _End()
    reader = csv.reader(itertools.chain(source, end), delimiter=delimiter)
    above = line - 1
    try:
        for row in reader:
            if end.reached:
                message = f"{shown}: the quote that opens on line {line} is never closed"
                raise BadInput(f"{message}; close or remove it. {NOTHING}")
            last = above + reader.line_num
            if row:
                yield line, last, row
            line = last + 1
    except csv.Error as error:
        message = f"{shown}, line {line}: {error} (a quote that is never closed?)"
        raise BadInput(f"{message}. {NOTHING}") from error


def _rows(cells: Iterator[tuple[int, int, list[str]]], names: tuple[str, ...]) -> Iterator[Row]:
    width = len(names)
    fields: tuple[int, dict[str, str], None]
    for line, last, row in cells:
        if len(row) > width:
            yield faulty(line, f"it has {len(row)} cells, and the header names {width}")
        elif len(row) < width and last > line:
            # Most likely two stray quotes and all that lies between them, rather than one row.
            fault = f"it goes on to line {last}, with {len(row)} cells of {width}: a stray quote?"
            yield faulty(line, fault)
        else:
            row.extend([""] * (width - len(row)))
            # Past the tuple's own constructor: this runs once for each row of a list.
            fields = (line, dict(zip(names, row, strict=True)), None)
            yield tuple.__new__(Row, fields)
