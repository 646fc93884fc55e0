from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popq.errors import BadInput
from popq.lists.files import Document
from popq.lists.lines import LONGEST, lines


def read(data):
    return list(lines(Document("a.txt", io.BufferedReader(io.BytesIO(data)), "x/a.txt")))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"one", [(1, "one")]),
        (b"one\ntwo\n", [(1, "one"), (2, "two")]),
        (b"one\r\ntwo\rthree\n", [(1, "one"), (2, "two"), (3, "three")]),
        (b"\xef\xbb\xbfone\n", [(1, "one")]),
        (b"one\n\n \t\ntwo\n\n \n", [(1, "one"), (2, ""), (3, ""), (4, "two")]),
        (b"\none", [(1, ""), (2, "one")]),
        ('"é", 🐟 \n'.encode(), [(1, '"é", 🐟 ')]),
        (b"a\x0bb\xe2\x80\xa8c\n", [(1, "a\x0bb\u2028c")]),
    ],
)
def test_lines_are_numbered_and_bare(data, expected):
    assert read(data) == expected


@given(st.lists(st.text(st.characters(exclude_characters="\0\r\n", codec="utf-8")), min_size=1))
def test_what_was_written_is_read_back(written):
    written = [text.strip() and text for text in written] + ["end"]
    for ending in ("\n", "\r\n", "\r"):
        text = ending.join(written).removeprefix("\ufeff")
        expected = [(n, line) for n, line in enumerate(text.split(ending), start=1)]
        assert read(b"\xef\xbb\xbf" + text.encode()) == expected


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\n \r\n\t\n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        ("déjà vu\n".encode("latin-1"), "no text in UTF-8"),
        (b"fine\n" * 5000 + b"\xff\n", "no text in UTF-8"),
        (b"fine\n" * 5000 + b"a\0b\n", "no text in UTF-8"),
        ("one\n".encode("utf-16"), "text in UTF-16"),
        ("\ufeffone\n".encode("utf-16-be"), "text in UTF-16"),
        ("one\n".encode("utf-16-le"), "no text in UTF-8"),
        (b"\x89PNG\r\n\x1a\n\0\0", "no text in UTF-8"),
        (b"one\n" + b"x" * (LONGEST + 1), "line 2 is longer"),
    ],
)
def test_what_is_no_text_is_refused_in_words(data, words):
    with pytest.raises(BadInput, match=rf"^x/a\.txt.*{words}.*Nothing was imported\.$"):
        read(data)
