"""The fake's image host, as any HTTP client meets it: FLICKR.md section 5, 14 to 18, by number."""

from __future__ import annotations

import io
from urllib.parse import urlsplit

import pytest
import requests
from PIL import Image, UnidentifiedImageError

from popq.flickr import urls
from popq.flickr.fake.faults import Fault, Host, Rule
from popq.flickr.fake.world import FakePhoto, Fate, Look


def decode(data):
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def add(world, number, data, **members):
    photo = FakePhoto(
        flickr_id=number,
        owner="12345678@N00",
        server="65535",
        secret="aaaaaaaaaa",
        image=lambda: data,
        **members,
    )
    world.add(photo)
    return photo


def sizes(ask, photo):
    return ask("flickr.photos.getSizes", photo_id=photo.flickr_id).json()["sizes"]["size"]


# 14


@pytest.mark.parametrize(
    ("size", "pixels"),
    [
        ("s", (75, 75)),
        ("q", (150, 150)),
        ("t", (100, 67)),
        ("m", (240, 160)),
        ("n", (320, 213)),
        ("w", (400, 267)),
        ("", (500, 333)),
        ("z", (640, 427)),
        ("c", (800, 533)),
        ("b", (1024, 683)),
    ],
)
def test_14_each_size_under_the_shared_secret(fetch, by_fate, size, pixels):
    answer = fetch(by_fate[Fate.LIVE], size)
    assert answer.status_code == 200
    assert decode(answer.content).size == pixels


def test_14_larger_sizes_have_secrets_of_their_own(ask, session, world, picture):
    photo = add(world, 11, picture(2100, 1400))
    rows = {row["label"]: row["source"] for row in sizes(ask, photo)}
    secrets = {
        label: source.rpartition("/")[2].split("_")[1].partition(".")[0]
        for label, source in rows.items()
    }
    shared = {label for label, secret in secrets.items() if secret == photo.secret}
    assert shared == set(rows) - {"Large 1600", "Large 2048", "Original"}
    assert len(set(secrets.values())) == 4
    for source in rows.values():
        assert session.get(source).status_code == 200
    stolen = rows["Large 2048"].replace(secrets["Large 2048"], photo.secret)
    assert session.get(stolen).status_code == 404


def test_14_every_listed_size_is_served_in_its_pixels(ask, session, by_fate):
    for row in sizes(ask, by_fate[Fate.LIVE]):
        shown = decode(session.get(row["source"]).content).size
        assert shown == (int(row["width"]), int(row["height"]))


def test_14_d_asks_for_a_download(fake, session, by_fate):
    photo = by_fate[Fate.LIVE]
    url = urls.image_url(fake.image_url, photo.server, photo.flickr_id, photo.secret, "z")
    answer = session.get(url.replace("_z.jpg", "_z_d.jpg"))
    name = f"{photo.flickr_id}_{photo.secret}_z.jpg"
    assert answer.headers["Content-Disposition"] == f"attachment; filename={name}"
    assert answer.content == session.get(url).content
    assert "Content-Disposition" not in session.get(url).headers


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/",
        "/65535/7_0123456789_z.jpg",  # no such photo
        "/65535/52000000000_9999999999_z.jpg",  # wrong secret
        "/65534/52000000000_0123456789_z.jpg",  # wrong server
        "/65535/52000000000_0123456789_h.jpg",  # larger than the original
        "/65535/52000000000_0123456789_y.jpg",  # no such size
        "/65535/52000000000_0123456789_z.png",  # renditions are JPEG
        "/65535/52000000000_0123456789_o.jpg",  # the original has a secret of its own
        "/65535/52000000000_0123456789_z.jpg/",
    ],
)
def test_14_anything_else_is_an_empty_404(wire, path):
    head, body = wire(path)
    assert head[0] == "HTTP/1.1 404 Not Found"
    assert {"Content-Type: text/html", "Server: nginx", "Content-Length: 0"} <= set(head)
    assert body == b""


def test_14_small_original_is_its_own_z(ask, fetch, world, picture):
    small = add(world, 11, picture(300, 200))
    assert fetch(small, "z").content == small.image()
    assert fetch(small, "c").status_code == 404


