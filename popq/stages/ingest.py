"""Ingest: read a list of photo links and scores, and merge it into the catalogue whole."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from popq.catalogue import imports, metadata
from popq.catalogue.db import Catalogue, Tx
from popq.catalogue.imports import IncomingPhoto, Refused
from popq.catalogue.metadata import Notes
from popq.errors import BadInput, BadLink, Outcome
from popq.flickr.urls import image_url, page_url, parse
from popq.lists.files import NOTHING, STDIN, Document, Tell, is_pipe, open_one, opened
from popq.lists.lines import lines
from popq.lists.paths import Folder
from popq.lists.tables import Table, is_table, table, with_columns
from popq.stages import annotate

#: Further from zero than any count of views, or any logarithm of one.
BIGGEST_LABEL: Final = 1e12
_COMMA_DECIMAL = re.compile(r"\s*[+-]?[0-9]+,[0-9]+\s*")


@dataclass(frozen=True, slots=True)
class Rejection:
    """One row that was not taken: its file and line (from 1), the reason, the reason in words."""

    file: str
    line: int
    reason: Outcome
    message: str


@dataclass(slots=True)
class FileReport:
    """What one file about the list's photos came to; read = joined + rejected."""

    read: int = 0
    joined: int = 0
    rejected: int = 0


@dataclass(slots=True)
class Report:
    """What an import came to: read = new + updated + unchanged + rejected.

    `unlabelled` of the photos that were taken have no score, and `early` have a Flickr id so low
    that it may be a data set's own number (`imports.EARLY_IDS`). `metadata` has every other file
    that was joined, by what it is about; `noted` counts their remarks that are new or changed.
    `reasons` counts the rejected rows of all files; `rejections` holds the first 1,000 of each.
    """

    read: int = 0
    new: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: int = 0
    unlabelled: int = 0
    early: int = 0
    noted: int = 0
    dry_run: bool = False
    metadata: dict[str, FileReport] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    rejections: list[Rejection] = field(default_factory=list)

    def reject(self, file: str, refused: Refused) -> None:
        """Count the refused rows of a file, and keep those that are to be shown."""
        for reason, rows in refused.counts.items():
            self.reasons[reason] = self.reasons.get(reason, 0) + rows
        self.rejections += [Rejection(file, *shown) for shown in refused.first]


@dataclass(frozen=True, slots=True)
class Source:
    """Where the links and labels are; each file may be packed, and `links` may be `STDIN`.

    Without `url_col`: one link a line in `links`, one label a line in `labels` if given, in the
    same order. With it: a table (CSV, TSV, JSON or Parquet) with named columns; `labels` is then a
    table too, joined by uid and pid. With `images_dir`, `links` has paths of files in that folder
    instead of links. `metadata` are files about the photos, joined by uid and pid.
    """

    links: Path
    labels: Path | None = None
    url_col: str | None = None
    label_col: str | None = None
    images_dir: Path | None = None
    metadata: tuple[Path, ...] = ()


class _Row(NamedTuple):
    """One row of a list as it stands in the file; `remarks` are the table's other columns."""

    line: int
    text: str
    label: object = None
    remarks: dict[str, Any] | None = None
    fault: str | None = None


class _AtHand(NamedTuple):
    """A source whose pipes are on disk: its rows, its table of labels, its metadata in pipes."""

    rows: Iterator[_Row]
    labels: Document | None
    pipes: dict[Path, list[Document]]


