"""Every accepted shape of a link gives its photo; everything else is refused with a reason."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popq.errors import BadInput, BadLink, Outcome
from popq.flickr import urls
from popq.flickr.urls import PhotoLink, parse

MAX_ID = 2**63 - 1
ids = st.integers(1, MAX_ID)
nsids = st.from_regex(r"[0-9]{5,11}@N[0-9]{2}", fullmatch=True)
aliases = st.from_regex(r"[a-z][A-Za-z0-9_-]{0,30}", fullmatch=True).filter(
    lambda alias: alias not in {"tags", "upload", "organize", "search", "friends"}
)
owners = nsids | aliases

PAGES = [
    "https://www.flickr.com/photos/{owner}/{id}",
    '"https://www.flickr.com/photos/{owner}/{id}"',
    "https://www.flickr.com/photos/{owner}/{id}/",
    "http://www.flickr.com/photos/{owner}/{id}",
    "https://flickr.com/photos/{owner}/{id}/",
    "HTTPS://WWW.Flickr.COM/photos/{owner}/{id}",
    "www.flickr.com/photos/{owner}/{id}",
    "//www.flickr.com/photos/{owner}/{id}",
    "  https://www.flickr.com/photos/{owner}/{id}\r\n",
    "\ufeffhttps://www.flickr.com/photos/{owner}/{id}",
    "https://www.flickr.com/photos/{owner}/{id}/in/photostream/",
    "https://www.flickr.com/photos/{owner}/{id}/in/album-72157/lightbox/",
    "https://www.flickr.com/photos/{owner}/{id}/sizes/l/",
    "https://www.flickr.com/photos/{owner}/{id}?x#y",
    "https://www.flickr.com:443/photos//{owner}//{id}",
    "https://m.flickr.com/photos/{owner}/{id}",
    "https://m.flickr.com/#/photos/{owner}/{id}",
    "https://secure.flickr.com/photos/{owner}/{id}",
]
NO_OWNER = [
    "{id}",
    '"{id}"',
    "https://flic.kr/p/{short}",
    "https://www.flickr.com/photo.gne?id={id}",
    "https://www.flickr.com/photo.gne?short={short}",
    "http://flickr.com/photo_zoom.gne?id={id}&size=o",
]
IMAGES = [
    "https://live.staticflickr.com/{server}/{id}_{secret}.jpg",
    "https://live.staticflickr.com/{server}/{id}_{secret}_z.jpg",
    "https://live.staticflickr.com/{server}/{id}_{secret}_b_d.jpg?zz=1",
    "https://live.staticflickr.com/{server}/{id}_{secret}_d.jpg",
    "http://farm5.staticflickr.com/{server}/{id}_{secret}_c.jpg",
    "http://farm5.static.flickr.com/{server}/{id}_{secret}_m.jpg",
    "https://c2.staticflickr.com/6/{server}/{id}_{secret}_n.jpg",
    "http://static.flickr.com/{server}/{id}_{secret}_t.jpg",
    "http://photos{server}.flickr.com/{id}_{secret}_s.jpg",
]


@pytest.mark.parametrize("shape", PAGES)
@settings(max_examples=25)
@given(flickr_id=ids, owner=owners)
def test_page_round_trips(shape, flickr_id, owner):
    assert parse(shape.format(id=flickr_id, owner=owner)) == PhotoLink(flickr_id, owner)


@pytest.mark.parametrize("shape", NO_OWNER)
@settings(max_examples=25)
@given(flickr_id=ids)
def test_links_without_owner_round_trip(shape, flickr_id):
    text = shape.format(id=flickr_id, short=urls.encode_short(flickr_id))
    assert parse(text) == PhotoLink(flickr_id, None)


@pytest.mark.parametrize("shape", IMAGES)
@settings(max_examples=25)
@given(
    flickr_id=ids,
    server=st.integers(1, 65535).map(str),
    secret=st.from_regex(r"[0-9a-f]{10}", fullmatch=True),
)
def test_image_url_gives_server_and_secret(shape, flickr_id, server, secret):
    text = shape.format(id=flickr_id, server=server, secret=secret)
    assert parse(text) == PhotoLink(flickr_id, None, server, secret)


@pytest.mark.parametrize("suffix", ["o", "h", "k", "3k"])
def test_secret_of_another_rendition_is_not_taken_for_the_photos(suffix):
    link = parse(f"https://live.staticflickr.com/65535/52000000001_0123456789_{suffix}.jpg")
    assert link == PhotoLink(52000000001, None, "65535", None)


@given(flickr_id=ids, owner=owners | st.none())
def test_page_url_round_trips(flickr_id, owner):
    assert parse(urls.page_url(flickr_id, owner)) == PhotoLink(flickr_id, owner)


@given(flickr_id=ids, size=st.sampled_from(sorted(urls.SHARED_SECRET_SIZES)))
def test_image_url_round_trips(flickr_id, size):
    text = urls.image_url("https://live.staticflickr.com", "65535", flickr_id, "0123456789", size)
    assert parse(text) == PhotoLink(flickr_id, None, "65535", "0123456789")


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("", Outcome.EMPTY),
        (' \t"" ', Outcome.EMPTY),
        ("https://www.flickr.com/photos/alias/sets/72157600000000001/", Outcome.ALBUM),
        ("https://www.flickr.com/photos/alias/albums/72157600000000001", Outcome.ALBUM),
        ("https://flic.kr/s/aHsk", Outcome.ALBUM),
        ("https://www.flickr.com/photos/alias", Outcome.USER),
        ("https://www.flickr.com/photos/alias/page3", Outcome.USER),
        ("https://www.flickr.com/people/12345678@N00/", Outcome.USER),
        ("https://flic.kr/ps/abc", Outcome.USER),
        ("https://www.flickr.com/gp/alias/x7k", Outcome.GUEST_PASS),
        ("https://www.flickr.com/photos/alias/123/play/site/0123456789/", Outcome.VIDEO),
        ("https://live.staticflickr.com/video/123/0123456789/700.mp4?s=e", Outcome.VIDEO),
        ("https://www.flickr.com/photos/alias/galleries/7215/", Outcome.NOT_FLICKR),
        ("https://www.flickr.com/photos/tags/2016/", Outcome.NOT_FLICKR),
        ("https://www.flickr.com/photos/upload", Outcome.NOT_FLICKR),
        ("https://www.flickr.com/groups/abc/", Outcome.NOT_FLICKR),
        ("https://www.flickr.com/", Outcome.NOT_FLICKR),
        ("https://www.flickr.com/photo.gne?x=1", Outcome.NOT_FLICKR),
        ("https://flic.kr/", Outcome.NOT_FLICKR),
        ("https://flic.kr/p/0OIl", Outcome.NOT_FLICKR),
        ("https://flic.kr/p/" + "Z" * 11, Outcome.NOT_FLICKR),
        ("https://flic.kr/p/" + "2" * 50, Outcome.NOT_FLICKR),
        ("https://flic.kr/zz/abc", Outcome.NOT_FLICKR),
        ("https://example.com/photos/alias/123", Outcome.NOT_FLICKR),
        ("https://evil.com/?https://www.flickr.com/photos/alias/123", Outcome.NOT_FLICKR),
        ("https://www.flickr.com@evil.com/photos/alias/123", Outcome.NOT_FLICKR),
        ("https://live.staticflickr.com/65535/nonsense.jpg", Outcome.NOT_FLICKR),
        ("https://live.staticflickr.com/65535/", Outcome.NOT_FLICKR),
        ("0", Outcome.NOT_FLICKR),
        (str(2**63), Outcome.NOT_FLICKR),
        ("1" * 5000, Outcome.NOT_FLICKR),
        ("٣٤٥٦٧٨٩", Outcome.NOT_FLICKR),
        ("https://www.flickr.com/photos/alias/٣٤٥", Outcome.USER),
        ("https://www.flickr.com/photos/al ias/123", Outcome.NOT_FLICKR),
        ("https://www.flickr.com/photos/alias/0", Outcome.NOT_FLICKR),
        ("https://www.flickr.com/photo.gne?id=-5", Outcome.NOT_FLICKR),
    ],
)
def test_refused_with_its_reason(text, outcome):
    with pytest.raises(BadLink) as caught:
        parse(text)
    assert caught.value.outcome is outcome
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "text", ["train/59@N75/775.jpg", "59@N75/775", "train/59@N75/775", "test/1@N1/2.JPG"]
)
def test_anonymised_path_is_no_photo(text):
    with pytest.raises(BadLink, match="anonymised") as caught:
        parse(text)
    assert caught.value.outcome is Outcome.NOT_FLICKR


def test_page_with_an_anonymised_owner_is_no_photo():
    with pytest.raises(BadLink, match="NSID") as caught:
        parse("https://www.flickr.com/photos/59@N75/775")
    assert caught.value.outcome is Outcome.NOT_FLICKR


def test_encoded_nsid_is_read():
    link = parse("https://www.flickr.com/photos/12345678%40N00/123")
    assert link == PhotoLink(123, "12345678@N00")


@given(st.text())
def test_any_text_parses_or_is_refused(text):
    with suppress(BadLink):
        assert 0 < parse(text).flickr_id <= MAX_ID


@given(
    st.sampled_from(
        ["https://www.flickr.com/", "flic.kr/p/", "//live.staticflickr.com/", "[", "//"]
    ),
    st.text(alphabet='photos/.gne?id=short&#@N0123_z%[]:"٣', max_size=40),
)
def test_any_near_miss_parses_or_is_refused(start, rest):
    with suppress(BadLink):
        assert 0 < parse(start + rest).flickr_id <= MAX_ID


@given(ids)
def test_short_code_round_trips(flickr_id):
    assert urls.decode_short(urls.encode_short(flickr_id)) == flickr_id


def test_short_code_as_flickr_has_it():
    assert urls.decode_short("2p4QbKN") == 53208249252
    assert urls.encode_short(53208249252) == "2p4QbKN"


def test_no_short_code_below_one():
    with pytest.raises(BadInput):
        urls.encode_short(0)


def test_image_url_as_flickr_has_it():
    base = "https://live.staticflickr.com"
    assert urls.image_url(base, "65535", 5, "abc", "z") == f"{base}/65535/5_abc_z.jpg"
    assert urls.image_url(base, "65535", 5, "abc", "") == f"{base}/65535/5_abc.jpg"
    with pytest.raises(BadInput):
        urls.image_url(base, "65535", 5, "abc", "o")


def test_fallback_starts_at_the_preferred_size():
    assert urls.fallback("z") == ("z", "c", "b", "", "w", "n")
    assert urls.fallback("") == ("", "z", "c", "b", "w", "n")
    assert urls.fallback("q") == ("q", *urls.SIZES)
    with pytest.raises(BadInput):
        urls.fallback("k")
