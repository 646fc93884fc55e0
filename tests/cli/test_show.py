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