def ingest(
    catalogue: Catalogue,
    source: Source,
    *,
    image_base: str,
    image_size: str,
    strict: bool = False,
    dry_run: bool = False,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Report:
    """Import a list in one transaction and say what it changed.

    `on_progress` is told of the phase and of the rows that are read, or before of the bytes of a
    pipe; how many there are to read is not known (0).

    A second import of the same list changes nothing; with `dry_run` none does. Image URLs in the
    list are taken as resolved. Raises `BadInput`, with nothing imported, for a file that cannot be
    read, for unequal counts of links and labels, for a list without a single photo, for a file
    about photos that names none of the list's, and with `strict` for any rejected row.
    """
    report = Report(dry_run=dry_run)
    tell = on_progress or _untold
    with ExitStack() as files:
        # Before the transaction, since a pipe is copied as it is opened: on SQLite nobody else may
        # write until the transaction is over, and workers would lose their leases.
        at_hand = _open(source, files, tell)
        with catalogue.begin() as tx:
            _take(tx, source, at_hand, report, (image_base, image_size), tell)
            _check(report, source, strict=strict)
            if dry_run:
                tx.rollback()
    report.rejections.sort(key=lambda rejection: (rejection.file, rejection.line))
    return report


def check_readable(source: Source) -> None:
    """Raise `BadInput` unless the source's files can be opened, standard input being but one.

    A pipe is left alone: what is read from it to look at it would be lost.
    """
    paths = [path for path in (source.links, source.labels, *source.metadata) if path is not None]
    if paths.count(STDIN) > 1:
        message = "Only one of the list, its labels and its metadata can be standard input (-)"
        raise BadInput(f"{message}; name files for the others. Nothing was imported.")
    for path in (source.links, source.labels):
        if path is not None and not is_pipe(path):
            with open_one(path):
                pass
    for _ in annotate.documents(path for path in source.metadata if not is_pipe(path)):
        pass
    if source.images_dir is not None:
        Folder(source.images_dir)


def _untold(phase: str, done: int, total: int) -> None:
    """Take progress and tell nobody."""


def _take(
    tx: Tx,
    source: Source,
    at_hand: _AtHand,
    report: Report,
    base: tuple[str, str],
    tell: Tell,
) -> None:
    """Stage the list, join the other files to it, and merge it."""
    folder = None if source.images_dir is None else Folder(source.images_dir)
    bad = Refused()
    with imports.incoming(tx, files=folder is not None) as incoming:
        while chunk := list(itertools.islice(at_hand.rows, annotate.CHUNK)):
            report.read += len(chunk)
            incoming.stage(list(_parsed(chunk, folder, base, bad)))
            tell("rows read", report.read, 0)
        with metadata.notes(tx, incoming) as notes:
            if at_hand.labels is not None:
                _join(notes, at_hand.labels, "labels", source.label_col, report)
            tell("merging", 0, 0)
            incoming.settle()
            for kind, document in annotate.documents(source.metadata, at_hand.pipes):
                _join(notes, document, kind, None, report)
            merged = incoming.merge()
            report.noted = notes.write()
    report.new, report.updated, report.unchanged = merged.new, merged.updated, merged.unchanged
    report.unlabelled, report.early = merged.unlabelled, merged.early
    report.rejected = bad.counts.total() + merged.refused.counts.total()
    for refused in (bad, merged.refused):
        report.reject(str(source.links), refused)


def _join(
    notes: Notes, document: Document, kind: str, label_col: str | None, report: Report
) -> None:
    """Join one file about photos to the staged list: its labels, or else all other columns."""
    bad = Refused()
    rows = table(document)
    if label_col is not None:
        rows.rows = with_columns(rows, document, label_col)
    with notes.facts() as facts:
        for said in annotate.facts(rows, bad, label_col, score):
            facts.stage(said)
        joined = facts.give_remarks(kind) if label_col is None else facts.give_labels()
    done = FileReport(joined.read + bad.counts.total(), joined.joined)
    done.rejected = done.read - done.joined
    if not joined.joined:
        first = (bad.first + joined.refused.first)[:1]
        why = f" (line {first[0][0]}: {first[0][2]})" if first else ""
        message = f"{document.shown}: none of its {done.read} rows is about a photo of the list"
        raise BadInput(f"{message}{why}. Does it belong to this list? Nothing was imported.")
    report.metadata[kind] = done
    for refused in (bad, joined.refused):
        report.reject(document.shown, refused)


def _check(report: Report, source: Source, *, strict: bool) -> None:
    """Raise, and so roll back, when nothing was taken or nothing may be refused."""
    shown = sorted(report.rejections, key=lambda rejection: rejection.line)
    first = shown[0] if shown else None
    if report.new + report.updated + report.unchanged == 0:
        what = f"{source.links} holds no photo that can be imported ({report.read} rows read"
        why = f"; line {first.line}: {first.message})" if first else ")"
        # A CSV or TSV may also be lines of links, so nobody could tell before.
        lines = source.url_col is None and source.images_dir is None
        table = " If it is a table, --url-col names its column of links." if lines else ""
        raise BadInput(f"{what}{why}.{table} {NOTHING}")
    rejected = sum(report.reasons.values())
    if strict and rejected:
        rows = "\n".join(f"{r.file}, line {r.line}: {r.message}" for r in shown[:20])
        more = f"\n… and {rejected - 20} more" if rejected > 20 else ""  # noqa: PLR2004
        raise BadInput(f"{rejected} rows are rejected; nothing imported.\n{rows}{more}")


def _parsed(
    rows: list[_Row], folder: Folder | None, base: tuple[str, str], bad: Refused
) -> Iterator[IncomingPhoto]:
    for row in rows:
        try:
            photo = _photo(row, base) if folder is None else _file(row, folder)
        except BadLink as error:
            bad.add(error.outcome, 1, [(row.line, str(error))])
            continue
        yield photo if not row.remarks else _remarked(photo, row.remarks)


def _photo(row: _Row, base: tuple[str, str]) -> IncomingPhoto:
    if row.fault is not None:
        raise BadLink(row.fault, outcome=Outcome.BAD_ROW)
    if row.text.startswith('"') and not row.text.rstrip().endswith('"'):
        # What is left of a number would be another photo's.
        message = f"{row.text[:80]!r} opens a quote and does not close it: is the file cut short?"
        raise BadLink(message, outcome=Outcome.BAD_ROW)
    link = parse(row.text)
    label = None if row.label is None else score(row.label)
    flickr_id, owner = link.flickr_id, link.owner
    found = None
    if link.server is not None and link.secret is not None:
        found = image_url(base[0], link.server, flickr_id, link.secret, base[1])
    url = page_url(flickr_id, owner)
    uid = owner if owner is not None and "@" in owner else None  # a path alias is nobody's uid
    # Past the tuple's own constructor, as in `parse`: this runs once for each row of a list.
    fields = (row.line, flickr_id, None, url, owner, label, link.server, link.secret, found)
    known = (uid, str(flickr_id), None, None, None, None, None, None)
    return tuple.__new__(IncomingPhoto, fields + known)


def _file(row: _Row, folder: Folder) -> IncomingPhoto:
    if row.fault is not None:
        raise BadLink(row.fault, outcome=Outcome.BAD_ROW)
    file = folder.find(row.text)
    return IncomingPhoto(
        line=row.line,
        flickr_id=None,
        source_key=file.key,
        page_url=file.key,
        owner=file.uid,
        label=None if row.label is None else score(row.label),
        server=None,
        secret=None,
        image_url=file.url,
        uid=file.uid,
        pid=file.pid,
    )


def _remarked(photo: IncomingPhoto, remarks: dict[str, Any]) -> IncomingPhoto:
    """Add what the table's other columns say; a link knows its owner better than they do."""
    said, _ = annotate.known(remarks)
    uid = said.pop("uid", None)
    if "pid" in said:
        said["uid"] = uid
    # A path alias and an NSID of one person must not count as two.
    alias = photo.owner is None or ("@" not in photo.owner and uid is not None and "@" in uid)
    return photo._replace(owner=uid if alias else photo.owner, **said)


def score(value: object) -> float:
    """Read a label: a number, or a text of one, with a decimal point or comma.

    Raises `BadLink` (bad_label) for what is no finite number or beyond `BIGGEST_LABEL`.
    """
    text = str(value)
    if _COMMA_DECIMAL.fullmatch(text):
        text = text.replace(",", ".")
    try:
        number = float(text)
    except ValueError:
        _bad_label(text)
    if not math.isfinite(number) or "_" in text:  # Python takes 1_000 for a number
        _bad_label(text)
    if abs(number) > BIGGEST_LABEL:
        message = f"the label {text.strip()[:40]!r} is beyond any count of views"
        raise BadLink(message, outcome=Outcome.BAD_LABEL)
    return number


def _bad_label(text: str) -> NoReturn:
    shown = text.strip()[:40]
    raise BadLink(f"the label {shown!r} is no finite number", outcome=Outcome.BAD_LABEL)


def _open(source: Source, files: ExitStack, tell: Tell) -> _AtHand:
    """Open the list and its labels, and what else comes through a pipe."""
    if source.url_col is None and source.label_col is not None:
        raise BadInput("--label-col names a column of a table; --url-col must name one too.")
    if source.url_col is not None and source.labels is not None and source.label_col is None:
        message = "--labels is a table here, like the list: --label-col must name its column"
        raise BadInput(f"{message} of scores.")
    links = files.enter_context(open_one(source.links, tell))
    labels = None
    if source.labels is not None:
        labels = files.enter_context(open_one(source.labels, tell))
    pipes = {
        path: files.enter_context(opened(path, tell)) for path in source.metadata if is_pipe(path)
    }
    rows = _rows(source, links, labels)
    return _AtHand(rows, None if source.url_col is None else labels, pipes)


def _rows(source: Source, links: Document, labels: Document | None) -> Iterator[_Row]:
    """Return the list's rows."""
    if source.url_col is not None:
        return _table_rows(table(links), links, source)
    if is_table(links):
        message = f"{links.shown} is a table: --url-col must name its column of links"
        raise BadInput(f"{message}, and --label-col that of scores. {NOTHING}")
    if labels is None:
        return (_Row(line, text) for line, text in lines(links))
    return _paired(lines(links), lines(labels), source)


def _paired(
    ours: Iterator[tuple[int, str]], theirs: Iterator[tuple[int, str]], source: Source
) -> Iterator[_Row]:
    """Yield links with their labels; after the last row, raise unless there are as many of each."""
    for one, other in itertools.zip_longest(ours, theirs):
        if one is None or other is None:
            longer = (one or other)[0] + sum(1 for _ in (theirs if one is None else ours))
            shorter = (one or other)[0] - 1
            counts = (shorter, longer) if one is None else (longer, shorter)
            raise BadInput(
                f"{source.links} has {counts[0]} rows and {source.labels} has {counts[1]}: the"
                " two must match row by row. Nothing was imported."
            )
        yield _Row(one[0], one[1], other[1])


def _table_rows(rows: Table, document: Document, source: Source) -> Iterator[_Row]:
    url_col = str(source.url_col)
    label_col = None if source.labels is not None else source.label_col
    for row in with_columns(rows, document, url_col, label_col):
        rest = dict(row.values)
        text, label = rest.pop(url_col, None), None
        if label_col is not None:
            label = rest.pop(label_col, None)
            label = "" if label is None else label  # a score that is missing, not one not asked for
        yield _Row(row.line, "" if text is None else str(text), label, rest, row.fault)
