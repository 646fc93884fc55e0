from __future__ import annotations

import pytest

from popq.cli import show


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "0 s"),
        (0.4, "0 s"),
        (42.4, "42 s"),
        (60, "1 min"),
        (125, "2 min 5 s"),
        (3599.7, "1 h"),
        (3605, "1 h"),
        (16000, "4 h 26 min"),
        (1e6, "11 d 13 h"),
        (1e9, "11,574 d 1 h"),
    ],
)
def test_a_length_of_time_is_told_in_its_two_largest_units(seconds, words):
    assert show.duration(seconds) == words


@pytest.mark.parametrize(
    ("per_second", "words"),
    [(0, "0/h"), (0.01, "36/h"), (0.16, "576/h"), (0.17, "10/min"), (1000, "60,000/min")],
)
def test_a_rate_is_told_by_the_minute_or_by_the_hour_if_it_is_low(per_second, words):
    assert show.rate(per_second) == words


ROWS = [
    {"id": 1, "name": "n" * 60, "share": 0.25, "message": "a host said that " * 8},
    {"id": 200, "name": "short", "share": None, "message": "\x1b[31mred\x1b[0m"},
]


def test_a_table_fits_eighty_columns_and_keeps_the_last_column_whole(capsys):
    show.table(ROWS, ("id", "name", "share", "message"), "")
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert " ".join(out.split()).count("host") == 8
    assert "\x1b" not in out
    assert "n…" in out
    assert out.splitlines()[1].startswith("  1  ")  # numbers stand to the right


def test_a_table_that_fits_is_not_cut(capsys):
    show.table([{"a": "x" * 30, "b": "y" * 40}], ("a", "b"), "")
    assert "…" not in capsys.readouterr().out
