"""The fake's oEmbed: FLICKR.md section 5, 19."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from popq.flickr.fake.faults import Host
from popq.flickr.fake.world import Fate

# 19


@pytest.fixture
def embed(fake, session):
    def call(url, **params):
        return session.get(fake.oembed_url, params={"url": url, **params})

    return call


def page(photo):
    return f"https://www.flickr.com/photos/{photo.owner}/{photo.flickr_id}/"


def test_19_photo_as_recorded(embed, session, by_fate):
    photo = by_fate[Fate.LIVE]
    answer = embed(page(photo), format="json")
    assert answer.headers["Content-Type"] == "application/json"
    card = answer.json()
    assert list(card) == [
        "type",
        "flickr_type",
        "title",
        "author_name",
        "author_url",
        "width",
        "height",
        "url",
        "web_page",
        "thumbnail_url",
        "thumbnail_width",
        "thumbnail_height",
        "web_page_short_url",
        "license",
        "license_id",
        "license_url",
        "html",
        "version",
        "cache_age",
        "provider_name",
        "provider_url",
    ]
    assert (card["type"], card["flickr_type"], card["version"]) == ("photo", "photo", "1.0")
    assert (card["width"], card["height"], card["cache_age"]) == (1024, 683, 3600)
    assert card["url"].endswith(f"/65535/{photo.flickr_id}_{photo.secret}_b.jpg")
    assert card["thumbnail_url"].endswith("_q.jpg")
    assert (card["thumbnail_width"], card["thumbnail_height"]) == (150, 150)
    assert card["web_page_short_url"].startswith("https://flic.kr/p/")
    assert embed(card["web_page_short_url"], format="json").json() == card
    assert session.get(card["url"]).status_code == 200


def test_19_xml_is_the_default(embed, by_fate):
    answer = embed(page(by_fate[Fate.LIVE]))
    assert answer.headers["Content-Type"] == "text/xml; charset=utf-8"
    root = ET.fromstring(answer.content)
    assert (root.tag, root.find("type").text, root.find("width").text) == (
        "oembed",
        "photo",
        "1024",
    )
    assert embed(page(by_fate[Fate.LIVE]), format="yaml").status_code == 501


def test_19_maxwidth_and_maxheight(embed, by_fate):
    def size(**limits):
        card = embed(page(by_fate[Fate.LIVE]), format="json", **limits).json()
        return card["width"], card["height"]

    assert size(maxwidth=700) == (640, 427)
    assert size(maxheight=333) == (500, 333)
    assert size(maxwidth=9999) == (1024, 683)
    assert size(maxwidth=1) == (100, 67)


def test_19_missing_private_and_no_photo(embed, world, by_fate):
    def status(url):
        return embed(url, format="json").status_code

    removed, private = page(by_fate[Fate.REMOVED]), page(by_fate[Fate.PRIVATE])
    assert [status(removed), status(private)] == [404, 401]
    assert status("https://www.flickr.com/photos/somebody/sets/1/") == 404
    assert status("nonsense") == 404
    world.oembed_missing_status, world.oembed_private_status = 410, 404
    assert [status(removed), status(private)] == [410, 404]


def test_19_video_has_no_url(embed, by_fate):
    card = embed(page(by_fate[Fate.VIDEO]), format="json").json()
    assert card["type"] == "video"
    assert "url" not in card


def test_19_has_its_own_limits_and_counts(fake, embed, by_fate):
    fake.faults.budget(1, window_s=3600, host=Host.WWW)
    photo = by_fate[Fate.LIVE]
    assert embed(page(photo), format="json").status_code == 200
    assert embed(page(photo), format="json").status_code == 429
    counts = fake.counters()
    assert counts["kinds"]["oembed"] == {"requests": 2, "photos": 1, "most_per_photo": 2}
    assert counts["requests"] == {"api": 0, "image": 0, "www": 2}
