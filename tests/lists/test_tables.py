from __future__ import annotations

import csv
import gzip
import io
import json
import math
import subprocess
import sys
import zipfile
from contextlib import suppress
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet as pq

from popq.errors import BadInput, Misconfigured
from popq.lists.files import Document, open_one
from popq.lists.lines import LONGEST
from popq.lists.tables import table


def document(data):
    return Document("a", io.BufferedReader(io.BytesIO(data)), "x/a")


def read(data):
    """Return a table's columns and its rows as (line, values, is faulty)."""
    source = document(data)
    with source.stack:
        found = table(source)
        return found.columns, [(line, dict(values), bool(f)) for line, values, f in found.rows]


def values(data):
    """Return the rows' values; no row is faulty, and they count from 1."""
    _, rows = read(data)
    assert [line for line, _, _ in rows] == list(range(1, len(rows) + 1))
    assert not any(faulty for _, _, faulty in rows)
    return [found for _, found, _ in rows]


def as_csv(rows, **options):
    out = io.StringIO()
    csv.writer(out, **options).writerows(rows)
    return out.getvalue().encode()


def as_lines(rows, **options):
    return "".join(json.dumps(row, **options) + "\n" for row in rows).encode()


def as_array(rows, **options):
    return json.dumps(rows, **options).encode()


def as_columns(rows, **options):
    names = list(rows[0]) if rows else ["Uid"]
    columns = {name: {str(n): row[name] for n, row in enumerate(rows)} for name in names}
    return json.dumps(columns, **options).encode()


def as_column_lists(rows, **options):
    return json.dumps({name: [row[name] for row in rows] for name in rows[0]}, **options).encode()


def as_parquet(rows, **options):
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out, **options)
    return out.getvalue()


ROWS = [
    {"Uid": "59@N75", "Pid": "775", "Title": 'a, "b"\t; é 🐟'},
    {"Uid": "1", "Pid": "", "Title": " "},
]
SHAPES = {
    "csv": as_csv([list(ROWS[0])] + [list(row.values()) for row in ROWS]),
    "lines": as_lines(ROWS),
    "array": as_array(ROWS),
    "columns": as_columns(ROWS),
    "column lists": as_column_lists(ROWS),
    "parquet": as_parquet(ROWS),
}


def in_zip(data):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("x/inner", data)
    return out.getvalue()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, in_zip, lambda d: in_zip(gzip.compress(d))])
def test_every_shape_is_read_in_every_packing(tmp_path, shape, pack):
    path = tmp_path / "file"
    path.write_bytes(pack(SHAPES[shape]))
    with open_one(path) as source:
        found = table(source)
        assert [row.values for row in found.rows] == ROWS
        assert found.columns == (None if shape in {"lines", "array"} else ("Uid", "Pid", "Title"))


@pytest.mark.parametrize("shape", ["csv", "lines", "array", "columns", "column lists"])
def test_a_bom_and_blanks_before_it_are_no_part_of_a_table(shape):
    _, rows = read(b"\xef\xbb\xbf\n \n" + SHAPES[shape])
    assert [found for _, found, _ in rows] == ROWS


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_read_from_a_pipe(shape):
    script = (
        "from pathlib import Path; from popq.lists.files import open_one\n"
        "from popq.lists.tables import table\n"
        "with open_one(Path('-')) as source:\n"
        "    print(ascii([row.values for row in table(source).rows]))"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, input=SHAPES[shape], capture_output=True, check=True)
    assert done.stdout.decode().strip() == ascii(ROWS)


# What was written is read back.

TEXT = st.text(st.characters(codec="utf-8"))
VALUES = st.one_of(
    st.text(st.characters()),  # lone surrogates and NUL too
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False),
)
INDENT = st.sampled_from([{}, {"indent": 1}, {"separators": (",", ":")}, {"ensure_ascii": True}])


RECORDS = st.lists(st.dictionaries(st.text(st.characters()), VALUES | st.lists(VALUES)))


@given(RECORDS, INDENT)
def test_an_array_is_read_back(rows, options):
    assert values(as_array(rows, **options)) == rows


@given(RECORDS.filter(bool), st.booleans())
def test_lines_are_read_back(rows, sort):
    rows = [{**row, "Pid": "1"} for row in rows]
    assert values(as_lines(rows, sort_keys=sort)) == rows


@given(st.data(), INDENT, st.sampled_from([as_columns, as_column_lists]))
def test_columns_are_read_back(data, options, write):
    names = data.draw(st.lists(st.text(st.characters()), min_size=1, max_size=4, unique=True))
    rows = data.draw(st.lists(st.fixed_dictionaries(dict.fromkeys(names, VALUES)), min_size=1))
    written = write(rows, **options)
    assert read(written)[0] == tuple(rows[0])
    assert values(written) == rows


