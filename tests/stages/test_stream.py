"""Walking an owner's stream never costs more than a call a photo and one in vain."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popq.errors import Outcome, Permanent, Throttled, Transient
from popq.flickr.client import Page, PhotoInfo
from popq.stages.stream import bounds, walk


def info(flickr_id):
    rest = dict.fromkeys(("owner", "title", "views", "posted_at", "taken_at", "licence"))
    return PhotoInfo(flickr_id, server="1", secret="a", tags=(), media="photo", **rest)


class Stream:
    """An owner's photos, newest first, a few to a page; past the last page it repeats.

    The calls in `broken` (numbers from 1) come to nothing, and are told apart.
    """

    def __init__(self, ids, per_page, broken=()):
        self.pages = [ids[at : at + per_page] for at in range(0, len(ids), per_page)] or [[]]
        self.broken = broken
        self.asked = []
        self.faults = 0

    def __call__(self, page):
        if len(self.asked) + self.faults + 1 in self.broken:
            self.faults += 1
            raise Transient("no answer")
        self.asked.append(page)
        at = min(page, len(self.pages)) - 1
        return Page(tuple(map(info, self.pages[at])), len(self.pages))


IDS = st.sets(st.integers(1, 60), max_size=40)


@given(
    listed=IDS,
    wanted=st.sets(st.integers(1, 60), min_size=1, max_size=25),
    per_page=st.integers(1, 12),
    order=st.sampled_from(["newest first", "any"]),
    broken=st.sets(st.integers(1, 9), max_size=6),
    data=st.data(),
)
def test_any_stream_costs_at_most_a_call_a_photo_and_one(
    listed, wanted, per_page, order, broken, data
):
    ids = sorted(listed, reverse=True)
    ids = ids if order == "newest first" else data.draw(st.permutations(ids))
    stream = Stream(ids, per_page, broken)
    left, page, found = set(wanted), 1, 0
    while page:  # a worker may stop after any page, and another goes on from there
        stops = data.draw(st.booleans())
        for infos, after in walk(set(left), stream, page, found):
            here = {photo.flickr_id for photo in infos}
            assert len(here) == len(infos)
            assert here <= left & listed
            left -= here
            found += len(here)
            page = after
            if stops:
                break
    assert stream.faults <= len(broken)
    assert len(stream.asked) + len(left) <= len(wanted) + 1
    assert stream.asked == sorted(set(stream.asked))


def test_all_of_a_short_stream_are_found_by_one_call():
    stream = Stream(list(range(50, 0, -1)), 500)
    ((infos, after),) = walk({3, 7, 50}, stream, 1, 0)
    assert [photo.flickr_id for photo in infos] == [50, 7, 3]
    assert (after, stream.asked) == (0, [1])


def test_behind_a_photo_older_than_all_that_is_wanted_nobody_looks():
    stream = Stream(list(range(100, 0, -1)), 10)
    wanted = {100, 99, 98, 97, 96, 95, 93, 92, *range(200, 215)}
    assert list(walk(wanted, stream, 1, 0))[-1][1] == 0
    assert stream.asked == [1]


def test_after_two_faults_the_page_waits_for_another_time():
    stream = Stream([3, 2, 1], 500, broken={1, 2})
    assert list(walk({1, 2}, stream, 1, 0)) == []
    assert [len(infos) for infos, _ in walk({1, 2}, stream, 1, 0)] == [2]


def test_what_flickr_says_of_an_owner_is_no_word_about_a_photo():
    def deleted(page):
        raise Permanent("code 5", outcome=Outcome.GONE)

    assert list(walk({1, 2}, deleted, 1, 0)) == [([], 0)]


def test_a_429_goes_on_up_and_the_page_is_asked_for_again():
    def throttled(page):
        raise Throttled("429", host="x")

    with pytest.raises(Throttled):
        list(walk({1, 2}, throttled, 1, 0))


@pytest.mark.parametrize(
    ("batches", "expected"),
    [
        ([], (0, 0)),
        ([("", 25), ("", 3)], (28, 28)),
        ([("1@N00", 500), ("2@N00", 501), ("", 4)], (7, 1007)),
    ],
)
def test_bounds(batches, expected):
    assert bounds(batches) == expected
