"""The fake Flickr, as any HTTP client meets it: FLICKR.md section 5, 1-13."""

from __future__ import annotations

import gzip
import http.client
import json
import re
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

import pytest
import requests
from requests_oauthlib import OAuth1

from popq.flickr import urls
from popq.flickr.fake.faults import Fault, Faults, Host
from popq.flickr.fake.server import DEMO_KEY, DEMO_SECRET, FakeFlickr
from popq.flickr.fake.world import Dialect, Fate, World, folder_world

JSON = {"format": "json", "nojsoncallback": "1"}


# 1, 2: paths, methods, signatures


@pytest.mark.parametrize("verb", ["GET", "POST"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_rest_takes_get_and_post_with_and_without_slash(fake, session, verb, slash):
    params = {"method": "flickr.test.echo", "api_key": DEMO_KEY, **JSON, "x": "ä b"}
    where = {"params": params} if verb == "GET" else {"data": params}
    answer = session.request(verb, fake.api_url.rstrip("/") + slash, **where)
    assert answer.json()["stat"] == "ok"
    assert answer.json()["x"] == {"_content": "ä b"}


@pytest.mark.parametrize("verb", ["GET", "POST"])
def test_oauth_signature_is_verified(fake, session, verb):
    params = {"method": "flickr.test.echo", **JSON, "x": "ä b&=+"}
    where = {"params": params} if verb == "GET" else {"data": params}

    def call(secret):
        return session.request(verb, fake.api_url, **where, auth=OAuth1(DEMO_KEY, secret))

    assert call(DEMO_SECRET).json()["stat"] == "ok"
    refused = call("wrong")
    assert refused.status_code == 401
    assert refused.text.startswith(f"oauth_problem=signature_invalid&debug_sbs={verb}%26http")


def test_unreadable_oauth_header_names_nobody(fake, session):
    params = {"method": "flickr.test.echo", **JSON}
    answer = session.get(fake.api_url, params=params, headers={"Authorization": "OAuth garbage"})
    assert answer.json()["code"] == 100


def test_replayed_nonce_is_counted(fake, session):
    auth = OAuth1(DEMO_KEY, DEMO_SECRET, nonce="once")
    for _ in range(3):
        session.post(fake.api_url, data={"method": "flickr.test.echo", **JSON}, auth=auth)
    assert fake.counters()["duplicate_nonces"] == 2


# 3, 4, 5: keys, formats, failures


@pytest.mark.parametrize("key", [None, "x", "0" * 32])
def test_bad_key_is_code_100_with_http_200(ask, key):
    answer = ask("flickr.test.echo", key=key)
    assert answer.status_code == 200
    assert answer.json() == {
        "stat": "fail",
        "code": 100,
        "message": "Invalid API Key (Key has invalid format)",
    }


def test_key_is_disabled_and_enabled_at_run_time(fake, ask):
    fake.faults.disable_key(DEMO_KEY)
    assert ask("flickr.test.echo").json()["message"] == "Invalid API Key (Key has expired)"
    fake.faults.enable_key(DEMO_KEY)
    assert ask("flickr.test.echo").json()["stat"] == "ok"


def test_xml_is_the_default(ask, by_fate):
    photo = by_fate[Fate.LIVE]
    answer = ask("flickr.photos.getInfo", photo_id=photo.flickr_id, format=None)
    assert answer.headers["Content-Type"] == "text/xml; charset=utf-8"
    root = ET.fromstring(answer.content)
    assert root.attrib == {"stat": "ok"}
    assert root.find("photo").attrib["secret"] == photo.secret
    assert root.find("photo/title").text == photo.title
    assert [tag.text for tag in root.findall("photo/tags/tag")] == list(photo.tags)
    sizes = ET.fromstring(
        ask("flickr.photos.getSizes", photo_id=photo.flickr_id, format="rest").text
    )
    assert sizes.findall("sizes/size")[-1].attrib["label"] == "Original"


def test_xml_failure(ask):
    answer = ask("flickr.photos.getSizes", photo_id="7", format=None)
    error = ET.fromstring(answer.content).find("err")
    assert error.attrib == {"code": "1", "msg": "Photo not found"}


@pytest.mark.parametrize(
    ("callback", "name"), [(None, "jsonFlickrApi"), ("mine", "mine"), ("a(b", "jsonFlickrApi")]
)
def test_jsonp_without_nojsoncallback(ask, callback, name):
    answer = ask("flickr.test.echo", nojsoncallback=None, jsoncallback=callback)
    wrapped = re.fullmatch(r"(\w+)\((.*)\)", answer.text)
    assert wrapped[1] == name
    assert json.loads(wrapped[2])["stat"] == "ok"


def test_unknown_format_and_method(ask):
    unknown = ask("flickr.test.echo", format="yaml")
    assert '<err code="111" msg="Format &quot;yaml&quot; not found"' in unknown.text
    assert ask("flickr.photos.juggle").json()["code"] == 112


def test_failure_is_byte_for_byte_as_recorded(ask, world):
    text = ask("flickr.photos.getSizes", photo_id="7").text
    assert text == '{"stat":"fail","code":1,"message":"Photo not found"}'
    world.string_codes = True
    assert ask("flickr.photos.getSizes", photo_id="7").json()["code"] == "1"


# 6, 7, 8: getInfo and getSizes


def test_info_types_follow_the_dialect(ask, world, by_fate):
    photo_id = by_fate[Fate.LIVE].flickr_id
    strings = ask("flickr.photos.getInfo", photo_id=photo_id).json()["photo"]
    world.dialect = Dialect.INTS
    numbers = ask("flickr.photos.getInfo", photo_id=photo_id).json()["photo"]
    assert (strings["views"], strings["license"], strings["owner"]["path_alias"]) == (
        "18043",
        "4",
        "",
    )
    assert (numbers["views"], numbers["license"], numbers["owner"]["path_alias"]) == (
        18043,
        4,
        None,
    )
    assert numbers["tags"]["tag"][0]["machine_tag"] is False
    assert numbers["originalsecret"] != numbers["secret"]


def test_info_of_missing_and_private_photos(ask, world, by_fate):
    def failure(photo_id):
        answer = ask("flickr.photos.getInfo", photo_id=photo_id).json()
        return answer["code"], answer["message"]

    assert failure("7") == (1, 'Photo "7" not found (invalid ID)')
    assert failure("nonsense") == (1, 'Photo "nonsense" not found (invalid ID)')
    private = by_fate[Fate.PRIVATE].flickr_id
    assert failure(private)[0] == 1
    world.private_code = 2
    assert failure(private) == (2, "Permission denied")


# 9: rate limits


def is_stock_429(answer, retry_after=None):
    assert answer.status_code == 429
    assert len(answer.content) == 117
    assert answer.content.startswith(b"<html><body><h1>429 Too Many Requests</h1>\n")
    assert answer.headers["Content-Type"] == "text/html"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.headers.get("Retry-After") == retry_after
    return True


def test_budget_is_per_key(world, session):
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


def test_budget_comes_back(fake, ask):
    fake.faults.budget(1, window_s=0, retry_after_s=5)
    assert [ask("flickr.test.echo").status_code for _ in range(3)] == [200, 200, 200]


def test_throttle_from_now_and_after_k(fake, ask, fetch, by_fate):
    fake.faults.throttle_for(3600, retry_after_s=9)
    assert is_stock_429(ask("flickr.test.echo"), "9")
    fake.faults.throttle_for(0)
    assert ask("flickr.test.echo").status_code == 200
    fake.faults.throttle_for(3600, host=Host.IMAGE, after_calls=2)
    photo = by_fate[Fate.LIVE]
    assert [fetch(photo).status_code for _ in range(4)] == [200, 200, 429, 429]
    assert is_stock_429(fetch(photo))
    assert ask("flickr.test.echo").status_code == 200


# 10: faults


@pytest.mark.parametrize("fault", [Fault.ERROR_500, Fault.ERROR_502, Fault.ERROR_504])
def test_broken_server_sends_a_page(fake, ask, fault):
    fake.faults.fail_photo(7, fault, times=2)
    for _ in range(2):
        answer = ask("flickr.photos.getInfo", photo_id="7")
        assert (answer.status_code, answer.headers["Content-Type"]) == (int(fault), "text/html")
    assert ask("flickr.photos.getInfo", photo_id="7").status_code == 200


@pytest.mark.parametrize(
    ("fault", "body"),
    [
        (Fault.CODE_201, '"code":201'),
        (Fault.CODE_STRING, '"code":"105"'),
        (Fault.TRAILING_COMMA, '"code":201,}'),
        (Fault.HTML_200, "<!DOCTYPE html>"),
    ],
)
def test_faults_with_status_200(fake, ask, fault, body):
    fake.faults.fail_photo(7, fault)
    answer = ask("flickr.photos.getInfo", photo_id="7", format=None)
    assert answer.status_code == 200
    assert body in answer.text


def test_reset_and_close_are_told_apart(fake, ask):
    fake.faults.fail_photo(7, Fault.RESET)
    fake.faults.fail_photo(7, Fault.CLOSE)
    with pytest.raises(requests.ConnectionError, match="reset"):
        ask("flickr.photos.getInfo", photo_id="7")
    with pytest.raises(requests.ConnectionError, match="without response"):
        ask("flickr.photos.getInfo", photo_id="7")
    assert fake.counters()["statuses"]["api"] == {"0": 2}


# 11: headers


def test_api_headers(ask, by_fate):
    answer = ask("flickr.photos.getInfo", photo_id=by_fate[Fate.LIVE].flickr_id)
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.headers["Server"] == "openresty"
    assert "ccc=" in answer.headers["Set-Cookie"]
    for name in ("Content-Length", "ETag", "Cache-Control", "Retry-After"):
        assert name not in answer.headers
    assert not [name for name in answer.headers if "ratelimit" in name.lower()]


def test_no_gzip_unless_asked(fake, session):
    answer = session.get(fake.api_url, headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in answer.headers


# 13: counters


def test_counters_over_http(fake, session, ask, fetch, by_fate):
    photo = by_fate[Fate.LIVE]
    ask("flickr.photos.getInfo", photo_id=photo.flickr_id)
    fetch(photo)
    counts = session.get(f"{fake.image_url}/_popq/counters").json()
    assert counts == fake.counters()
    assert sum(counts["calls_per_key_and_second"][DEMO_KEY].values()) == 1
    assert sum(counts["images_per_second"].values()) == 1
    assert counts["api_calls_per_photo"] == {str(photo.flickr_id): 1}
    assert counts["image_calls_per_photo"] == {str(photo.flickr_id): 1}
    assert counts["statuses"] == {"api": {"200": 1}, "image": {"200": 1}}
    assert counts["max_concurrency"] == {"api": 1, "image": 1}
    assert sum(counts["user_agents"].values()) == 2


# the world and the server


def test_folder_becomes_a_world(tmp_path, picture, session):
    numbers = range(52000000000, 52000000020)
    for number in numbers:
        (tmp_path / f"{number}.jpg").write_bytes(picture(80, 60, quality=number % 50 + 10))
    (tmp_path / "notes.txt").write_text("no photo")
    (tmp_path / "cover.jpg").write_bytes(b"no id")
    world = folder_world(tmp_path)
    assert list(world.photos) == list(numbers)
    again = folder_world(tmp_path)
    assert world.page_urls() == again.page_urls()
    assert [photo.secret for photo in world.photos.values()] == [
        photo.secret for photo in again.photos.values()
    ]
    owners = {photo.owner for photo in world.photos.values()}
    assert 1 < len(owners) <= 10
    links = [urls.parse(url) for url in world.page_urls()]
    assert [link.flickr_id for link in links] == list(numbers)
    assert {link.owner for link in links} == owners
    with FakeFlickr(world) as fake:
        photo = world.photos[links[7].flickr_id]
        url = urls.image_url(fake.image_url, photo.server, photo.flickr_id, photo.secret, "z")
        assert session.get(url).content == (tmp_path / f"{photo.flickr_id}.jpg").read_bytes()
        session.close()


def test_empty_folder_is_an_empty_world(tmp_path):
    assert folder_world(tmp_path) == World()


def test_server_stops_with_connections_open_and_answers_pending(world, by_fate):
    fake = FakeFlickr(world)
    fake.start()
    host = urlsplit(fake.image_url).netloc
    idle = http.client.HTTPConnection(host)
    idle.request("GET", "/_popq/counters")
    assert json.loads(idle.getresponse().read())["duplicate_nonces"] == 0
    photo = by_fate[Fate.LIVE]
    fake.faults.fail_photo(photo.flickr_id, Fault.SLOW, host=Host.IMAGE, slow_s=3600)
    waiting = http.client.HTTPConnection(host)
    waiting.request("GET", f"/65535/{photo.flickr_id}_{photo.secret}_z.jpg")
    while not fake.counters()["image_calls_per_photo"]:
        pass
    fake.stop()
    with pytest.raises((http.client.HTTPException, OSError)):
        waiting.getresponse()
    idle.close()
    waiting.close()


def test_server_that_never_started_stops():
    FakeFlickr(World()).stop()


def test_client_that_hangs_up_is_ignored(fake, by_fate, ask, capfd):
    photo = by_fate[Fate.LIVE]
    fake.faults.fail_photo(photo.flickr_id, Fault.SLOW, host=Host.IMAGE, slow_s=0.05)
    hasty = http.client.HTTPConnection(urlsplit(fake.image_url).netloc)
    hasty.request("GET", f"/65535/{photo.flickr_id}_{photo.secret}_z.jpg")
    hasty.close()
    assert ask("flickr.test.echo").status_code == 200
    fake.stop()
    assert "Traceback" not in capfd.readouterr().err


def test_truncated_gzip_is_half_a_stream(fake, session):
    fake.faults.fail_photo(7, Fault.TRUNCATED_GZIP)
    params = {"method": "flickr.photos.getInfo", "api_key": DEMO_KEY, "photo_id": "7", **JSON}
    answer = session.get(fake.api_url, params=params, stream=True)
    with pytest.raises(EOFError):
        gzip.decompress(answer.raw.read(decode_content=False))
