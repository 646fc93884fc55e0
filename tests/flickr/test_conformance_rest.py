"""The fake's API, as any HTTP client meets it: FLICKR.md section 5, 1 to 8, by number."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree as ET

import pytest
from flickr.more_photos import add
from requests_oauthlib import OAuth1

from popq.flickr.fake.faults import Fault, Rule
from popq.flickr.fake.server import DEMO_KEY, DEMO_SECRET
from popq.flickr.fake.world import Dialect, Fate

JSON = {"format": "json", "nojsoncallback": "1"}

INFO_KEYS = [
    "id",
    "secret",
    "server",
    "farm",
    "dateuploaded",
    "isfavorite",
    "license",
    "safety_level",
    "rotation",
    "originalsecret",
    "originalformat",
    "owner",
    "title",
    "description",
    "visibility",
    "dates",
    "views",
    "editability",
    "publiceditability",
    "usage",
    "comments",
    "notes",
    "people",
    "tags",
    "location",
    "geoperms",
    "urls",
    "media",
]


# 1


@pytest.mark.parametrize("verb", ["GET", "POST"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_01_get_and_post_with_and_without_slash(fake, session, verb, slash):
    params = {"method": "flickr.test.echo", "api_key": DEMO_KEY, **JSON, "x": "ä b"}
    where = {"params": params} if verb == "GET" else {"data": params}
    answer = session.request(verb, fake.api_url.rstrip("/") + slash, **where)
    assert answer.json()["stat"] == "ok"
    assert answer.json()["x"] == {"_content": "ä b"}


def test_01_query_and_form_together(fake, session):
    query = {"method": "flickr.test.echo", "api_key": DEMO_KEY}
    answer = session.post(fake.api_url, params=query, data=JSON)
    assert answer.json()["method"] == {"_content": "flickr.test.echo"}


# 2


@pytest.mark.parametrize("verb", ["GET", "POST"])
def test_02_signature_is_verified(fake, session, verb):
    params = {"method": "flickr.test.echo", **JSON, "x": "ä b&=+"}
    where = {"params": params} if verb == "GET" else {"data": params}

    def call(secret):
        return session.request(verb, fake.api_url, **where, auth=OAuth1(DEMO_KEY, secret))

    assert call(DEMO_SECRET).json()["stat"] == "ok"
    refused = call("wrong")
    assert refused.status_code == 401
    assert refused.headers["Content-Type"].startswith("text/plain")
    start = f"oauth_problem=signature_invalid&debug_sbs={verb}&http%3A%2F%2F127.0.0.1%3A"
    assert refused.text.startswith(start)


def test_02_header_that_cannot_be_read_names_nobody(fake, session):
    params = {"method": "flickr.test.echo", **JSON}
    answer = session.get(fake.api_url, params=params, headers={"Authorization": "OAuth garbage"})
    assert answer.json()["code"] == 100


def test_02_replayed_nonce_is_counted_and_refused_by_switch(fake, world, session):
    auth = OAuth1(DEMO_KEY, DEMO_SECRET, nonce="once")

    def call():
        return session.post(fake.api_url, data={"method": "flickr.test.echo", **JSON}, auth=auth)

    assert [call().status_code for _ in range(3)] == [200, 200, 200]
    world.refuse_replayed_nonces = True
    refused = call()
    assert (refused.status_code, refused.text) == (401, "oauth_problem=nonce_used")
    assert fake.counters()["duplicate_nonces"] == 3


# 3


@pytest.mark.parametrize("key", [None, "x", "0" * 32])
def test_03_bad_key_is_code_100_with_http_200(ask, key):
    answer = ask("flickr.test.echo", key=key)
    assert answer.status_code == 200
    message = "Invalid API Key (Key has invalid format)"
    assert answer.json() == {"stat": "fail", "code": 100, "message": message}


def test_03_key_is_disabled_and_enabled_at_run_time(fake, ask):
    expired = "Invalid API Key (Key has expired)"
    fake.faults.disable_key(DEMO_KEY)
    assert ask("flickr.test.echo").json()["message"] == expired
    fake.faults.enable_key(DEMO_KEY)
    assert ask("flickr.test.echo").json()["stat"] == "ok"
    fake.faults.add(Rule(faults=(Fault.KEY_EXPIRED,), keys=frozenset({DEMO_KEY})))
    root = ET.fromstring(ask("flickr.test.echo", format=None).content)
    assert root.find("err").attrib == {"code": "100", "msg": expired}


# 4


def test_04_xml_is_the_default(ask, by_fate):
    photo = by_fate[Fate.LIVE]
    answer = ask("flickr.photos.getInfo", photo_id=photo.flickr_id, format=None)
    assert answer.headers["Content-Type"] == "text/xml; charset=utf-8"
    root = ET.fromstring(answer.content)
    assert root.attrib == {"stat": "ok"}
    assert root.find("photo").attrib["secret"] == photo.secret
    assert root.find("photo/title").text == photo.title
    assert [tag.text for tag in root.findall("photo/tags/tag")] == list(photo.tags)
    durations = root.findall("photo/owner/gift/eligible_durations")
    assert [duration.text for duration in durations] == ["year", "month", "week"]
    sizes = ET.fromstring(
        ask("flickr.photos.getSizes", photo_id=photo.flickr_id, format="rest").text
    )
    assert sizes.findall("sizes/size")[-1].attrib["label"] == "Original"


@pytest.mark.parametrize(
    ("callback", "name"), [(None, "jsonFlickrApi"), ("mine", "mine"), ("a(b", "jsonFlickrApi")]
)
@pytest.mark.parametrize("without", [None, "0"])
def test_04_jsonp_without_nojsoncallback(ask, callback, name, without):
    answer = ask("flickr.test.echo", nojsoncallback=without, jsoncallback=callback)
    wrapped = re.fullmatch(r"(\w+)\((.*)\)", answer.text)
    assert wrapped[1] == name
    assert json.loads(wrapped[2])["stat"] == "ok"


def test_04_plain_json_is_ascii_with_escaped_slashes(ask, world, by_fate):
    photo = by_fate[Fate.LIVE]
    answer = ask("flickr.photos.getInfo", photo_id=photo.flickr_id)
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert answer.text.isascii()
    assert "https:\\/\\/www.flickr.com\\/photos\\/" in answer.text
    assert r"Caf\u00e9" in answer.text
    world.json_type = "application/json"
    assert ask("flickr.test.echo").headers["Content-Type"] == "application/json"


def test_04_unknown_format_and_method(ask):
    unknown = ask("flickr.test.echo", format="yaml")
    assert '<err code="111" msg="Format &quot;yaml&quot; not found"' in unknown.text
    failure = ask("flickr.photos.juggle").json()
    assert failure == {
        "stat": "fail",
        "code": 112,
        "message": 'Method "flickr.photos.juggle" not found',
    }


# 5


def test_05_failure_is_byte_for_byte_as_recorded(ask, world):
    answer = ask("flickr.photos.getSizes", photo_id="7")
    assert answer.status_code == 200
    assert answer.content == b'{"stat":"fail","code":1,"message":"Photo not found"}'
    assert len(answer.content) == 52
    xml = ask("flickr.photos.getSizes", photo_id="7", format=None).text
    assert '<rsp stat="fail">\n\t<err code="1" msg="Photo not found" />\n</rsp>' in xml
    world.string_codes = True
    assert ask("flickr.photos.getSizes", photo_id="7").json()["code"] == "1"


# 6


@pytest.fixture
def full(world, by_fate):
    """A photo that has all that getInfo can tell."""
    photo = by_fate[Fate.LIVE]
    photo.location = (48.88, 2.33)
    return photo


def test_06_names_and_their_order(ask, world, full):
    for world.dialect in Dialect:
        photo = ask("flickr.photos.getInfo", photo_id=full.flickr_id).json()["photo"]
        assert list(photo) == INFO_KEYS
        assert list(photo["owner"])[:3] == ["nsid", "username", "realname"]
        assert photo["urls"]["url"] == [
            {
                "type": "photopage",
                "_content": f"https://www.flickr.com/photos/{full.owner}/{full.flickr_id}/",
            }
        ]
        fixed = (photo["farm"], photo["isfavorite"], photo["rotation"], photo["id"])
        assert fixed == (66, 0, 0, str(full.flickr_id))
        assert photo["dateuploaded"] == photo["dates"]["posted"] == str(full.posted_at)


def test_06_two_dialects_of_types(ask, world, full):
    shown = []
    for world.dialect in (Dialect.STRINGS, Dialect.INTS):
        photo = ask("flickr.photos.getInfo", photo_id=full.flickr_id).json()["photo"]
        shown.append(
            {
                "license": photo["license"],
                "safety": photo["safety_level"],
                "views": photo["views"],
                "comments": photo["comments"]["_content"],
                "unknown": photo["dates"]["takenunknown"],
                "alias": photo["owner"]["path_alias"],
                "machine": photo["tags"]["tag"][0]["machine_tag"],
            }
        )
    text = {"license": "4", "safety": "0", "views": "18043", "comments": "0", "unknown": "0"}
    assert shown[0] == {**text, "alias": "", "machine": 0}
    numbers = {"license": 4, "safety": 0, "views": 18043, "comments": 0, "unknown": 0}
    assert shown[1] == {**numbers, "alias": None, "machine": False}
    assert (type(shown[0]["machine"]), type(shown[1]["machine"])) == (int, bool)


def test_06_odd_values(ask, world, big_jpeg, by_fate):
    odd = add(
        world,
        11,
        big_jpeg,
        title="Tom &amp; Jerry&#039;s 🎈",
        taken_at="0000-00-00 00:00:00",
        taken_unknown=True,
        rotation=90,
        path_alias="tom",
        downloadable=False,
        tags=("",),
    )
    photo = ask("flickr.photos.getInfo", photo_id=odd.flickr_id).json()["photo"]
    absent = set(INFO_KEYS) - set(photo)
    assert absent == {"originalsecret", "originalformat", "location", "geoperms"}
    assert photo["title"] == {"_content": odd.title}
    assert (photo["dates"]["taken"], photo["dates"]["takenunknown"]) == (odd.taken_at, "1")
    assert (photo["rotation"], photo["owner"]["path_alias"]) == (90, "tom")
    assert photo["usage"]["candownload"] == 0
    assert photo["tags"]["tag"][0]["_content"] == ""
    film = ask("flickr.photos.getInfo", photo_id=by_fate[Fate.VIDEO].flickr_id).json()["photo"]
    assert (film["media"], film["video"]["ready"]) == ("video", 1)


# 7


def test_07_missing_and_private(ask, world, by_fate):
    def failure(photo_id, method="flickr.photos.getInfo"):
        answer = ask(method, photo_id=photo_id)
        assert answer.status_code == 200
        return answer.json()["code"], answer.json()["message"]

    assert failure("7") == (1, 'Photo "7" not found (invalid ID)')
    assert failure("nonsense") == (1, 'Photo "nonsense" not found (invalid ID)')
    assert failure("7", "flickr.photos.getSizes") == (1, "Photo not found")
    removed, private = by_fate[Fate.REMOVED].flickr_id, by_fate[Fate.PRIVATE].flickr_id
    assert failure(removed) == (1, f'Photo "{removed}" not found (invalid ID)')
    assert failure(private) == (1, f'Photo "{private}" not found (invalid ID)')
    world.private_code = 2
    assert failure(private) == (2, "Permission denied")
    assert failure(private, "flickr.photos.getSizes") == (2, "Permission denied")


# 8


def rows(ask, photo):
    return ask("flickr.photos.getSizes", photo_id=photo.flickr_id).json()["sizes"]


def labels(ask, photo):
    return [row["label"] for row in rows(ask, photo)["size"]]


def test_08_sizes_ascend_with_mixed_types(ask, world, big_jpeg):
    photo = add(world, 11, big_jpeg, path_alias="tom")
    sizes = rows(ask, photo)
    assert list(sizes) == ["canblog", "canprint", "candownload", "size"]
    assert [row["label"] for row in sizes["size"]] == [
        "Square",
        "Large Square",
        "Thumbnail",
        "Small",
        "Small 320",
        "Small 400",
        "Medium",
        "Medium 640",
        "Medium 800",
        "Large",
        "Original",
    ]
    kinds = {row["label"]: type(row["width"]) for row in sizes["size"]}
    assert {label for label, kind in kinds.items() if kind is int} == {"Square", "Thumbnail"}
    medium = sizes["size"][6]
    assert medium["source"].endswith("/65535/11_aaaaaaaaaa.jpg")
    assert medium["url"] == "https://www.flickr.com/photos/tom/11/sizes/m/"
    assert (medium["width"], medium["height"], medium["media"]) == ("500", "333", "photo")
    world.dialect = Dialect.INTS
    assert {type(row["height"]) for row in rows(ask, photo)["size"]} == {int}


def test_08_small_old_withheld_and_free(ask, world, picture, big_jpeg):
    small = add(world, 11, picture(300, 200))
    assert labels(ask, small)[-3:] == ["Small", "Medium 640", "Original"]
    large = picture(2100, 1400)
    assert labels(ask, add(world, 12, large))[-3:] == ["Large 1600", "Large 2048", "Original"]
    before_2012 = add(world, 13, large, posted_at=1_300_000_000)
    assert labels(ask, before_2012)[-3:] == ["Medium 640", "Large", "Original"]
    before_2010 = add(world, 14, big_jpeg, posted_at=1_200_000_000)
    assert labels(ask, before_2010)[-2:] == ["Medium 640", "Original"]
    assert "Large" in labels(ask, add(world, 15, large, posted_at=1_200_000_000))
    withheld = add(world, 16, large, downloadable=False)
    assert labels(ask, withheld)[-1] == "Large 2048"
    assert rows(ask, withheld)["candownload"] == 0
    assert labels(ask, add(world, 17, large, free_account=True))[-1] == "Large"
    free = ask("flickr.photos.getInfo", photo_id=17).json()["photo"]
    assert "originalsecret" not in free


def test_08_video_has_its_stills_first(ask, by_fate):
    sizes = rows(ask, by_fate[Fate.VIDEO])["size"]
    assert [row["media"] for row in sizes] == ["photo"] * 11 + ["video"] * 2
    assert (sizes[-1]["label"], sizes[-1]["width"], sizes[-1]["height"]) == ("Site MP4", "", None)
    assert "/play/" in sizes[-1]["source"]


def test_08_bytes_that_are_no_image_have_one_size(ask, world):
    row = rows(ask, add(world, 11, b"no image at all"))["size"]
    assert [(size["label"], size["width"]) for size in row] == [("Medium 640", None)]
