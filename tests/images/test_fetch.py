"""Fetching: what a host may answer, over real sockets, and what it means for the photo."""

from __future__ import annotations

import hashlib
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from odd_host import BODY, client_of

import popq
from popq.errors import Outcome, Permanent, Throttled, Transient
from popq.images.fetch import HOST, ImageClient, forbids


@pytest.mark.parametrize("where", ["photo.jpg", "chunked", "gzip"])
def test_a_photo_comes_whole_with_its_hash(client, server, where):
    fetched = client.fetch(f"{server.url}/{where}")
    assert fetched.sha256 == hashlib.sha256(BODY).hexdigest()
    assert fetched.data == BODY
    assert fetched.content_type == "image/jpeg"


def test_without_a_content_type_decoding_will_tell(client, server):
    assert client.fetch(f"{server.url}/untyped").content_type == ""


def test_the_host_is_told_who_asks(client, server):
    client.fetch(f"{server.url}/photo.jpg")
    _, headers, _ = server.seen[0]
    assert headers["User-Agent"].startswith(f"popq/{popq.__version__} (")
    assert headers["Accept-Encoding"] == "identity"


def test_one_thread_keeps_its_connection(client, server):
    for _ in range(3):
        client.fetch(f"{server.url}/photo.jpg")
    assert len({address for _, _, address in server.seen}) == 1


def test_a_page_instead_of_an_image_may_be_another_time(client, server):
    with pytest.raises(Transient) as caught:
        client.fetch(f"{server.url}/html.jpg")
    assert (caught.value.outcome, caught.value.http_status) == (Outcome.PLACEHOLDER, 200)


def test_many_threads_share_a_client(client, server):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: client.fetch(f"{server.url}/photo.jpg"), range(40)))
    assert {one.sha256 for one in found} == {hashlib.sha256(BODY).hexdigest()}


def test_a_client_that_was_closed_connects_anew(client, server):
    client.fetch(f"{server.url}/photo.jpg")
    client.close()
    assert client.fetch(f"{server.url}/photo.jpg").data == BODY


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("status/404", (Outcome.GONE, 404)),
        ("status/410", (Outcome.GONE, 410)),
        ("status/403", (Outcome.PRIVATE, 403)),
        ("endless", (Outcome.TOO_LARGE, None)),
        ("announced", (Outcome.TOO_LARGE, None)),
        ("bomb", (Outcome.TOO_LARGE, None)),
        ("moved/http://example.invalid/photo.jpg", (Outcome.PLACEHOLDER, 302)),
        ("moved/http://live.staticflickr.com.example.invalid/a.jpg", (Outcome.PLACEHOLDER, 302)),
        ("moved/http://x@live.staticflickr.com/a.jpg", (Outcome.PLACEHOLDER, 302)),
        ("moved/ftp://live.staticflickr.com/a.jpg", (Outcome.PLACEHOLDER, 302)),
        ("talkative", (Outcome.PLACEHOLDER, 302)),
        ("brackets", (Outcome.PLACEHOLDER, 302)),
        ("moved//pw/images/en-us/photo_unavailable.png", (Outcome.PLACEHOLDER, 302)),
        ("hops/4", (Outcome.PLACEHOLDER, None)),
        ("moved/http://127.0.0.1:6379/a.jpg", (Outcome.PLACEHOLDER, 302)),
        ("moved/http://169.254.169.254/latest/meta-data/", (Outcome.PLACEHOLDER, 302)),
        ("moved/http://live.staticflickr.com:22/a.jpg", (Outcome.PLACEHOLDER, 302)),
        ("moved/file:///etc/passwd", (Outcome.PLACEHOLDER, 302)),
        ("robots/noai", (Outcome.PRIVATE, 200)),
        ("robots/popq:%20noindex", (Outcome.PRIVATE, 200)),
    ],
)
def test_a_fact_about_the_photo_is_permanent(client, server, where, expected):
    with pytest.raises(Permanent) as caught:
        client.fetch(f"{server.url}/{where}")
    assert (caught.value.outcome, caught.value.http_status) == expected


