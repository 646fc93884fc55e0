"""Tables as CSV: what was written is what is read."""

from __future__ import annotations

import csv
import io

from popq.export import tables


def test_a_cell_with_any_end_of_a_line_is_read_as_it_was_written():
    rows = [["a\rb", "c"], ["d\ne", "f\r\n"], ["g", ""]]
    out = io.StringIO(newline="")
    assert tables.write_csv(out, ["one", "two"], [rows]) == 3
    written = out.getvalue()
    assert list(csv.reader(io.StringIO(written, newline=""))) == [["one", "two"], *rows]
    assert written.startswith("one,two\n")
    assert written.endswith("g,\n")
