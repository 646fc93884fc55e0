"""Values as Flickr writes them, in its answers and in files made of them, as Python values.

Types are not stable: a number comes as a number or as text, a text bare or in `_content`
(FLICKR.md 1.2). What cannot be read is None, never an error: it is a remark about a photo.
"""

from __future__ import annotations

import html
import re
from contextlib import suppress

_MAX_INT = 2**63 - 1  # of the catalogue's columns
_LAST_SECOND = 253_402_300_799  # of the year 9999, the last that databases know
_WHOLE_NUMBER = re.compile(r"[0-9]{1,19}")


def text(value: object) -> str | None:
    """Text of a member, as `{"_content": ...}` or bare; None where empty.

    Entities are resolved; see `clean` for what else changes.
    """
    if isinstance(value, dict):
        value = value.get("_content")
    if isinstance(value, int):
        value = str(value)
    if not isinstance(value, str):
        return None
    with suppress(ValueError):  # a character's number of thousands of digits
        value = html.unescape(value)
    return clean(value).strip() or None


def clean(value: str) -> str:
    """Text that every database and file takes: no NUL, no half of a surrogate pair."""
    return value.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def whole_number(value: object) -> int | None:
    """Non-negative whole number of 64 bits, sent as a number or as text; None for all else."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if 0 <= value <= _MAX_INT else ""
    if not isinstance(value, str) or not _WHOLE_NUMBER.fullmatch(value):
        return None
    number = int(value)
    return number if number <= _MAX_INT else None


def moment(value: object) -> int | None:
    """Unix seconds up to the year 9999, sent as a number or as text; None for all else."""
    seconds = whole_number(value)
    return None if seconds is None or seconds > _LAST_SECOND else seconds


def taken(value: object) -> str | None:
    """When a photo was taken, local time as Flickr writes it; None for its zero dates."""
    when = text(value)
    return None if when is None or when.startswith("0000") else when
