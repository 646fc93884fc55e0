"""The fake's API, as any HTTP client meets it: FLICKR.md section 5, 1 to 13 and 19, by number."""

from __future__ import annotations

import gzip
import json
import re
import socket
import threading
from xml.etree import ElementTree as ET

import pytest
import requests
from requests_oauthlib import OAuth1

from popq.flickr.fake.faults import Fault, Faults, Host, Rule
from popq.flickr.fake.server import DEMO_KEY, DEMO_SECRET, FakeFlickr
from popq.flickr.fake.world import Dialect, FakePhoto, Fate

JSON = {"format": "json", "nojsoncallback": "1"}
STOCK_429 = (
    b"<html><body><h1>429 Too Many Requests</h1>\n"
    b"You have sent too many requests in a given amount of time.\n"
    b"</body></html>\n"
)
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


def add(world, number, data, **members):
    photo = FakePhoto(
        flickr_id=number,
        owner=members.pop("owner", "12345678@N00"),
        server="65535",
        secret="aaaaaaaaaa",
        image=lambda: data,
        **members,
    )
    world.add(photo)
    return photo


def info_path(photo_id):
    return (
        f"/services/rest/?method=flickr.photos.getInfo&api_key={DEMO_KEY}"
        f"&photo_id={photo_id}&format=json&nojsoncallback=1"
    )


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


# 9


def is_stock_429(answer, retry_after=None):
    assert answer.status_code == 429
    assert answer.content == STOCK_429
    assert answer.headers["Content-Type"] == "text/html"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.headers["Content-Length"] == "117"
    assert answer.headers.get("Retry-After") == retry_after
    return True


def test_09_stock_429_byte_for_byte(fake, wire):
    fake.faults.throttle_for(3600)
    head, body = wire(info_path(7), "Accept-Encoding: gzip")
    assert head[0] == "HTTP/1.1 429 Too Many Requests"
    assert body == STOCK_429
    assert len(body) == 117
    names = {line.split(":")[0].lower() for line in head[1:]}
    assert names == {"date", "cache-control", "content-type", "content-length"}


def test_09_budget_is_per_key(world, session):
    faults = Faults()
    faults.budget(2, window_s=3600)
    with FakeFlickr(world, keys={"a": "", "b": ""}, faults=faults) as fake:

        def call(key):
            params = {"method": "flickr.test.echo", "api_key": key, **JSON}
            return session.get(fake.api_url, params=params)

        assert [call("a").status_code for _ in range(3)] == [200, 200, 429]
        assert call("b").status_code == 200
        assert is_stock_429(call("a"))
        session.close()


def test_09_budget_comes_back(fake, ask):
    fake.faults.budget(1, window_s=0, retry_after_s=5)
    assert [ask("flickr.test.echo").status_code for _ in range(3)] == [200, 200, 200]


def test_09_by_script_and_with_retry_after(fake, ask, fetch, by_fate):
    fake.faults.throttle_for(3600, retry_after_s=9)
    assert is_stock_429(ask("flickr.test.echo"), "9")
    fake.faults.throttle_for(0)
    assert ask("flickr.test.echo").status_code == 200
    fake.faults.throttle_for(3600, host=Host.IMAGE, after_calls=2)
    photo = by_fate[Fate.LIVE]
    assert [fetch(photo).status_code for _ in range(4)] == [200, 200, 429, 429]
    assert is_stock_429(fetch(photo))
    assert ask("flickr.test.echo").status_code == 200


# 10


@pytest.mark.parametrize("fault", [Fault.ERROR_500, Fault.ERROR_502, Fault.ERROR_504])
def test_10_broken_server_sends_a_page(fake, ask, fault):
    fake.faults.fail_photo(7, fault, times=2)
    for _ in range(2):
        answer = ask("flickr.photos.getInfo", photo_id="7")
        assert (answer.status_code, answer.headers["Content-Type"]) == (int(fault), "text/html")
        assert f"<h1>{fault} " in answer.text
    assert ask("flickr.photos.getInfo", photo_id="7").status_code == 200


