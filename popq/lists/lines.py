"""Text in UTF-8, line by line."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from popq.errors import BadInput
from popq.lists.files import NOTHING, Document, empty

#: Characters of the longest line, or JSON item, that is taken: it is held in memory whole.
LONGEST: Final = 1 << 22


def lines(document: Document) -> Iterator[tuple[int, str]]:
    r"""Yield (number from 1, text) of each line, without its ending and without a BOM.

    Lines end with \n, \r\n or \r. Blank lines that end the file are dropped; others are "". Raises
    `BadInput` for what is empty, no text in UTF-8, or holds a line that is too long.
    """
    blank = number = 0
    for number, line in enumerate(whole_lines(as_text(document), document), start=1):
        if "\0" in line:
            raise not_text(document)
        text = line.rstrip("\r\n")
        if not text.strip():
            blank += 1
            continue
        # Kept as a count, so that a file of nothing else needs no memory.
        yield from ((number - behind, "") for behind in range(blank, 0, -1))
        blank = 0
        yield number, text
    if blank == number:
        raise empty(document.shown)


def as_text(document: Document) -> io.TextIOWrapper:
    """Return the document as text whose line endings are kept; `BadInput` for UTF-16 and UTF-32."""
    if document.file.peek(4).startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        message = f"{document.shown} is text in UTF-16, as Excel's “Unicode text”"
        raise BadInput(f"{message}; save it as UTF-8. {NOTHING}")
    text = io.TextIOWrapper(document.file, encoding="utf-8-sig", newline="")
    # Else it would close the file, with a warning, as soon as its reader is done.
    return document.stack.enter_context(text)


def whole_lines(text: io.TextIOWrapper, document: Document, above: int = 0) -> Iterator[str]:
    """Yield lines with their endings, after `above` others.

    Raises `BadInput` for a line that is too long or no UTF-8.
    """
    number = above
    with decoding(document):
        while line := text.readline(LONGEST):
            number += 1
            if len(line) == LONGEST and not line.endswith(("\n", "\r")):
                message = f"{document.shown}: line {number} is longer than {LONGEST:,} characters"
                raise BadInput(f"{message}. Is it a list? {NOTHING}")
            yield line


@contextmanager
def decoding(document: Document) -> Iterator[None]:
    """Turn a `UnicodeDecodeError` into `BadInput`."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise not_text(document) from error


def not_text(document: Document) -> BadInput:
    """Return the error for bytes that are no text in UTF-8."""
    message = f"{document.shown} is no text in UTF-8 (a picture? an archive? a spreadsheet?)"
    return BadInput(f"{message}; save it as UTF-8 text or CSV. {NOTHING}")