def test_14_free_account_and_withheld_original(ask, fetch, world, picture):
    photo = add(world, 11, picture(2100, 1400))
    sources = [row["source"] for row in sizes(ask, photo)[-2:]]
    assert [requests.get(source, timeout=30).status_code for source in sources] == [200, 200]
    photo.downloadable = False
    assert [requests.get(source, timeout=30).status_code for source in sources] == [200, 404]
    photo.free_account = True
    assert [requests.get(source, timeout=30).status_code for source in sources] == [404, 404]
    assert fetch(photo, "b").status_code == 200


# 15


@pytest.mark.parametrize(
    ("fate", "status"),
    [
        (Fate.REMOVED, 410),
        (Fate.IMAGE_GONE, 410),
        (Fate.PRIVATE, 403),
        (Fate.IMAGE_PRIVATE, 403),
        (Fate.VIDEO, 200),
    ],
)
def test_15_status_of_each_fate(fetch, by_fate, fate, status):
    assert fetch(by_fate[fate]).status_code == status


def test_15_deleted_may_be_404(fetch, world, by_fate):
    world.gone_status = 404
    answer = fetch(by_fate[Fate.IMAGE_GONE])
    assert (answer.status_code, answer.content) == (404, b"")


def test_15_placeholder_is_a_picture_on_another_host(fake, fetch, session, by_fate):
    answer = fetch(by_fate[Fate.PLACEHOLDER])
    assert answer.status_code == 302
    target = urlsplit(answer.headers["Location"])
    assert target.hostname not in fake.image_url
    assert target.path == "/pw/images/en-us/photo_unavailable.png"
    picture = session.get(fake.image_url + target.path)
    assert (picture.status_code, picture.headers["Content-Type"]) == (200, "image/png")
    assert decode(picture.content).format == "PNG"


def test_15_placeholder_for_one_size_alone(fetch, by_fate):
    photo = by_fate[Fate.LIVE]
    photo.missing_sizes = frozenset({"z"})
    assert [fetch(photo, size).status_code for size in ("z", "c", "q")] == [302, 200, 200]


def test_15_forbidden_then_served(fake, fetch, by_fate):
    photo = by_fate[Fate.LIVE]
    fake.faults.fail_photo(photo.flickr_id, Fault.FORBIDDEN, host=Host.IMAGE)
    assert [fetch(photo).status_code for _ in range(2)] == [403, 200]


def test_15_secret_is_rotated(ask, fetch, by_fate):
    photo = by_fate[Fate.LIVE]
    old, photo.secret = photo.secret, "9999999999"
    assert fetch(photo, secret=old).status_code == 404
    told = ask("flickr.photos.getInfo", photo_id=photo.flickr_id).json()["photo"]["secret"]
    assert fetch(photo, secret=told).status_code == 200


# 16


def test_16_headers_as_recorded(wire, by_fate):
    photo = by_fate[Fate.LIVE]
    path = f"/65535/{photo.flickr_id}_{photo.secret}_c_d.jpg"
    head, body = wire(path, "Accept-Encoding: gzip")
    values = dict(line.split(": ", 1) for line in head[1:])
    assert head[0] == "HTTP/1.1 200 OK"
    assert values["Content-Type"] == "image/jpeg"
    assert values["Transfer-Encoding"] == "chunked"
    assert values["Server"] == "Jubilee"
    assert values["Cache-Control"] == "public, max-age=31536000"
    assert values["Access-Control-Allow-Origin"] == "*"
    assert values["X-Cache"] == "Miss from cloudfront"
    assert {"ETag", "Last-Modified", "Expires"} <= set(values)
    absent = {"Content-Length", "Accept-Ranges", "Content-MD5", "Content-Encoding", "X-Robots-Tag"}
    assert not absent & set(values)
    length, _, rest = body.partition(b"\r\n")
    assert int(length, 16) == int(values["x-ttdb-l"]) == len(rest) - len(b"\r\n0\r\n\r\n")
    # The recorded header said one pixel more than the file had.
    assert (values["imagewidth"], values["imageheight"]) == ("801", "533")


