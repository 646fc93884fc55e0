"""The client against the fake Flickr, over real sockets."""

from __future__ import annotations

import gzip
import logging
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popq.errors import (
    Misconfigured,
    Outcome,
    Permanent,
    PopqError,
    Throttled,
    Transient,
    retry_after_s,
)
from popq.flickr import answers
from popq.flickr.client import USER_AGENT, FlickrClient
from popq.flickr.fake.faults import Fault
from popq.flickr.fake.server import DEMO_KEY, DEMO_SECRET
from popq.flickr.fake.world import Dialect, Fate


@pytest.mark.parametrize("dialect", list(Dialect))
def test_photo_info_in_both_dialects(client, world, by_fate, dialect):
    world.dialect = dialect
    photo = by_fate[Fate.LIVE]
    info = client.photo_info(photo.flickr_id)
    assert info.flickr_id == photo.flickr_id
    assert (info.owner, info.server, info.secret) == ("12345678@N00", "65535", "0123456789")
    assert info.title == "Ein Café '42' 🎈"
    assert info.tags == ("blue", "sky/2")
    assert (info.views, info.licence, info.posted_at) == (18043, 4, photo.posted_at)
    assert (info.taken_at, info.media) == ("2015-01-01 00:00:00", "photo")


def test_zero_date_is_unknown(client, by_fate):
    photo = by_fate[Fate.LIVE]
    photo.taken_at = "0000-01-01 00:00:00"
    assert client.photo_info(photo.flickr_id).taken_at is None


def test_video_comes_back_as_video(client, by_fate):
    photo = by_fate[Fate.VIDEO]
    assert client.photo_info(photo.flickr_id).media == "video"
    assert [size.media for size in client.sizes(photo.flickr_id)][-1] == "video"


def test_sizes_in_both_dialects(client, world, by_fate):
    photo = by_fate[Fate.LIVE]
    strings = client.sizes(photo.flickr_id)
    world.dialect = Dialect.INTS
    assert client.sizes(photo.flickr_id) == strings
    medium = next(size for size in strings if size.label == "Medium 640")
    assert (medium.width, medium.height, medium.media) == (640, 427, "photo")
    assert medium.source.endswith(f"/65535/{photo.flickr_id}_0123456789_z.jpg")


def test_key_that_works(client):
    client.check_key()


def test_key_without_secret_calls_unsigned(connect, fake, by_fate):
    client = connect(secret="")
    assert client.photo_info(by_fate[Fate.LIVE].flickr_id).server == "65535"
    assert list(fake.counters()["calls_per_key_and_second"]) == [DEMO_KEY]


@pytest.mark.parametrize(
    ("key", "secret"), [("0" * 32, "x"), (DEMO_KEY, "wrong"), ("0" * 32, ""), ("é", "ü")]
)
def test_wrong_key_or_secret_is_misconfigured(connect, key, secret):
    with pytest.raises(Misconfigured) as caught:
        connect(key, secret).check_key()
    assert key not in str(caught.value)


def test_no_key_is_misconfigured():
    with pytest.raises(Misconfigured):
        FlickrClient("", "s", api_url="http://x/", connect_timeout_s=1, read_timeout_s=1)


def test_disabled_key_is_misconfigured(client, fake):
    fake.faults.disable_key(DEMO_KEY)
    with pytest.raises(Misconfigured, match="expired"):
        client.check_key()
    fake.faults.enable_key(DEMO_KEY)
    client.check_key()


@pytest.mark.parametrize(
    ("fate", "private_code", "outcome"),
    [
        (Fate.REMOVED, 1, Outcome.NOT_FOUND),
        (Fate.PRIVATE, 1, Outcome.NOT_FOUND),
        (Fate.PRIVATE, 2, Outcome.PRIVATE),
    ],
)
def test_lost_photos_are_permanent(client, world, fate, private_code, outcome):
    world.private_code = private_code
    lost = next(photo.flickr_id for photo in world.photos.values() if photo.fate is fate)
    for world.string_codes in (False, True):
        for ask in (client.photo_info, client.sizes):
            with pytest.raises(Permanent) as caught:
                ask(lost)
            assert caught.value.outcome is outcome