@given(st.data())
def test_parquet_is_read_back(data):
    record = {
        "Uid": TEXT | st.none(),
        "Pid": st.integers(-(2**63), 2**63 - 1) | st.none(),
        "Latitude": st.floats(allow_nan=False),
        "Ispublic": st.booleans(),
        "Alltags": st.lists(TEXT),
    }
    rows = data.draw(st.lists(st.fixed_dictionaries(record), min_size=1))
    written = as_parquet(rows, row_group_size=data.draw(st.integers(1, 5)))
    assert read(written)[0] == tuple(rows[0])
    assert values(written) == rows


@pytest.mark.parametrize("write", [as_array, as_columns, as_column_lists, as_lines, as_parquet])
def test_more_rows_than_are_held_at_a_time_keep_their_order(write):
    rows = [{"Uid": f"{n}@N00", "Pid": n, "Title": "é" * (n % 90)} for n in range(9000)]
    assert values(write(rows)) == rows


def test_an_item_longer_than_what_is_read_at_a_time_is_whole():
    rows = [{"Uid": "1", "Text": "é" * 300_000, "Number": 1.5}] * 3
    for write in (as_array, as_columns, as_lines):
        assert values(write(rows)) == rows


def test_numbers_are_whole_wherever_what_is_read_at_a_time_ends():
    for shift in range(12):
        data = b"[" + b" " * (65_530 + shift) + b'1.25e2, {"a": -0.5}]'
        _, rows = read(data)
        assert rows == [(1, {}, True), (2, {"a": -0.5}, False)]


def test_values_that_python_writes_beyond_json_are_read():
    for write in (as_array, as_lines, as_columns):
        (row,) = values(write([{"Pid": "1", "Latitude": math.nan, "Views": math.inf}]))
        assert math.isnan(row["Latitude"])
        assert row["Views"] == math.inf


def test_parquet_gives_python_objects():
    when = datetime(2015, 1, 2, tzinfo=UTC)
    assert values(as_parquet([{"Postdate": when, "User": {"id": 1}}])) == [
        {"Postdate": when, "User": {"id": 1}}
    ]


# Rows that cannot be read.


def test_lines_and_items_that_are_no_object_are_faults():
    lines = b'{"a": 1}\n[2]\n\n"x"\nnonsense\n{"a": 5}\n{"a": \n' + b'{"a":' * 5000
    assert [(line, found, faulty) for line, found, faulty in read(lines)[1]] == [
        (1, {"a": 1}, False),
        *((line, {}, True) for line in (2, 4, 5)),
        (6, {"a": 5}, False),
        (7, {}, True),
        (8, {}, True),
    ]
    items = b'[{"a": 1}, [2], "x", null, {}]'
    assert [faulty for _, _, faulty in read(items)[1]] == [False, True, True, True, False]


def test_a_faulty_row_says_what_it_is():
    for data, words in [
        (b"a,b\n1,2,3", "it has 3 cells, and the header names 2"),
        (b'{"a": 1}\n{"a"', "it is no JSON object, or cut short: '{\"a\"'"),
        (b'[["long"]]', "it is no JSON object: ['long']"),
    ]:
        *_, row = table(document(data)).rows
        assert row.fault == words


# Files that cannot be read.