def test_16_robots_tag_by_switch(fetch, by_fate):
    photo = by_fate[Fate.LIVE]
    photo.robots = "noai, noindex"
    assert fetch(photo).headers["X-Robots-Tag"] == "noai, noindex"


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.CUT_CHUNKED])
def test_16_cut_image_breaks_its_promise(fake, fetch, by_fate, fault):
    photo = by_fate[Fate.LIVE]
    fake.faults.fail_photo(photo.flickr_id, fault, host=Host.IMAGE)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        fetch(photo)
    assert fetch(photo).status_code == 200


def test_16_content_length_that_is_too_short(fake, fetch, by_fate):
    photo = by_fate[Fate.LIVE]
    whole = fetch(photo).content
    fake.faults.fail_photo(photo.flickr_id, Fault.SHORT_LENGTH, host=Host.IMAGE)
    half = fetch(photo)
    assert half.headers["Content-Length"] == str(len(whole) // 2)
    assert half.content == whole[: len(whole) // 2]


def test_16_truncated_file_in_a_whole_answer(fetch, by_fate):
    answer = fetch(by_fate[Fate.CORRUPT])
    assert answer.status_code == 200
    with pytest.raises(OSError, match="truncated"):
        decode(answer.content)


@pytest.mark.parametrize("fault", [Fault.SLOW, Fault.SLOW_HEADERS, Fault.SLOW_BODY, Fault.DRIP])
def test_16_slow_image_arrives_whole(fake, fetch, by_fate, fault):
    photo = by_fate[Fate.LIVE]
    fake.faults.fail_photo(photo.flickr_id, fault, host=Host.IMAGE, slow_s=0.001)
    assert decode(fetch(photo).content).size == (640, 427)


# 17


def test_17_429_after_so_many_files_for_so_long(fake, fetch, ask, by_fate):
    rule = Rule(
        faults=(Fault.RATE_LIMITED,), host=Host.IMAGE, budget=3, window_s=3600, lasts_s=3600
    )
    fake.faults.add(rule)
    photo = by_fate[Fate.LIVE]
    assert [fetch(photo).status_code for _ in range(5)] == [200] * 3 + [429] * 2
    answer = fetch(photo)
    assert answer.url.endswith(".jpg")
    assert answer.headers["Content-Type"] == "text/html"
    assert answer.content.startswith(b"<html><body><h1>429 Too Many Requests</h1>")
    assert len(answer.content) == 117
    assert ask("flickr.test.echo").status_code == 200


def test_17_429_is_over_after_its_time(fake, fetch, by_fate):
    rule = Rule(faults=(Fault.RATE_LIMITED,), host=Host.IMAGE, budget=2, lasts_s=0)
    fake.faults.add(rule)
    photo = by_fate[Fate.LIVE]
    assert [fetch(photo).status_code for _ in range(6)] == [200, 200, 429, 200, 200, 429]


def test_17_one_client_s_limit_is_not_another_s(fake, by_fate):
    fake.faults.budget(1, window_s=3600, host=Host.IMAGE)
    photo = by_fate[Fate.LIVE]
    path = f"/65535/{photo.flickr_id}_{photo.secret}_z.jpg"

    def get(source):
        with requests.Session() as session:
            session.trust_env = False
            session.get_adapter("http://").init_poolmanager(1, 1, source_address=(source, 0))
            return session.get(fake.image_url + path).status_code

    assert [get("127.0.0.1"), get("127.0.0.1"), get("127.0.0.2")] == [200, 429, 200]


# 18


LOOKS = {
    Look.PLAIN: ("JPEG", "RGB", (640, 427)),
    Look.APP13_FIRST: ("JPEG", "RGB", (640, 427)),
    Look.PROGRESSIVE: ("JPEG", "RGB", (640, 427)),
    Look.CMYK: ("JPEG", "CMYK", (640, 427)),
    Look.GREY: ("JPEG", "L", (640, 427)),
    Look.ROTATED: ("JPEG", "RGB", (427, 640)),
    Look.PNG: ("PNG", "RGBA", (640, 427)),
    Look.PNG_16_BIT: ("PNG", "I;16", (640, 427)),
    Look.GIF: ("GIF", "P", (640, 427)),
    Look.ONE_PIXEL: ("JPEG", "RGB", (1, 1)),
    Look.HUGE: ("JPEG", "RGB", (8660, 5775)),
    Look.RESTLESS: ("JPEG", "RGB", (640, 427)),
}


@pytest.mark.parametrize("look", list(Look))
def test_18_odd_files(fetch, by_fate, look):
    photo = by_fate[Fate.LIVE]
    photo.look = look
    answer = fetch(photo)
    assert answer.headers["Content-Type"] == "image/jpeg"
    with Image.open(io.BytesIO(answer.content)) as image:
        assert (image.format, image.mode, image.size) == LOOKS[look]
        if look is Look.PROGRESSIVE:
            assert image.info["progressive"]
        if look is Look.ROTATED:
            assert image.getexif()[0x0112] == 6
        if look is Look.GIF:
            assert image.n_frames == 2
        if look is not Look.HUGE:
            image.load()


def test_18_photoshop_block_before_jfif(fetch, by_fate):
    photo = by_fate[Fate.LIVE]
    photo.look = Look.APP13_FIRST
    data = fetch(photo).content
    assert data[:4] == b"\xff\xd8\xff\xed"
    assert data.index(b"Photoshop 3.0") < data.index(b"JFIF")


def test_18_other_bytes_of_the_same_picture(fetch, by_fate):
    photo = by_fate[Fate.LIVE]
    photo.look = Look.RESTLESS
    first, second = fetch(photo).content, fetch(photo).content
    assert first != second
    assert decode(first).tobytes() == decode(second).tobytes()


def test_18_bytes_may_change_altogether(fetch, world, picture):
    versions = iter([picture(64, 64), picture(65, 64), picture(65, 64)])
    photo = add(world, 11, b"")
    photo.image = lambda: next(versions)
    first, second, third = (fetch(photo).content for _ in range(3))
    assert first != second == third


@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "CMYK"), ("JPEG", "L"), ("PNG", "RGBA"), ("GIF", "P")]
)
def test_18_renditions_of_odd_originals_are_rgb_jpeg(fetch, world, picture, kind, mode):
    photo = add(world, 11, picture(700, 400, kind, mode), original_format=kind.lower())
    image = decode(fetch(photo, "z").content)
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (640, 366))
    small = add(world, 12, picture(70, 40, "PNG", "RGBA"))
    image = decode(fetch(small).content)
    assert (image.format, image.size) == ("JPEG", (70, 40))