UNAVAILABLE = "Sorry, the Flickr API service is not currently available."


@pytest.mark.parametrize(
    ("fault", "form", "body"),
    [
        (Fault.CODE_105, "json", '"code":105,"message":"Service currently unavailable"}'),
        (Fault.CODE_STRING, "json", '"code":"105"'),
        (Fault.CODE_201, "json", f'"code":201,"message":"{UNAVAILABLE}"}}'),
        (Fault.CODE_201, None, f'<err code="201" msg="{UNAVAILABLE}" />'),
        (Fault.CODE_0, "json", f'{{"stat":"fail","code":0,"message":"{UNAVAILABLE}"}}'),
        (Fault.TRAILING_COMMA, None, f'{{"message":"{UNAVAILABLE}","stat":"fail","code":201,}}'),
        (Fault.HTML_200, "json", "<!DOCTYPE html>"),
        (Fault.EMPTY, "json", ""),
    ],
)
def test_10_faults_with_status_200(fake, ask, fault, form, body):
    fake.faults.fail_photo(7, fault)
    answer = ask("flickr.photos.getInfo", photo_id="7", format=form)
    assert answer.status_code == 200
    assert body in answer.text
    assert (fault is Fault.EMPTY) == (answer.content == b"")


def test_10_comma_too_many_is_no_json(fake, ask):
    fake.faults.fail_photo(7, Fault.TRAILING_COMMA)
    with pytest.raises(requests.exceptions.JSONDecodeError):
        ask("flickr.photos.getInfo", photo_id="7").json()


def test_10_reset_and_close_are_told_apart(fake, ask):
    fake.faults.fail_photo(7, Fault.RESET)
    fake.faults.fail_photo(7, Fault.CLOSE)
    with pytest.raises(requests.ConnectionError, match="reset"):
        ask("flickr.photos.getInfo", photo_id="7")
    with pytest.raises(requests.ConnectionError, match="without response"):
        ask("flickr.photos.getInfo", photo_id="7")
    assert fake.counters()["statuses"]["api"] == {"0": 2}


def half_received(fake, path, fault, *, until):
    """Send a request that meets a slow fault, and return what comes before the pause."""
    fake.faults.fail_photo(7, fault, slow_s=3600)
    with socket.create_connection(("127.0.0.1", fake.port), timeout=30) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        got = b""
        while not re.search(until, got):
            got += connection.recv(65536)
        connection.settimeout(0)
        with pytest.raises(BlockingIOError):
            connection.recv(1)
        fake.stop()  # which ends the pause
    return got


def test_10_slow_headers_stop_inside_the_head(fake):
    got = half_received(fake, info_path(7), Fault.SLOW_HEADERS, until=rb"\r\n")
    assert b"\r\n\r\n" not in got


def test_10_slow_body_stops_in_its_middle(fake):
    got = half_received(fake, info_path(7), Fault.SLOW_BODY, until=rb"\r\n\r\n..\r\n[^\r]+\r\n")
    assert b"\r\n0\r\n" not in got
    assert 0 < len(got.partition(b"\r\n\r\n")[2]) < 60


def test_10_drip_stops_after_each_piece(fake):
    got = half_received(fake, info_path(7), Fault.DRIP, until=rb"\r\n\r\n.\r\n[^\r]+\r\n")
    assert b"\r\n0\r\n" not in got


def test_10_late_answer_is_under_way_before_it_comes(fake, ask):
    fake.faults.fail_photo(7, Fault.SLOW, slow_s=3600)
    answers = []

    def call():
        with pytest.raises(requests.ConnectionError) as failed:
            ask("flickr.photos.getInfo", photo_id="7")
        answers.append(failed)

    thread = threading.Thread(target=call)
    thread.start()
    while not fake.counters()["requests"]["api"]:
        pass
    assert not answers
    fake.stop()
    thread.join()
    assert answers


