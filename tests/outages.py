"""Outages of Flickr's API as they were seen: what it answered, and what they did to a list."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

from popq.flickr.fake.faults import Fault

#: Everything that an outage was seen to answer.
AS_SEEN = (
    Fault.ERROR_500,
    Fault.ERROR_502,
    Fault.ERROR_504,
    Fault.CODE_105,
    Fault.CODE_201,
    Fault.HTML_200,
    Fault.EMPTY,
    Fault.TRAILING_COMMA,
    Fault.RESET,
    Fault.CLOSE,
)
#: The outage of 2021: its first row and its last, counted from 1.
ROWS = (33_957, 35_156)


def runs_of_2021():
    """Return the outcomes of a real list's 50,000 rows as runs of (resolved, how many)."""
    lines = Path(__file__).with_name("outages-2021.txt").read_text().splitlines()
    counts = " ".join(line for line in lines if not line.startswith("#")).split()
    return list(zip(cycle((True, False)), map(int, counts), strict=False))
