"""The fake's lists of photos: FLICKR.md section 5, 12."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from flickr.more_photos import add

from popq.flickr.fake.world import Dialect, Fate

# 12


OWNER = "87654321@N01"


@pytest.fixture
def crowd(world, picture):
    """4,600 photos of one owner, the newest last."""
    data = picture(700, 500)
    for number in range(4600):
        add(
            world,
            1000 + number,
            data,
            owner=OWNER,
            posted_at=1_500_000_000 + number,
            tags=("even" if number % 2 == 0 else "odd", "crowd"),
        )
    return world


def ids(answer):
    return [int(photo["id"]) for photo in answer.json()["photos"]["photo"]]


def test_12_pages_hold_100_and_at_most_500(ask, crowd):
    def perpage(**params):
        answer = ask("flickr.photos.search", user_id=OWNER, **params)
        assert len(ids(answer)) == answer.json()["photos"]["perpage"]
        return answer.json()["photos"]["perpage"]

    assert [perpage(), perpage(per_page=7), perpage(per_page=501), perpage(per_page=0)] == [
        100,
        7,
        500,
        100,
    ]


def test_12_search_gives_4000_and_then_repeats(ask, crowd):
    pages = [
        ids(ask("flickr.photos.search", tags="crowd", per_page=500, page=page))
        for page in range(1, 11)
    ]
    assert pages[0][0] == 1000 + 4599
    seen = [photo for page in pages for photo in page]
    assert len(set(seen)) == 4000
    assert pages[7] == pages[8] == pages[9]
    envelope = ask("flickr.photos.search", tags="crowd", per_page=500, page=9).json()["photos"]
    assert (envelope["total"], envelope["pages"], envelope["page"]) == ("4600", "10", 9)


def test_12_search_gives_4000_whatever_a_page_holds(ask, crowd):
    pages = [
        ids(ask("flickr.photos.search", tags="crowd", per_page=300, page=page))
        for page in (13, 14, 15)
    ]
    assert [len(page) for page in pages] == [300, 100, 100]
    assert pages[1] == pages[2]
    assert pages[1][-1] == 1000 + 600


def test_12_search_filters(ask, crowd, by_fate):
    assert len(ids(ask("flickr.photos.search", tags="even", per_page=500, page=5))) == 300
    assert ids(ask("flickr.photos.search", text="nowhere")) == []
    dates = {"min_upload_date": 1_500_000_010, "max_upload_date": 1_500_000_011}
    assert ids(ask("flickr.photos.search", **dates)) == [1011, 1010]
    by_fate[Fate.LIVE].location = (48.88, 2.33)
    box = ask("flickr.photos.search", bbox="2,48,3,49", per_page=500)
    assert ids(box) == [by_fate[Fate.LIVE].flickr_id]
    assert box.json()["photos"]["perpage"] == 250
    assert ids(ask("flickr.photos.search", has_geo=1)) == ids(box)
    assert ids(ask("flickr.photos.getRecent", per_page=1)) == [1000 + 4599]


def test_12_public_photos_go_beyond_4000_and_repeat_past_the_last_page(ask, crowd):
    method = "flickr.people.getPublicPhotos"
    last = ids(ask(method, user_id=OWNER, per_page=500, page=10))
    assert last == list(range(1099, 999, -1))
    past = ask(method, user_id=OWNER, per_page=500, page=11)
    assert ids(past) == last
    assert past.json()["photos"]["page"] == 11
    assert ids(ask(method, user_id=OWNER))[0] == 5599


def test_12_only_public_photos_are_listed(ask, world):
    shown = ids(ask("flickr.people.getPublicPhotos", user_id="12345678@N00"))
    fates = {world.photos[number].fate for number in shown}
    assert fates == set(Fate) - {Fate.REMOVED, Fate.PRIVATE}


def test_12_unknown_and_deleted_owners(ask, world):
    method = "flickr.people.getPublicPhotos"
    unknown = ask(method, user_id="99999999@N00").json()
    assert (unknown["code"], unknown["message"]) == (1, "User not found")
    world.deleted_owners.add("99999999@N00")
    assert ask(method, user_id="99999999@N00").json()["code"] == 5


def test_12_total_and_pages_are_text_or_numbers(ask, world):
    def envelope():
        page = ask("flickr.people.getPublicPhotos", user_id="12345678@N00").json()["photos"]
        assert list(page) == ["page", "pages", "perpage", "total", "photo"]
        return page["page"], page["pages"], page["perpage"], page["total"]

    listed = len(Fate) - 2
    assert envelope() == (1, "1", 100, str(listed))
    world.dialect = Dialect.INTS
    assert envelope() == (1, 1, 100, listed)


ALL_EXTRAS = (
    "description,license,date_upload,date_taken,owner_name,icon_server,original_format,"
    "last_update,geo,tags,machine_tags,o_dims,views,media,path_alias,url_sq,url_t,url_s,url_q,"
    "url_m,url_n,url_z,url_c,url_l,url_o,url_w,url_h,vieuws"
)
BARE = ["id", "owner", "secret", "server", "farm", "title", "ispublic", "isfriend", "isfamily"]


def test_12_extras_have_names_of_their_own(ask, session, world, big_jpeg):
    photo = add(world, 11, big_jpeg, owner=OWNER, tags=("a", "b"), location=(1.5, 2.5))
    method = "flickr.people.getPublicPhotos"
    item = ask(method, user_id=OWNER).json()["photos"]["photo"][0]
    assert list(item) == BARE
    item = ask(method, user_id=OWNER, extras=ALL_EXTRAS).json()["photos"]["photo"][0]
    assert list(item)[: len(BARE)] == BARE
    # Of the list, not of getInfo: dateupload, ownername, pathalias.
    assert item["dateupload"] == str(photo.posted_at)
    assert item["ownername"] == f"user {OWNER}"
    assert item["pathalias"] == ""
    assert item["tags"] == "a b"
    assert (item["latitude"], item["longitude"]) == ("1.5", "2.5")
    assert (item["o_width"], item["o_height"]) == ("1200", "800")
    assert item["description"] == {"_content": ""}
    assert {"datetaken", "license", "views", "media", "lastupdate", "originalsecret"} <= set(item)
    assert not {"dateuploaded", "realname", "vieuws", "url_w", "url_h"} & set(item)
    # Letters that are not those of image URLs.
    letters = {"url_sq": "_s.", "url_s": "_m.", "url_m": "aaaaaaaaaa.", "url_l": "_b."}
    for name, tail in letters.items():
        assert tail in item[name].rpartition("/")[2]
    for name in ("url_sq", "url_t", "url_s", "url_q", "url_m", "url_n", "url_z", "url_c", "url_l"):
        assert session.get(item[name]).status_code == 200
    assert (item["width_z"], item["height_z"]) == ("640", "427")


def test_12_extras_may_be_missing(ask, world, picture):
    small = add(world, 11, picture(300, 200), owner=OWNER)
    extras = {"user_id": OWNER, "extras": "url_z,url_c,views"}

    def item():
        return ask("flickr.people.getPublicPhotos", **extras).json()["photos"]["photo"][0]

    assert set(item()) - set(BARE) == {"url_z", "width_z", "height_z", "views"}
    small.missing_extras = frozenset({"url_z", "views"})
    assert list(item()) == BARE


def test_12_lists_in_xml(ask, world, picture):
    add(world, 11, picture(300, 200), owner=OWNER, title="<T>")
    answer = ask("flickr.people.getPublicPhotos", user_id=OWNER, extras="description", format=None)
    root = ET.fromstring(answer.content)
    assert root.find("photos").attrib["total"] == "1"
    assert root.find("photos/photo").attrib["title"] == "<T>"
    assert root.find("photos/photo/description") is not None
