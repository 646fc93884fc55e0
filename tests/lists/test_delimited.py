from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popq.lists.files import Document
from popq.lists.tables import table


def read(data):
    """Return a table's columns and its rows as (line, values, is faulty)."""
    found = table(Document("a", io.BufferedReader(io.BytesIO(data)), "x/a"))
    return found.columns, [(line, dict(values), bool(f)) for line, values, f in found.rows]


@pytest.mark.parametrize(
    ("data", "columns", "rows"),
    [
        (b"url\n", ["url"], []),
        (b"url", ["url"], []),
        (b'url\na,b\n\n"c;d"\n', ["url"], [(2, ["a,b"]), (4, ["c;d"])]),
        (b"\n\nurl,n\r\n\r\na,1\r\n", ["url", "n"], [(5, ["a", "1"])]),
        (
            b"a,b,c\n1,2\n1\n,,\n",
            ["a", "b", "c"],
            [(2, ["1", "2", ""]), (3, ["1", "", ""]), (4, [""] * 3)],
        ),
        (b"a,b\n1,2,3\n1,2\n", ["a", "b"], [(2, None), (3, ["1", "2"])]),
        (b'a,b\n1,"x\ny"\n2,z\n', ["a", "b"], [(2, ["1", "x\ny"]), (4, ["2", "z"])]),
        (b'"a,b";c\n1;2\n', ["a,b", "c"], [(2, ["1", "2"])]),
        (b'a,b\n5" disk,say ""hi""\n', ["a", "b"], [(2, ['5" disk', 'say ""hi""'])]),
        (b"a,b\n1\x00,2\n", ["a", "b"], [(2, ["1\0", "2"])]),
        # Two stray quotes and the rows between them: no row of theirs is made up.
        (b'a,b\n1,"x\n2,y\n3,z"\n4,w\n', ["a", "b"], [(2, ["1", "x\n2,y\n3,z"]), (5, ["4", "w"])]),
        (
            b'a,b,c\n1,"x,1\n2,y",1\n"4,w,1\n5,v",1\n',
            ["a", "b", "c"],
            [(2, ["1", "x,1\n2,y", "1"]), (4, None)],
        ),
    ],
)
def test_text_is_read_by_its_header(data, columns, rows):
    found = read(data)
    expected = [
        (line, dict(zip(columns, row or (), strict=False)), row is None) for line, row in rows
    ]
    assert found == (tuple(columns), expected)


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        (b"pid uid url\n1\t2@N03\thttp://x/a b\n", [(2, "1", "2@N03", "http://x/a b")]),
        (b"pid\tuid\turl\n1\t2@N03\thttp://x\n", [(2, "1", "2@N03", "http://x")]),
        (
            b"pid uid  url \r\n\r\n1  2@N03 http://x\r\n4",
            [(3, "1", "2@N03", "http://x"), (4, "4", "", "")],
        ),
        (b"\npid uid url\n\n\n1\t\tx\n", [(5, "1", "", "x")]),
        (b"pid uid url\n", []),
    ],
)
def test_names_between_blanks_are_a_header(data, rows):
    columns = ("pid", "uid", "url")
    expected = [(line, dict(zip(columns, row, strict=True)), False) for line, *row in rows]
    assert read(data) == (columns, expected)


def test_a_word_too_many_between_blanks_is_a_fault():
    assert read(b"pid url\n1 a b\n2 c\n")[1] == [
        (2, {}, True),
        (3, {"pid": "2", "url": "c"}, False),
    ]


TEXT = st.text(st.characters(codec="utf-8"))
NAMES = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n\ufeff"), min_size=1).filter(
        lambda name: name.strip() and name.strip()[0] not in "[{"
    ),
    min_size=2,
    max_size=4,
    unique=True,
)


@given(st.data(), st.sampled_from("\t,;"), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_csv_is_read_back(data, delimiter, ending, bom):
    names = data.draw(NAMES)
    rows = data.draw(st.lists(st.lists(TEXT, min_size=len(names), max_size=len(names))))
    out = io.StringIO()
    dialect = {"delimiter": delimiter, "lineterminator": ending, "quoting": csv.QUOTE_ALL}
    csv.writer(out, **dialect).writerows([names, *rows])
    written = out.getvalue().encode()
    columns, found = read((b"\xef\xbb\xbf" if bom else b"") + written)
    assert columns == tuple(names)
    assert [list(row.values()) for _, row, _ in found] == rows
    assert not any(faulty for _, _, faulty in found)
