"""What goes wrong at the fake's API, and its counters: FLICKR.md section 5, 9, 10, 11 and 13."""

from __future__ import annotations

import gzip
import re
import socket
import threading
import time

import pytest
import requests

from popq.flickr.fake.faults import Fault, Faults, Host
from popq.flickr.fake.server import DEMO_KEY, FakeFlickr
from popq.flickr.fake.world import Fate

JSON = {"format": "json", "nojsoncallback": "1"}

STOCK_429 = (
    b"<html><body><h1>429 Too Many Requests</h1>\n"
    b"You have sent too many requests in a given amount of time.\n"
    b"</body></html>\n"
)


def info_path(photo_id):
    return (
        f"/services/rest/?method=flickr.photos.getInfo&api_key={DEMO_KEY}"
        f"&photo_id={photo_id}&format=json&nojsoncallback=1"
    )


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
    fake.faults.budget(1, window_s=2, retry_after_s=5)
    assert [ask("flickr.test.echo").status_code for _ in range(2)] == [200, 429]
    time.sleep(2)
    assert ask("flickr.test.echo").status_code == 200


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
