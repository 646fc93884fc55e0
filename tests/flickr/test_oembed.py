"""The oEmbed client against the fake's service, and against answers nobody should send."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popq.errors import Misconfigured, Outcome, Permanent, Throttled, Transient
from popq.flickr import answers
from popq.flickr.client import USER_AGENT
from popq.flickr.fake.faults import Fault, Host
from popq.flickr.fake.world import Fate
from popq.flickr.oembed import HOST, OEmbedClient

ID = 52000000001
GOOD = {
    "type": "photo",
    "flickr_type": "photo",
    "title": "T",
    "url": f"https://live.staticflickr.com/65535/{ID}_0123456789_b.jpg",
    "license_id": "4",
}


def connected(url, **more):
    return OEmbedClient(url, connect_timeout_s=5, read_timeout_s=5, **more)


@pytest.fixture
def oembed(fake):
    with connected(fake.oembed_url) as client:
        yield client


@pytest.fixture(scope="module")
def canned(answering):
    """A client of oEmbed whose answers the test says; gives (client, set_answer)."""
    base, set_answer = answering
    with connected(f"{base}/oembed") as client:
        yield client, set_answer


def test_it_says_where_the_image_is_its_title_and_licence(oembed, by_fate):
    photo = by_fate[Fate.LIVE]
    info = oembed.photo_info(photo.flickr_id)
    assert (info.flickr_id, info.server, info.secret) == (photo.flickr_id, "65535", "0123456789")
    assert (info.title, info.licence, info.media) == ("Ein Café '42' 🎈", 4, "photo")
    unsaid = (info.owner, info.tags, info.views, info.posted_at, info.taken_at)
    assert unsaid == (None, (), None, None, None)


def test_a_video_is_told_from_a_photo(oembed, by_fate):
    assert oembed.photo_info(by_fate[Fate.VIDEO].flickr_id).media == "video"


@pytest.mark.parametrize(
    ("fate", "status", "outcome"),
    [
        (Fate.REMOVED, 404, Outcome.NOT_FOUND),
        (Fate.REMOVED, 410, Outcome.NOT_FOUND),
        (Fate.PRIVATE, 401, Outcome.PRIVATE),
        (Fate.PRIVATE, 403, Outcome.PRIVATE),
        (Fate.PRIVATE, 404, Outcome.NOT_FOUND),
    ],
)
def test_a_photo_that_is_not_shown_is_a_fact_about_it(
    oembed, world, by_fate, fate, status, outcome
):
    world.oembed_missing_status = world.oembed_private_status = status
    with pytest.raises(Permanent) as refused:
        oembed.photo_info(by_fate[fate].flickr_id)
    assert (refused.value.outcome, refused.value.http_status) == (outcome, status)


@pytest.mark.parametrize("fault", [Fault.ERROR_502, Fault.RESET, Fault.EMPTY, Fault.HTML_200])
def test_a_fault_passes(oembed, fake, by_fate, fault):
    photo = by_fate[Fate.LIVE].flickr_id
    fake.faults.fail_photo(photo, fault, times=1, host=Host.WWW)
    with pytest.raises(Transient):
        oembed.photo_info(photo)
    assert oembed.photo_info(photo).flickr_id == photo


def test_an_answer_that_drips_ends_with_the_time_of_the_call(fake, by_fate):
    photo = by_fate[Fate.LIVE].flickr_id
    fake.faults.fail_photo(photo, Fault.DRIP, host=Host.WWW, slow_s=0.1)
    with connected(fake.oembed_url, total_timeout_s=0.3) as oembed, pytest.raises(Transient):
        oembed.photo_info(photo)


def test_an_answer_without_end_is_transient(canned):
    client, answer = canned
    answer(b" " * (answers.MAX_BYTES + 1) + json.dumps(GOOD).encode())
    with pytest.raises(Transient, match="more than 8,000,000 bytes"):
        client.photo_info(ID)


def test_a_429_names_its_host_and_how_long_it_lasts(canned):
    client, answer = canned
    answer(b"<html>", status=429, headers=[("Retry-After", "7")])
    with pytest.raises(Throttled) as throttled:
        client.photo_info(ID)
    assert (throttled.value.host, throttled.value.retry_after_s) == (HOST, 7.0)


def test_the_server_sees_who_asks(oembed, fake, by_fate):
    oembed.photo_info(by_fate[Fate.LIVE].flickr_id)
    assert USER_AGENT in json.dumps(fake.counters())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"url": None}, "no address"),
        ({"url": "https://live.staticflickr.com/nothing.jpg"}, "no address"),
        ({"url": "http://[broken"}, "no address"),
        ({"url": "https://live.staticflickr.com/65535/99_0123456789_b.jpg"}, "another photo"),
    ],
)
def test_an_answer_without_the_photos_address_is_malformed(canned, change, said):
    client, answer = canned
    answer(GOOD | change)
    with pytest.raises(Transient, match=said):
        client.photo_info(ID)


def test_a_thumbnail_says_what_an_originals_address_does_not(canned):
    client, answer = canned
    thumbnail = f"https://live.staticflickr.com/65535/{ID}_0123456789_q.jpg"
    for url in (f"https://live.staticflickr.com/65535/{ID}_aaaaaaaaaa_o.jpg", "http://[broken"):
        answer(GOOD | {"url": url, "thumbnail_url": thumbnail})
        assert client.photo_info(ID).secret == "0123456789"


def test_only_the_path_of_the_image_counts_whatever_host_is_named(canned):
    client, answer = canned
    answer(GOOD | {"url": f"http://169.254.169.254/65535/{ID}_0123456789_b.jpg"})
    assert client.photo_info(ID).server == "65535"


@pytest.mark.parametrize("url", ["gopher://127.0.0.1/", "http://", "no url"])
def test_a_url_that_cannot_be_used_is_a_wrong_setting(url):
    with connected(url) as client, pytest.raises(Misconfigured, match="POPQ_FLICKR_OEMBED_URL"):
        client.photo_info(ID)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(data=st.data())
def test_whatever_it_says_is_an_answer_or_an_error_of_popqs(canned, data):
    client, answer = canned
    body = data.draw(st.binary(max_size=40) | JSON)
    if isinstance(body, dict) or data.draw(st.booleans()):
        changes = data.draw(st.dictionaries(st.sampled_from(sorted(GOOD)), JSON, max_size=3))
        body = GOOD | changes
    status = data.draw(st.sampled_from([200, 200, 200, 301, 400, 401, 404, 429, 500, 503]))
    answer(body, status=status)
    with contextlib.suppress(Transient, Throttled, Permanent):
        assert client.photo_info(ID).flickr_id == ID