@pytest.mark.parametrize(
    "fault",
    [
        Fault.ERROR_500,
        Fault.ERROR_502,
        Fault.ERROR_504,
        Fault.CODE_105,
        Fault.CODE_201,
        Fault.CODE_0,
        Fault.CODE_STRING,
        Fault.TRAILING_COMMA,
        Fault.HTML_200,
        Fault.EMPTY,
        Fault.RESET,
        Fault.CLOSE,
        Fault.CUT,
        Fault.TRUNCATED_GZIP,
    ],
)
def test_faults_are_transient_and_the_next_call_works(client, fake, by_fate, fault):
    photo = by_fate[Fate.LIVE]
    fake.faults.fail_photo(photo.flickr_id, fault)
    with pytest.raises(Transient):
        client.photo_info(photo.flickr_id)
    assert client.photo_info(photo.flickr_id).server == "65535"
    assert fake.counters()["api_calls_per_photo"][str(photo.flickr_id)] == 2


@pytest.mark.parametrize("fault", [Fault.SLOW, Fault.SLOW_BODY])
def test_slow_answer_is_transient(connect, fake, by_fate, fault):
    photo = by_fate[Fate.LIVE]
    fake.faults.fail_photo(photo.flickr_id, fault, slow_s=30)
    with pytest.raises(Transient):
        connect(read_timeout_s=0.2).photo_info(photo.flickr_id)


def test_an_answer_that_drips_ends_with_the_time_of_the_call(connect, fake, by_fate):
    """Each byte comes well within the read time-out; the whole would come, in its own time."""
    photo = by_fate[Fate.LIVE]
    fake.faults.fail_photo(photo.flickr_id, Fault.DRIP, slow_s=0.1)
    with pytest.raises(Transient, match="did not answer in time"):
        connect(total_timeout_s=0.3).photo_info(photo.flickr_id)


@pytest.mark.parametrize("packed", [False, True])
def test_an_answer_without_end_is_transient(canned, packed):
    client, answer = canned
    body = b" " * (answers.MAX_BYTES + 1) + b"{}"
    headers = [("Content-Encoding", "gzip")] if packed else ()
    answer(gzip.compress(body) if packed else body, headers=headers)
    with pytest.raises(Transient, match="more than 8,000,000 bytes"):
        client.check_key()


def test_nobody_listens_is_transient(connect):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, never listening
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/services/rest/"
        with pytest.raises(Transient, match="ConnectionError"):
            connect(api_url=url).check_key()


@pytest.mark.parametrize("url", ["api.flickr.com/x", "ftp://api.flickr.com/", "http://"])
def test_unusable_url_is_misconfigured(connect, url):
    with pytest.raises(Misconfigured, match="POPQ_FLICKR_API_URL"):
        connect(api_url=url).check_key()


@pytest.mark.parametrize("wait", [None, 30])
def test_429_throttles_the_key(client, fake, by_fate, wait):
    fake.faults.budget(2, window_s=3600, retry_after_s=wait)
    client.check_key()
    client.check_key()
    with pytest.raises(Throttled) as caught:
        client.photo_info(by_fate[Fate.LIVE].flickr_id)
    assert caught.value.host == client.host
    assert caught.value.retry_after_s == wait


def test_host_names_the_key_without_giving_it_away(connect):
    client = connect()
    assert client.host != connect(secret="other").host  # a corrected secret is another key
    assert client.host != connect("f" * 32).host
    assert client.host.startswith("flickr-api-")
    assert len(client.host) == len("flickr-api-1a2b3c4d")


def test_key_and_secret_are_in_no_log_and_no_repr(connect, caplog, by_fate):
    caplog.set_level(logging.DEBUG)
    client = connect()
    client.photo_info(by_fate[Fate.LIVE].flickr_id)
    with pytest.raises(Misconfigured) as caught:
        connect(secret="wrongwrongwrong").check_key()
    shown = [caplog.text, repr(client), repr(vars(client)), str(caught.value)]
    for text in shown:
        assert DEMO_KEY not in text
        assert DEMO_SECRET not in text.replace(DEMO_KEY, "")
        assert "wrongwrongwrong" not in text


def test_threads_share_one_client(client, fake, by_fate):
    photo = by_fate[Fate.LIVE]
    with ThreadPoolExecutor(8) as pool:
        infos = list(pool.map(client.photo_info, [photo.flickr_id] * 80))
    assert len({info.secret for info in infos}) == 1
    counts = fake.counters()
    assert counts["duplicate_nonces"] == 0
    assert counts["user_agents"] == {USER_AGENT: 80}
    assert counts["statuses"]["api"] == {"200": 80}
    assert 1 <= counts["max_concurrency"]["api"] <= 8


PHOTO = {"id": "5", "server": 65535, "secret": "0123456789"}


