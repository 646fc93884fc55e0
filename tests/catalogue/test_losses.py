"""Losses by year: dates where there are any, the neighbours by id where both agree."""

from __future__ import annotations

import datetime as dt
import random

from sqlalchemy import insert

from popq.catalogue import losses
from popq.catalogue.losses import Year
from popq.catalogue.models import Photo

NEW_YEAR = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)
LOST = {"not_found": "gone", "private": "gone", "video": "rejected"}


def row(flickr_id, posted=None, reason=None, **values):
    """Return a photo's row: stored, or lost for a reason."""
    said = {"page_url": "https://www.flickr.com/photo.gne?id=1", "posted_at": posted}
    said |= {"flickr_id": flickr_id, "source_key": None, "reason": reason, "image_url": None}
    if reason is None:
        said |= {"state": "stored", "file_key": "a.jpg", "sha256": "beef"}
    else:
        said |= {"state": LOST[reason], "file_key": None, "sha256": None}
    return said | values


def told(scene, *rows):
    with scene.catalogue.begin() as tx:
        tx.execute(insert(Photo), list(rows))
    with scene.catalogue.read() as tx:
        return losses.by_year(tx)


def in_year(year, day=100):
    return dt.datetime(year, 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=day)


def test_an_empty_catalogue_has_lost_nothing(scene):
    with scene.catalogue.read() as tx:
        found = losses.by_year(tx)
    assert (found.years, found.reasons, found.asked, found.right) == ([], [], 0, 0)


def test_a_photo_without_a_date_is_of_the_year_of_both_its_neighbours(scene):
    found = told(
        scene,
        row(5, reason="private"),  # nothing with a date below
        row(10, in_year(2012)),
        row(11, reason="not_found"),
        row(12, reason="not_found"),
        row(20, in_year(2012)),
        row(21, reason="not_found"),  # 2012 below, 2013 above
        row(30, in_year(2013), "video"),
        row(31),
        row(40, in_year(2013)),
        row(41, reason="private"),  # nothing with a date above
    )
    assert found.years == [
        Year(2012, stored=2, lost={"not_found": 2}, estimated=2),
        Year(2013, stored=2, lost={"video": 1}, estimated=1),
        Year(None, lost={"private": 2, "not_found": 1}),
    ]
    assert [(year.left, year.settled) for year in found.years] == [(2, 4), (1, 3), (3, 3)]
    assert found.reasons == ["not_found", "private", "video"]


def test_the_order_of_import_does_not_matter(scene):
    found = told(scene, row(3, in_year(2012)), row(2, reason="private"), row(1, in_year(2012)))
    assert found.years == [Year(2012, stored=2, lost={"private": 1}, estimated=1)]


def test_the_rule_is_put_to_photos_whose_date_is_known(scene):
    found = told(
        scene,
        row(1, in_year(2012)),
        row(2, in_year(2009)),  # its owner changed the date
        row(3, in_year(2012)),
        row(4, in_year(2012)),
        row(5, in_year(2012)),
        row(6, in_year(2013)),
    )
    # 2 and 4 have neighbours that agree, and 4 is what they say.
    assert (found.asked, found.right) == (2, 1)


def test_photos_that_still_wait_are_not_counted_but_tell_the_year(scene):
    found = told(
        scene,
        row(1, in_year(2012), state="resolved", image_url="https://live.staticflickr.com/1.jpg"),
        row(2, reason="not_found"),
        row(3, in_year(2012), state="listed"),
    )
    assert found.years == [Year(2012, lost={"not_found": 1}, estimated=1)]


def test_files_of_a_data_set_have_no_neighbours(scene):
    found = told(
        scene,
        row(1, in_year(2012)),
        row(None, source_key="train/a/1.jpg"),
        row(None, in_year(2015), source_key="train/a/2.jpg"),
        row(2, in_year(2012)),
    )
    assert found.years == [Year(2012, stored=2), Year(2015, stored=1), Year(None, stored=1)]
    assert found.asked == 0


def test_a_year_ends_in_utc(scene):
    second = dt.timedelta(seconds=1)
    found = told(scene, row(1, NEW_YEAR - second), row(2, NEW_YEAR))
    assert found.years == [Year(2012, stored=1), Year(2013, stored=1)]


def test_many_photos_are_counted_as_one_by_one(scene):
    rng = random.Random(7)
    ids = rng.sample(range(1, 10_000), 400)
    dates = {}
    for flickr_id in ids:
        # Ids and dates grow together, but for some whose owner changed the date.
        day = 800 * flickr_id / 10_000 + (rng.random() < 0.1) * rng.uniform(-500, 500)
        dates[flickr_id] = in_year(2011, day) if rng.random() < 0.5 else None
    reasons = {flickr_id: rng.choice([None, None, *LOST]) for flickr_id in ids}
    found = told(scene, *(row(n, dates[n], reasons[n]) for n in ids))

    def nearest(flickr_id, step):
        while 0 < (flickr_id := flickr_id + step) <= 10_000:
            if dates.get(flickr_id):
                return dates[flickr_id].year
        return None

    expected: dict[int | None, Year] = {}
    asked = right = 0
    for n in ids:
        below, above = nearest(n, -1), nearest(n, 1)
        year = dates[n].year if dates[n] else below if below == above else None
        if dates[n] and below is not None and below == above:
            asked, right = asked + 1, right + (below == year)
        one = expected.setdefault(year, Year(year))
        one.estimated += not dates[n] and year is not None
        if reasons[n] is None:
            one.stored += 1
        else:
            one.lost[reasons[n]] = one.lost.get(reasons[n], 0) + 1
    assert found.years == sorted(expected.values(), key=lambda y: (y.year is None, y.year or 0))
    assert (found.asked, found.right) == (asked, right)
    assert 0 < right < asked