@pytest.mark.parametrize("kind", ["png", "gif"])
def test_18_original_keeps_its_format(ask, session, world, picture, kind):
    data = picture(700, 400, kind.upper(), "P")
    photo = add(world, 11, data, original_format=kind)
    source = sizes(ask, photo)[-1]["source"]
    assert source.endswith(f"_o.{kind}")
    answer = session.get(source)
    assert (answer.content, answer.headers["Content-Type"]) == (data, f"image/{kind}")


def test_18_rotated_original_and_its_upright_renditions(ask, fetch, session, world, picture):
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = add(world, 11, picture(600, 300, exif=exif))
    assert decode(fetch(photo).content).size == (300, 600)
    row = sizes(ask, photo)[-1]
    assert (row["width"], row["height"]) == ("300", "600")
    assert decode(session.get(row["source"]).content).size == (600, 300)


def test_18_page_named_as_a_picture(fetch, by_fate):
    answer = fetch(by_fate[Fate.HTML])
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html")
    assert answer.url.endswith(".jpg")
    with pytest.raises(UnidentifiedImageError):
        decode(answer.content)


def test_18_bytes_that_are_no_image_are_served_as_they_are(fetch, world):
    photo = add(world, 11, b"no image at all")
    assert fetch(photo).content == b"no image at all"
    assert fetch(photo).content == b"no image at all"
    assert fetch(photo, "c").status_code == 404
