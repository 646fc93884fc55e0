"""Annotate: what metadata files and the columns of a table say of the photos of a list."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from popq.catalogue.imports import Refused
from popq.catalogue.metadata import Fact
from popq.errors import BadInput, BadLink, Outcome
from popq.flickr import coerce
from popq.lists.files import NOTHING, Document, opened
from popq.lists.tables import Row, Table

#: Rows that are staged at a time: memory stays flat whatever the file's length.
CHUNK: Final = 20_000
_TRAIN_OR_TEST = re.compile(r"(train|test)_")
_PANDAS_NUMBER = re.compile(r"[0-9]+\.0")
#: Longer than any uid or pid; the database's index takes no text of any length.
_LONGEST_NAME: Final = 200
#: How files write that there is nothing.
_NOTHING = frozenset({"", "none", "null", "nan"})

_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _tags(value: object) -> str | None:
    if isinstance(value, list):
        value = " ".join(filter(None, map(coerce.text, value)))
    return coerce.text(value)


def _whole(value: object) -> object:
    """Return pandas' `775.0` and `"775.0"` as what they were before a neighbour was missing."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and _PANDAS_NUMBER.fullmatch(bare := value.strip()):
        return bare.removesuffix(".0")
    return value


def _number(value: object) -> int | None:
    return coerce.whole_number(_whole(value))


def _posted(value: object) -> int | None:
    value = _whole(value)
    if isinstance(value, dt.datetime):
        value = value.isoformat()
    seconds = coerce.moment(value)
    if seconds is None and isinstance(value, str):
        try:
            when = dt.datetime.fromisoformat(value)
        except ValueError:
            return None
        when = when if when.tzinfo else when.replace(tzinfo=dt.UTC)
        seconds = coerce.moment(int(when.timestamp()))
    return seconds


def name(value: object) -> str | None:
    """Return a uid or pid as text: `775`, `"775"` and pandas' `775.0` are the same."""
    value = _whole(value)
    if _is_nothing(value):
        return None
    found = coerce.text(value)
    return None if found is None or len(found) > _LONGEST_NAME else found


#: A file's field, in lower case, to the column that it fills and how it is read.
_KNOWN: Final[dict[str, tuple[str, Callable[[object], Any]]]] = {
    "uid": ("uid", name),
    "owner": ("uid", name),
    "pid": ("pid", name),
    "title": ("title", coerce.text),
    "alltags": ("tags", _tags),
    "tags": ("tags", _tags),
    "views": ("views", _number),
    "postdate": ("posted_at", _posted),
    "posted_at": ("posted_at", _posted),
    "datetaken": ("taken_at", coerce.taken),
    "taken_at": ("taken_at", coerce.taken),
    "license": ("licence", _number),
    "licence": ("licence", _number),
}


def known(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a row says in columns of the catalogue, and the rest under its own names.

    A field that popq knows but cannot read stays with the rest. Empty fields (`"None"`, `nan`)
    are left out.
    """
    columns: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for field, value in values.items():
        if _is_nothing(value):
            continue
        column, read = _KNOWN.get(field.lower(), (None, None))
        said = None if read is None else read(value)
        if said is None:
            rest[field] = value
        else:
            columns[column or field] = said
    return columns, rest


def _is_nothing(value: object) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in _NOTHING if len(value) < 8 else not value.strip()  # noqa: PLR2004 - longer than each of them
    return value is None or (isinstance(value, float) and math.isnan(value))


def facts(
    rows: Table, bad: Refused, label_col: str | None, score: Callable[[object], float]
) -> Iterator[list[Fact]]:
    """Yield a file's rows in chunks; rows that say nothing of any photo are added to `bad`.

    With `label_col` only that column is read, by `score`, which raises `BadLink`.
    """
    while chunk := list(itertools.islice(rows.rows, CHUNK)):
        said = []
        for row in chunk:
            try:
                said.append(_fact(row) if label_col is None else _label(row, label_col, score))
            except BadLink as error:
                bad.add(error.outcome, 1, [(row.line, str(error))])
        yield said


def _fact(row: Row) -> Fact:
    columns, rest = _joinable(row)
    return Fact(line=row.line, data=_dumped(rest) if rest else None, **{"uid": None} | columns)


def _label(row: Row, label_col: str, score: Callable[[object], float]) -> Fact:
    columns, _ = _joinable(row)
    label = score(row.values.get(label_col))
    return Fact(line=row.line, uid=columns.get("uid"), pid=columns["pid"], label=label)


def _joinable(row: Row) -> tuple[dict[str, Any], dict[str, Any]]:
    if row.fault is not None:
        raise BadLink(row.fault, outcome=Outcome.BAD_ROW)
    columns, rest = known(row.values)
    if "pid" not in columns:
        message = "the row has no pid, so it belongs to no photo"
        raise BadLink(message, outcome=Outcome.NOT_JOINED)
    return columns, rest


def _dumped(rest: dict[str, Any]) -> str:
    try:
        text = _ENCODER.encode(rest)
        text.encode()
    except (TypeError, UnicodeEncodeError):
        text = _ENCODER.encode(_cleaned(json.loads(json.dumps(rest, default=str))))
    if "\\u0000" in text or "NaN" in text or "Infinity" in text:
        text = _ENCODER.encode(_cleaned(json.loads(text, parse_constant=_no_number)))
    return text


def _cleaned(value: Any) -> Any:
    """Return JSON that every database takes."""
    if isinstance(value, dict):
        return {coerce.clean(field): _cleaned(inner) for field, inner in value.items()}
    if isinstance(value, list):
        return [_cleaned(inner) for inner in value]
    return coerce.clean(value) if isinstance(value, str) else value


def _no_number(constant: str) -> None:
    del constant  # NaN and the infinities are no JSON


def kind(document: Document) -> str:
    """Return what a file is about, by its name: `train_category.json` is about `category`."""
    return coerce.clean(_TRAIN_OR_TEST.sub("", document.name.partition(".")[0], count=1))


def documents(
    paths: Iterable[Path], held: Mapping[Path, list[Document]] = MappingProxyType({})
) -> Iterator[tuple[str, Document]]:
    """Yield each metadata file with its kind; a folder or a zip gives its `.json` files.

    `held` are the documents of paths that are open already, and stay so.
    Raises `BadInput` for a file that cannot be read, a folder without any, and for two files of
    one kind, since only one can be kept.
    """
    seen: dict[str, str] = {}
    for path in _unfolded(paths):
        with nullcontext(held[path]) if path in held else opened(path) as inside:
            found = inside
            if len(inside) > 1:
                found = [one for one in inside if one.name.lower().endswith(".json")]
            if not found:
                message = f"{path} holds several files, and none of them is .json"
                raise BadInput(f"{message}; name the metadata files one by one. {NOTHING}")
            for document in found:
                about = kind(document)
                if about in seen:
                    message = f"{document.shown} and {seen[about]} are both about {about!r}"
                    raise BadInput(f"{message}: import them one by one. Nothing was imported.")
                seen[about] = document.shown
                yield about, document


def _unfolded(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        inside = sorted(
            file
            for file in path.iterdir()
            if file.name.lower().endswith((".json", ".json.gz")) and not file.name.startswith(".")
        )
        if not inside:
            message = f"The folder {path} has no .json file"
            raise BadInput(f"{message}; name the metadata files. Nothing was imported.")
        yield from inside
