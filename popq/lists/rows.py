"""What every table comes to, whatever its shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple

#: The values of a row that cannot be read.
_NONE: Final[Mapping[str, Any]] = MappingProxyType({})


class Row(NamedTuple):
    """One row: where it stands, and its values by column.

    `line` counts from 1: the row's first line in a text, its place in JSON and Parquet. A row that
    cannot be read has no values and a `fault` in words.
    """

    line: int
    values: Mapping[str, Any]
    fault: str | None = None


@dataclass(slots=True)
class Table:
    """Rows, read as they are asked for; `columns` is None where each row may have its own."""

    columns: tuple[str, ...] | None
    rows: Iterator[Row]


def faulty(line: int, fault: str) -> Row:
    """Return a row that cannot be read."""
    return Row(line, _NONE, fault)


def repeated(names: list[str]) -> str | None:
    """Return the first name that stands there twice, if any."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