def test_smallest_answer_that_is_a_photo(canned):
    client, set_answer = canned
    set_answer({"stat": "ok", "photo": PHOTO})
    info = client.photo_info(5)
    assert (info.server, info.secret, info.media, info.tags) == ("65535", "0123456789", "photo", ())
    assert info.owner is info.title is info.views is info.posted_at is info.taken_at is None


def test_odd_members_are_coerced(canned):
    client, set_answer = canned
    set_answer(
        {
            "stat": "ok",
            "photo": PHOTO
            | {
                "title": "bare\0 \ud83d",
                "tags": {"tag": [{"_content": ""}, {"_content": 2016}, "plain", None]},
                "views": -1,
                "license": "four",
                "dates": {"posted": "", "taken": "2017-02-17 00:00:00", "takenunknown": "1"},
                "dateuploaded": "1490376472",
                "owner": {"nsid": None},
            },
        }
    )
    info = client.photo_info(5)
    assert info.title == "bare ?"
    assert info.tags == ("2016", "plain")
    assert info.views is info.licence is info.taken_at is info.owner is None
    assert info.posted_at == 1490376472


def test_an_entity_of_thousands_of_digits_stays_as_it_is(canned):
    client, set_answer = canned
    title = f"&#{'9' * 5000};"
    set_answer({"stat": "ok", "photo": PHOTO | {"title": title}})
    assert client.photo_info(5).title == title


@pytest.mark.parametrize(
    "answer",
    [
        {"stat": "ok"},
        {"stat": "ok", "photo": []},
        {"stat": "ok", "photo": PHOTO | {"server": ""}},
        {"stat": "ok", "photo": PHOTO | {"secret": None}},
        {"stat": "ok", "photo": PHOTO | {"secret": "../x"}},
        {"stat": "ok", "photo": PHOTO | {"id": "6"}},
        {"photo": PHOTO},
        [],
        b"[" * 100_000,
        b"\xff\xfe",
        b"  \n",
    ],
)
def test_malformed_answers_are_transient(canned, answer):
    client, set_answer = canned
    set_answer(answer)
    with pytest.raises(Transient, match="malformed"):
        client.photo_info(5)


def test_malformed_sizes(canned):
    client, set_answer = canned
    set_answer({"stat": "ok", "sizes": {"size": "none"}})
    with pytest.raises(Transient, match="malformed"):
        client.sizes(5)
    broken = {"label": "Small", "source": "http://[oops/5_a_m.jpg"}
    set_answer({"stat": "ok", "sizes": {"size": [{"label": "Large"}, 7, {"source": "x"}, broken]}})
    assert client.sizes(5) == []


def test_redirect_is_not_followed(canned):
    client, set_answer = canned
    set_answer(b"", status=302, headers=[("Location", "http://127.0.0.1:1/")])
    with pytest.raises(Transient) as caught:
        client.check_key()
    assert caught.value.http_status == 302


def test_fail_without_code_is_transient(canned):
    client, set_answer = canned
    set_answer({"stat": "fail"})
    with pytest.raises(Transient):
        client.check_key()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
MEMBERS = ["id", "secret", "server", "owner", "title", "tags", "views", "dates", "license", "media"]


def test_any_json_is_a_photo_or_an_error_of_popq(canned):
    client, set_answer = canned

    @given(st.dictionaries(st.sampled_from(MEMBERS), json_values))
    def check(members):
        set_answer({"stat": "ok", "photo": PHOTO | members})
        with suppress(PopqError):
            assert client.photo_info(5).flickr_id == 5

    check()


@given(st.integers(0, 10**6))
def test_retry_after_in_seconds(seconds):
    assert retry_after_s(f" {seconds} ") == seconds


def test_retry_after_as_a_date():
    past = datetime.now(UTC) - timedelta(hours=1)
    assert retry_after_s(format_datetime(past, usegmt=True)) == 0
    future = datetime.now(UTC) + timedelta(hours=2)
    assert 3600 < retry_after_s(format_datetime(future, usegmt=True)) <= 7200
    assert retry_after_s(future.strftime("%a, %d %b %Y %H:%M:%S -0000")) > 3600


@given(st.none() | st.text())
def test_unreadable_retry_after_is_none_or_a_wait(header):
    wait = retry_after_s(header)
    assert wait is None or wait >= 0


def test_retry_after_with_an_impossible_zone_cannot_be_read():
    assert retry_after_s("Mon, 01 Jan 2024 00:00:00 +99999999999999") is None
