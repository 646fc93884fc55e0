"""Ingest: read a list of photo links and scores, and merge it into the catalogue whole."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn, TextIO

from popq.catalogue import imports
from popq.catalogue.db import Catalogue
from popq.catalogue.imports import IncomingPhoto
from popq.errors import BadInput, BadLink, Outcome
from popq.flickr.urls import image_url, page_url, parse

#: Rows that are parsed and staged at a time: memory stays flat whatever the list's length.
CHUNK: Final = 20_000
#: Rejected rows that are kept to be shown; all are counted.
KEPT: Final = 1_000
#: Bytes looked at to tell a list from a picture or an archive.
_LOOK: Final = 8192


@dataclass(frozen=True, slots=True)
class Rejection:
    """One row that was not taken: its line number (from 1), the reason, and the reason in words."""

    line: int
    reason: Outcome
    message: str


@dataclass(slots=True)
class Report:
    """What an import came to: read = new + updated + unchanged + rejected.

    `reasons` counts all rejected rows; `rejections` holds the first `KEPT` of them.
    """

    read: int = 0
    new: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    rejections: list[Rejection] = field(default_factory=list)

    def reject(self, line: int, reason: Outcome, message: str) -> None:
        """Count one refused row, and keep it if there is room."""
        self.rejected += 1
        self.reasons[reason] = self.reasons.get(reason, 0) + 1
        if len(self.rejections) < KEPT:
            self.rejections.append(Rejection(line, reason, message))


@dataclass(frozen=True, slots=True)
class Source:
    """Where the links and labels are.

    Without `url_col`: one link a line in `links`, one label a line in `labels` if given, in the
    same order. With it: a table (CSV or TSV, by the delimiter of its header) with named columns.
    """

    links: Path
    labels: Path | None = None
    url_col: str | None = None
    label_col: str | None = None


def ingest(
    catalogue: Catalogue, source: Source, *, image_base: str, image_size: str, strict: bool = False
) -> Report:
    """Import a list in one transaction and say what it changed.

    A second import of the same list changes nothing. Image URLs in the list are taken as resolved.
    Raises `BadInput`, with nothing imported, for a file that cannot be read as a list, for unequal
    counts of links and labels, for a list without a single photo, and with `strict` for any
    rejected row.
    """
    report = Report()
    base = (image_base, image_size)
    with ExitStack() as files:
        rows = _rows(source, files)
        with catalogue.begin() as tx:
            merged = imports.merge(tx, _parsed(rows, report, base))
            for line, reason, message in merged.refused:
                report.reject(line, reason, message)
            report.new, report.updated = merged.new, merged.updated
            report.unchanged = merged.unchanged
            _check(report, source, strict=strict)
    report.rejections.sort(key=lambda rejection: rejection.line)
    return report


def check_readable(source: Source) -> None:
    """Raise `BadInput` unless the source's files can be opened as lists."""
    for path in (source.links, source.labels):
        if path is not None:
            _open(path).close()


def _check(report: Report, source: Source, *, strict: bool) -> None:
    """Raise, and so roll back, when nothing was taken or nothing may be refused."""
    first = report.rejections[0] if report.rejections else None
    if report.new + report.updated + report.unchanged == 0:
        what = f"{source.links} holds no photo that can be imported ({report.read} rows read"
        why = f"; line {first.line}: {first.message})" if first else ")"
        raise BadInput(f"{what}{why}. Nothing was imported.")
    if strict and first is not None:
        rows = "\n".join(f"line {r.line}: {r.message}" for r in report.rejections[:20])
        more = f"\n… and {report.rejected - 20} more" if report.rejected > 20 else ""  # noqa: PLR2004
        raise BadInput(f"{report.rejected} rows are rejected; nothing imported.\n{rows}{more}")


def _parsed(
    rows: Iterator[tuple[int, str, str | None]], report: Report, base: tuple[str, str]
) -> Iterator[list[IncomingPhoto]]:
    while chunk := list(itertools.islice(rows, CHUNK)):
        taken = []
        for line, text, label in chunk:
            try:
                taken.append(_photo(line, text, label, base))
            except BadLink as error:
                report.reject(line, error.outcome, str(error))
        report.read += len(chunk)
        yield taken


def _photo(line: int, text: str, label: str | None, base: tuple[str, str]) -> IncomingPhoto:
    link = parse(text)
    score = None if label is None else _score(label)
    found = None
    if link.server is not None and link.secret is not None:
        found = image_url(base[0], link.server, link.flickr_id, link.secret, base[1])
    url = page_url(link.flickr_id, link.owner)
    # Past the tuple's own constructor, as in `parse`: this runs once for each row of a list.
    fields = (line, link.flickr_id, url, link.owner, score, link.server, link.secret, found)
    return tuple.__new__(IncomingPhoto, fields)