COLUMNS = b'{"Uid": {"0": "a", "1": "b"}, "Pid": %s}'


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b" \n\n ", "is empty"),
        (b"\xef\xbb\xbf\n", "is empty"),
        (b"\n" * 200_000, "is empty"),
        ("url,größe\n".encode("latin-1"), "no text in UTF-8"),
        (b"url\n" * 9000 + "größe\n".encode("latin-1"), "no text in UTF-8"),
        ('[{"a": "é"}]'.encode("latin-1"), "no text in UTF-8"),
        ('{"a": "é"}\n'.encode("latin-1"), "no text in UTF-8"),
        (b'{"a": 1}\n' * 9000 + '{"a": "é"}\n'.encode("latin-1"), "no text in UTF-8"),
        ("url,n\n".encode("utf-16"), "UTF-16"),
        ('[{"a": 1}]'.encode("utf-16"), "UTF-16"),
        ('{"a": 1}'.encode("utf-16-le"), "is neither lines of one JSON object"),
        ("url,n\n".encode("utf-16-le"), "no text in UTF-8"),
        (b"a,b,a\n1,2,3\n", "more than one column 'a'"),
        (b'a,b\n1,2\n3,"4\n5,6\n', "the quote that opens on line 3 is never closed"),
        (b'"a,b\n1,2\n', "the quote that opens on line 1 is never closed"),
        (b'a,b\n1,2\n3,"' + b"4,5\n" * 50_000, "line 3: field larger than field limit"),
        (b"a,b\n" + b"x" * (LONGEST + 1), "line 2 is longer"),
        (b"[", "cut short: it ends too soon|cut short: Expecting value after 0 items"),
        (b'[{"a": 1}, {"a": 2}', "cut short: it ends too soon after 1 items"),
        (b'[{"a": 1} ', "cut short: it ends too soon after 0 items"),
        (b'[{"a": 1} {"a": 2}]', "expected ',' or ']' after 0 items"),
        (b'[{"a": 1}, {"a" 2}]', "Expecting ':' delimiter after 1 items"),
        (b'[{"a": 1},]', "Expecting value after 1 items"),
        (b'[{"a": 1}] x', "goes on after its end"),
        (b'[{"a": 1}][{"a": 1}]', "goes on after its end"),
        (b"[" * 200_000, "nested too deeply"),
        (b"[" + b"9" * 5000 + b"]", "Exceeds the limit"),
        (b'["' + b"x" * (3 * LONGEST), "Unterminated string"),
        (b'{"a": 1,\n"b": 2}', "is neither lines of one JSON object each nor columns"),
        (b"{not json\n" * 30, "is neither lines"),
        (COLUMNS % b'{"0": "a", "1": "b"', "cut short"),
        (COLUMNS % b'{"0": "a"}', "'Uid' and 'Pid' do not name the same rows"),
        (COLUMNS % b'{"1": "a", "0": "b"}', "'Uid' and 'Pid' do not name the same rows"),
        (COLUMNS % b'["a", "b"]', "'Uid' and 'Pid' do not name the same rows"),
        (COLUMNS % b'{"0": 1, "1": 2}, "Uid": {}', "names the column 'Uid' twice"),
        (b'{"Uid":\n{"0": 1}, "Pid": 5}', "'Pid' is no whole column"),
        (b'{"Uid": {"0": 1} "Pid": {"0": 1}}', "expected ','"),
        (b'{"Uid": {"0": 1},}', "neither|expected a name"),
        (b'{"Uid": {0: 1}}', "expected a name"),
        (as_columns([{"Uid": 1}]) + b" {", "goes on after its end"),
        (as_columns([{str(n): n for n in range(1001)}]), "holds rows by number"),
        (b"PAR1", "is Parquet that is damaged"),
        (as_parquet(ROWS)[:-1], "is Parquet that is damaged"),
    ],
)
def test_what_is_no_table_is_refused_in_words(data, words):
    with pytest.raises(BadInput, match=rf"(?s)^x/a.*({words}).*Nothing was imported\.$"):
        read(data)


@pytest.mark.parametrize("pattern", [b"[%s]", b'[{"a": %s}]', b'{"a": [%s]}', b'{"a": {"0": %s}}'])
def test_no_depth_of_nesting_raises_anything_else(pattern):
    for depth in range(850, 1000, 3):  # where Python's own limit is met, here or there
        with suppress(BadInput):
            assert len(read(pattern % (b"[" * depth + b"]" * depth))[1]) == 1


def test_parquet_whose_columns_share_a_name_is_refused():
    out = io.BytesIO()
    pq.write_table(pa.table([[1], [2]], names=["a", "a"]), out)
    with pytest.raises(BadInput, match="more than one column 'a'"):
        read(out.getvalue())


def test_parquet_without_pyarrow_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(Misconfigured, match=r"pip install 'popq\[parquet\]'"):
        read(SHAPES["parquet"])


def test_columns_that_nobody_reads_leave_nothing_open():
    source = document(SHAPES["columns"])
    with source.stack:
        table(source)  # a warning of a file left open is an error here


LONG = [{"Uid": f"{n}@N75", "Pid": str(n), "Title": 'a, "b"\né 🐟'} for n in range(30)]
#: Quoted throughout, as without quotes a cut last cell cannot be told from a whole one.
CUT = {
    "csv": as_csv([list(LONG[0])] + [list(row.values()) for row in LONG], quoting=csv.QUOTE_ALL),
    "lines": as_lines(LONG, ensure_ascii=False),
    "array": as_array(LONG, ensure_ascii=False),
    "columns": as_columns(LONG, ensure_ascii=False),
    "column lists": as_column_lists(LONG, indent=1),
    "parquet": as_parquet(LONG),
}


@given(st.sampled_from(sorted(CUT)), st.data())
def test_a_file_cut_at_any_byte_gives_no_row_that_was_not_written(shape, data):
    whole = CUT[shape]
    source = document(whole[: data.draw(st.integers(4, len(whole) - 1))])
    rows = []
    with suppress(BadInput), source.stack:
        rows.extend(table(source).rows)
    if shape == "csv" and rows and len(rows[-1].values) == len(LONG[0]):
        rows.pop()  # its last cells may be missing, since a row may end early
    whole_rows = [row.values for row in rows if row.fault is None]
    # A header that is cut leaves no rows; all but the last row are as they were written.
    assert whole_rows == LONG[: len(whole_rows)]
    assert len(rows) - len(whole_rows) <= 1


@given(st.sampled_from(sorted(CUT)), st.data())
def test_a_changed_byte_gives_rows_or_is_refused(shape, data):
    changed = bytearray(CUT[shape])
    place = data.draw(st.integers(0, len(changed) - 1))
    changed[place] = data.draw(st.integers(0, 255))
    source = document(bytes(changed))
    with suppress(BadInput), source.stack:
        assert all(row.line > 0 for row in table(source).rows)
