"""Pages of an owner's photos, as the client reads them."""

from __future__ import annotations

import pytest

from popq.errors import Outcome, Permanent, Transient

LISTED = {
    "id": "52000000001",
    "owner": "12345678@N00",
    "secret": "0123456789",
    "server": "65535",
    "farm": 66,
    "title": "A &amp; B",
    "ispublic": 1,
    "license": "4",
    "dateupload": "1490376472",
    "datetaken": "2017-02-17 00:00:00",
    "datetakenunknown": "0",
    "ownername": "U",
    "tags": "blue sky",
    "views": "15",
    "media": "photo",
}


def page_of(*rows, pages=1):
    photos = {"page": 1, "pages": pages, "perpage": 500, "total": "1", "photo": list(rows)}
    return {"photos": photos, "stat": "ok"}


def test_a_page_of_an_owners_photos(canned):
    client, set_answer = canned
    set_answer(page_of(LISTED, pages="3"))
    page = client.public_photos("12345678@N00", 1)
    assert page.pages == 3
    (info,) = page.photos
    assert (info.flickr_id, info.owner) == (52000000001, "12345678@N00")
    assert (info.server, info.secret, info.media) == ("65535", "0123456789", "photo")
    assert (info.title, info.tags) == ("A & B", ("blue", "sky"))
    assert (info.views, info.licence, info.posted_at) == (15, 4, 1490376472)
    assert info.taken_at == "2017-02-17 00:00:00"


def test_a_listed_photo_may_lack_all_but_its_address(canned):
    client, set_answer = canned
    bare = {"id": 52000000002, "secret": "abc", "server": 1}
    unknown = LISTED | {"datetakenunknown": "1", "datetaken": "2017-01-01 00:00:00"}
    set_answer(page_of(bare, unknown, LISTED | {"secret": ""}, {"id": "x"}, "no photo"))
    first, second = client.public_photos("12345678@N00", 1).photos
    assert (first.flickr_id, first.title, first.tags, first.media) == (
        52000000002,
        None,
        (),
        "photo",
    )
    assert second.taken_at is None


@pytest.mark.parametrize(
    "answer", [{"stat": "ok"}, page_of(pages="many"), {"photos": {}, "stat": "ok"}]
)
def test_a_page_that_is_none_is_tried_again(canned, answer):
    client, set_answer = canned
    set_answer(answer)
    with pytest.raises(Transient, match="malformed"):
        client.public_photos("12345678@N00", 1)


def test_a_deleted_owner_is_permanent(canned):
    client, set_answer = canned
    set_answer({"stat": "fail", "code": 5, "message": "User deleted"})
    with pytest.raises(Permanent) as raised:
        client.public_photos("12345678@N00", 1)
    assert raised.value.outcome is Outcome.GONE
