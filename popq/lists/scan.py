"""JSON of any length, scanned as a stream with the standard library's own decoder.

Not with ijson, which is no faster for rows (both read 430,000 a second) and harsher: for half a
surrogate pair, as a cut emoji leaves in a title, it raises or writes "?"; a NaN or an integer past
64 bits costs it the whole file, and 100,000 opening brackets all memory.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from popq.errors import BadInput
from popq.lists.files import NOTHING, Document
from popq.lists.lines import LONGEST, decoding

_CHUNK: Final = 1 << 16

_T = TypeVar("_T")

_blanks = re.compile(r"[ \t\n\r]*").match
#: A name, its colon and the blanks around: one match, since a file of columns has millions.
_named = re.compile(r'[ \t\n\r]*("[^"\\]*(?:\\.[^"\\]*)*")[ \t\n\r]*:[ \t\n\r]*').match
_decode: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().raw_decode


class Scanner:
    """A place in a text of JSON; `start` is what of it was already read."""

    def __init__(self, text: io.TextIOWrapper, document: Document, start: str = "") -> None:
        self._file = text
        self._document = document
        self._text = start
        self._at = 0

    def peek(self) -> str:
        """Return the next character that is no blank, or "" at the end."""
        while True:
            self._at = _after_blanks(self._text, self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._grow():
                return ""

    def take(self, mark: str) -> None:
        """Pass over a character; `BadInput` if it is not the next one."""
        if self.peek() != mark:
            raise self.broken(f"expected {mark!r}")
        self._at += 1

    def name(self) -> str:
        """Return the name of a member and pass over its colon; `BadInput` if there is none."""
        while True:
            try:
                found, self._at = _name(self._text, self._at)
            except ValueError as error:
                self._more(error)
            else:
                return found

    def items(self) -> Iterator[Any]:
        """Yield the items of the array that opens here; `BadInput` where it is no JSON or cut."""
        self.take("[")
        return self._each(_item, "]")

    def members(self) -> Iterator[tuple[str, Any]]:
        """Yield (name, value) of the object that opens here; `BadInput` as in `items`."""
        self.take("{")
        return self._each(_member, "}")

    def end(self) -> None:
        """Raise `BadInput` if anything follows."""
        if self.peek():
            raise self.broken("it goes on after its end")

    def broken(self, why: str) -> BadInput:
        """Return the error for text that is no JSON, or was cut."""
        message = f"{self._document.shown} is no valid JSON, or cut short: {why}"
        return BadInput(f"{message}. Fetch or write it again. {NOTHING}")

    def _each(self, read: Callable[[str, int], tuple[_T, int]], close: str) -> Iterator[_T]:
        if self.peek() == close:
            self._at += 1
            return
        count, mark = 0, ""
        while mark != close:
            text, mark = self._text, ""
            try:
                found, at = read(text, self._at)
                mark = text[at]
                if mark.isspace():
                    at = _after_blanks(text, at)
                    mark = text[at]
            except RecursionError:
                raise self.broken(f"item {count + 1:,} is nested too deeply") from None
            except (ValueError, IndexError) as error:
                self._more(error, f" after {count:,} items")
                continue
            if mark not in (",", close):
                # A number may only look whole, "1" of "1.5", where the text read so far ends.
                self._more(ValueError(f"expected ',' or {close!r}"), f" after {count:,} items")
                continue
            self._at = at + 1
            count += 1
            yield found

    def _more(self, error: Exception, where: str = "") -> None:
        """Read on after something that was not whole; `BadInput` if there is no more to read."""
        why = str(error)
        if isinstance(error, json.JSONDecodeError):
            why = error.msg  # its own text counts from where the rest of the file starts
        elif isinstance(error, IndexError):
            why = "it ends too soon"
        if len(self._text) - self._at > LONGEST or not self._grow():
            raise self.broken(f"{why}{where}") from error

    def _grow(self) -> bool:
        """Read more, twice as much each time nothing is whole yet; whether there was any."""
        rest = self._text[self._at :]
        with decoding(self._document):
            more = self._file.read(max(_CHUNK, len(rest)))
        self._text, self._at = rest + more, 0
        return bool(more)


def _after_blanks(text: str, at: int) -> int:
    found = _blanks(text, at)
    return at if found is None else found.end()


def _name(text: str, at: int) -> tuple[str, int]:
    found = _named(text, at)
    if found is None:
        raise ValueError("expected a name and ':'")
    name = found[1]
    return json.loads(name) if "\\" in name else name[1:-1], found.end()


def _member(text: str, at: int) -> tuple[tuple[str, Any], int]:
    name, at = _name(text, at)
    value, at = _decode(text, at)
    return (name, value), at


def _item(text: str, at: int) -> tuple[Any, int]:
    return _decode(text, _after_blanks(text, at))