@pytest.mark.parametrize(
    "fault", [Fault.SLOW, Fault.SLOW_HEADERS, Fault.SLOW_BODY, Fault.DRIP], ids=str
)
def test_10_slow_answers_arrive_whole(fake, ask, by_fate, fault):
    photo_id = by_fate[Fate.LIVE].flickr_id
    fake.faults.fail_photo(photo_id, fault, slow_s=0.001)
    assert ask("flickr.photos.getInfo", photo_id=photo_id).json()["stat"] == "ok"


def test_10_truncated_gzip_is_half_a_stream(fake, session):
    fake.faults.fail_photo(7, Fault.TRUNCATED_GZIP)
    params = {"method": "flickr.photos.getInfo", "api_key": DEMO_KEY, "photo_id": "7", **JSON}
    answer = session.get(fake.api_url, params=params, stream=True)
    assert answer.headers["Content-Encoding"] == "gzip"
    with pytest.raises(EOFError):
        gzip.decompress(answer.raw.read(decode_content=False))


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.CUT_CHUNKED])
def test_10_cut_answers_end_half_way(fake, ask, by_fate, fault):
    photo_id = by_fate[Fate.LIVE].flickr_id
    fake.faults.fail_photo(photo_id, fault)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        ask("flickr.photos.getInfo", photo_id=photo_id)


# 11


def test_11_headers_as_recorded(wire, by_fate):
    path = info_path(by_fate[Fate.LIVE].flickr_id)
    head, body = wire(path, "Accept-Encoding: gzip")
    values = dict(line.lower().split(": ", 1) for line in head[1:])
    assert values["transfer-encoding"] == "chunked"
    assert values["content-encoding"] == "gzip"
    assert values["server"] == "openresty"
    assert values["vary"] == "accept-encoding"
    assert values["x-robots-tag"] == "noindex"
    assert values["x-cache"] == "miss from cloudfront"
    assert "(cloudfront)" in values["via"]
    assert values["x-flickr-api-request"].startswith("root=1-")
    assert [line[:15] for line in head if line.startswith("Set-Cookie")] == ["Set-Cookie: ccc"] * 2
    assert not {"content-length", "etag", "cache-control", "retry-after"} & set(values)
    assert not [name for name in values if "ratelimit" in name]
    assert body.endswith(b"\r\n0\r\n\r\n")


def test_11_no_gzip_unless_asked(wire):
    head, body = wire(info_path(7))
    assert not [line for line in head if line.startswith("Content-Encoding")]
    assert b'"stat":"fail"' in body


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


# 13


def test_13_counters_over_http(fake, session, ask, fetch, by_fate):
    photo = by_fate[Fate.LIVE]
    ask("flickr.photos.getInfo", photo_id=photo.flickr_id)
    fetched = fetch(photo)
    counts = session.get(f"{fake.image_url}/_popq/counters").json()
    assert counts | {"seconds": 0} == fake.counters() | {"seconds": 0}
    assert sum(counts["calls_per_key_and_second"][DEMO_KEY].values()) == 1
    assert counts["most_in_window"]["api"] == {DEMO_KEY: 1}
    assert sum(counts["images_per_second"].values()) == 1
    assert counts["api_calls_per_photo"] == {str(photo.flickr_id): 1}
    assert counts["image_calls_per_photo"] == {str(photo.flickr_id): 1}
    assert counts["statuses"] == {"api": {"200": 1}, "image": {"200": 1}, "www": {}}
    assert counts["max_concurrency"] == {"api": 1, "image": 1, "www": 0}
    assert counts["bytes"]["image"] == len(fetched.content)
    assert sum(counts["user_agents"].values()) == 2


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
    assert is_stock_429(embed(page(photo), format="json"))
    counts = fake.counters()
    assert counts["kinds"]["oembed"] == {"requests": 2, "photos": 1, "most_per_photo": 2}
    assert counts["requests"] == {"api": 0, "image": 0, "www": 2}