def _score(text: str) -> float:
    try:
        score = float(text)
    except ValueError:
        _bad_label(text)
    if not math.isfinite(score) or "_" in text:  # Python takes 1_000 for a number
        _bad_label(text)
    return score


def _bad_label(text: str) -> NoReturn:
    shown = text.strip()[:40]
    raise BadLink(f"the label {shown!r} is no finite number", outcome=Outcome.BAD_LABEL)


def _rows(source: Source, files: ExitStack) -> Iterator[tuple[int, str, str | None]]:
    """Yield (line, link, label or None) of each row."""
    links = files.enter_context(_open(source.links))
    if source.url_col is not None:
        if source.labels is not None:
            raise BadInput("Give either --labels FILE or --label-col NAME, not both.")
        return _table(links, source)
    if source.label_col is not None:
        raise BadInput("--label-col names a column of a table; --url-col must name one too.")
    if source.labels is None:
        return ((line, text, None) for line, text in _lines(links, source.links))
    labels = files.enter_context(_open(source.labels))
    return _paired(source, links, labels)


def _paired(source: Source, links: TextIO, labels: TextIO) -> Iterator[tuple[int, str, str]]:
    """Yield links with their labels; after the last row, raise unless there are as many of each."""
    ours = _lines(links, source.links)
    theirs = _lines(labels, source.labels or source.links)
    for one, other in itertools.zip_longest(ours, theirs):
        if one is None or other is None:
            longer = (one or other)[0] + sum(1 for _ in (theirs if one is None else ours))
            shorter = (one or other)[0] - 1
            counts = (shorter, longer) if one is None else (longer, shorter)
            raise BadInput(
                f"{source.links} has {counts[0]} rows and {source.labels} has {counts[1]}: the"
                " two must match row by row. Nothing was imported."
            )
        yield one[0], one[1], other[1]


def _lines(file: TextIO, path: Path) -> Iterator[tuple[int, str]]:
    """Yield numbered lines, without the blank ones that end the file."""
    blank: list[tuple[int, str]] = []
    try:
        for number, line in enumerate(file, start=1):
            text = line.rstrip("\r\n")
            if not text.strip():
                blank.append((number, text))
                continue
            if blank:
                yield from blank
                blank = []
            yield number, text
    except UnicodeDecodeError as error:
        raise _not_text(path) from error


def _table(file: TextIO, source: Source) -> Iterator[tuple[int, str, str | None]]:
    path = source.links
    try:
        header = file.readline()
    except UnicodeDecodeError as error:
        raise _not_text(path) from error
    if not header.strip():
        raise BadInput(f"{path} is empty: no header, no rows. Nothing was imported.")
    delimiter = max("\t,;", key=header.count)
    names = next(csv.reader([header], delimiter=delimiter))
    wanted = [name for name in (source.url_col, source.label_col) if name is not None]
    for name in wanted:
        if name not in names:
            there = ", ".join(names)[:200]
            raise BadInput(f"{path} has no column {name!r}; its columns are: {there}.")
    reader = csv.reader(file, delimiter=delimiter)
    places = [names.index(name) for name in wanted]

    def cell(row: list[str], place: int) -> str:
        return row[place] if place < len(row) else ""

    try:
        for row in reader:
            if row:
                label = cell(row, places[1]) if source.label_col is not None else None
                yield reader.line_num + 1, cell(row, places[0]), label
    except UnicodeDecodeError as error:
        raise _not_text(path) from error
    except csv.Error as error:
        line = reader.line_num + 1
        raise BadInput(f"{path}, line {line}: {error}. Nothing was imported.") from error


def _open(path: Path) -> Any:
    """Open a list as text; `BadInput` when there is none to open."""
    try:
        with path.open("rb") as file:
            start = file.read(_LOOK)
    except IsADirectoryError:
        raise BadInput(f"{path} is a directory; name the list's file.") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}. Is the path right?") from None
    if not start.strip():
        raise BadInput(f"{path} is empty. Nothing was imported.")
    if b"\0" in start:
        raise _not_text(path)
    return path.open(encoding="utf-8-sig", newline="")


def _not_text(path: Path) -> BadInput:
    message = f"{path} is no text in UTF-8 (a picture? an archive? a spreadsheet?)"
    return BadInput(f"{message}; save the list as plain text or CSV. Nothing was imported.")