@pytest.mark.parametrize(
    ("where", "status"),
    [
        ("status/400", 400),
        ("status/401", 401),
        ("status/408", 408),
        ("status/500", 500),
        ("status/502", 502),
        ("status/504", 504),
        ("status/204", 204),
        ("nowhere", 302),
        ("short", None),
        ("chunked/cut", None),
        ("gzip/cut", 200),
        ("gzip/damaged", None),
        ("brotli", None),
        ("hangup", None),
        ("reset", None),
        ("nonsense", None),
    ],
)
def test_a_fault_that_passes_is_transient(client, server, where, status):
    with pytest.raises(Transient) as caught:
        client.fetch(f"{server.url}/{where}")
    assert caught.value.outcome == Outcome.TRANSIENT
    assert status is None or caught.value.http_status == status


def test_a_host_that_is_not_there_is_transient():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{taken.getsockname()[1]}"
        client = ImageClient(base_url=base, max_bytes=1, connect_timeout_s=30, read_timeout_s=30)
        with client, pytest.raises(Transient, match="refused"):
            client.fetch(f"{base}/photo.jpg")


def test_nothing_is_repeated(client, server):
    for where in ("status/500", "hangup", "429"):
        with pytest.raises((Transient, Throttled)):
            client.fetch(f"{server.url}/{where}")
    assert [seen for seen, _, _ in server.seen] == ["/status/500", "/hangup", "/429"]


def test_a_length_that_no_body_can_have_is_not_believed(client, server):
    assert client.fetch(f"{server.url}/immense").data == BODY


def test_a_429_is_for_the_whole_host(client, server):
    with pytest.raises(Throttled) as caught:
        client.fetch(f"{server.url}/429")
    assert caught.value.host == HOST == "images"
    assert caught.value.retry_after_s is None


def test_a_429_that_is_cut_short_throttles_all_the_same(client, server):
    with pytest.raises(Throttled) as caught:
        client.fetch(f"{server.url}/busy")
    assert caught.value.retry_after_s == 7


@pytest.mark.parametrize(
    ("form", "bounds"),
    [("seconds", (17, 17)), ("date", (1, 90)), ("zoneless", (1, 90)), ("past", (0, 0))],
)
def test_a_429_may_say_how_long(client, server, form, bounds):
    with pytest.raises(Throttled) as caught:
        client.fetch(f"{server.url}/wait/{form}")
    assert bounds[0] <= caught.value.retry_after_s <= bounds[1]


def test_a_wait_that_cannot_be_read_is_none(client, server):
    with pytest.raises(Throttled) as caught:
        client.fetch(f"{server.url}/wait/junk")
    assert caught.value.retry_after_s is None


@pytest.mark.parametrize("where", ["silence", "stall"])
def test_silence_ends_with_the_read_time_out(server, where):
    with client_of(server, read_timeout_s=0.2) as client, pytest.raises(Transient, match="timed"):
        client.fetch(f"{server.url}/{where}")


@pytest.mark.parametrize("where", ["drip", "dripping"])
def test_a_drip_ends_with_the_total_time_out(server, where):
    """Of the body, and of the headers."""
    with client_of(server, total_timeout_s=0.3) as client, pytest.raises(Transient, match="slow"):
        client.fetch(f"{server.url}/{where}")


def test_a_slow_answer_before_the_body_counts_too(server):
    with client_of(server, total_timeout_s=0) as client, pytest.raises(Transient, match="slow"):
        client.fetch(f"{server.url}/photo.jpg")


@pytest.mark.parametrize(
    ("robots", "forbidden"),
    [
        ("noai", True),
        ("NoImageAI", True),
        ("nofollow, noindex", True),
        ("none", True),
        ("unavailable_after: 25 Jun 2030, noai", True),
        ("popq: noai", True),
        ("otherbot: noai, nofollow", False),
        ("otherbot: noai, popq: noindex", True),
        ("all", False),
        ("nofollow, max-snippet: 20", False),
        ("", False),
    ],
)
def test_what_x_robots_tag_forbids(robots, forbidden):
    assert forbids(robots) is forbidden


def test_other_robots_directives_are_not_ours(client, server):
    assert client.fetch(f"{server.url}/robots/otherbot:%20noai").data == BODY


def test_a_short_refusal_keeps_the_connection(client, server):
    """Sizes that are missing are asked for one after the other."""
    for _ in range(3):
        with pytest.raises(Permanent):
            client.fetch(f"{server.url}/status/404")
    assert client.fetch(f"{server.url}/photo.jpg").data == BODY
    assert len({address for _, _, address in server.seen}) == 1
