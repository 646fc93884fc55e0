"""The fake Flickr's pictures, as any HTTP client meets them: FLICKR.md section 5, 8 and 14-18."""

from __future__ import annotations

import io
from urllib.parse import urlsplit

import pytest
import requests
from PIL import Image, UnidentifiedImageError

from popq.flickr import urls
from popq.flickr.fake.faults import Fault, Host
from popq.flickr.fake.world import FakePhoto, Fate


def decode(response):
    image = Image.open(io.BytesIO(response.content))
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


def labels(answer):
    return [row["label"] for row in answer.json()["sizes"]["size"]]


def test_sizes_follow_the_pixels(ask, session, by_fate):
    answer = ask("flickr.photos.getSizes", photo_id=by_fate[Fate.LIVE].flickr_id)
    assert labels(answer)[-3:] == ["Medium 800", "Large", "Original"]
    rows = answer.json()["sizes"]["size"]
    assert isinstance(rows[0]["width"], int)
    assert rows[-1]["width"] == "1200"
    for row in rows:
        assert decode(session.get(row["source"])).size == (int(row["width"]), int(row["height"]))


def test_small_original_is_its_own_z(ask, fetch, world, picture):
    small = add(world, 11, picture(300, 200))
    assert labels(ask("flickr.photos.getSizes", photo_id=11))[-3:] == [
        "Small",
        "Medium 640",
        "Original",
    ]
    assert fetch(small, "z").content == small.image()
    assert fetch(small, "c").status_code == 404


def test_free_account_withholds_the_large(ask, fetch, world, picture):
    photo = add(world, 11, picture(2100, 1400), downloadable=False)
    answer = ask("flickr.photos.getSizes", photo_id=11)
    assert labels(answer)[-1] == "Large"
    assert answer.json()["sizes"]["candownload"] == 0
    assert "originalsecret" not in ask("flickr.photos.getInfo", photo_id=11).json()["photo"]
    photo.downloadable = True
    source = ask("flickr.photos.getSizes", photo_id=11).json()["sizes"]["size"][-2]["source"]
    assert source.endswith("_k.jpg")
    assert photo.secret not in source
    assert fetch(photo, "b").status_code == 200


def test_slow_answers_arrive_whole(fake, ask, fetch, by_fate):
    photo = by_fate[Fate.LIVE]
    fake.faults.fail_photo(photo.flickr_id, Fault.SLOW, slow_s=0.01)
    assert ask("flickr.photos.getInfo", photo_id=photo.flickr_id).json()["stat"] == "ok"
    fake.faults.fail_photo(photo.flickr_id, Fault.SLOW_BODY, host=Host.IMAGE, slow_s=0.01)
    assert decode(fetch(photo)).size == (640, 427)


# 14 to 18: images


@pytest.mark.parametrize(
    ("size", "pixels"),
    [("z", (640, 427)), ("c", (800, 533)), ("", (500, 333)), ("s", (75, 75)), ("q", (150, 150))],
)
def test_image_in_its_size(fetch, by_fate, size, pixels):
    answer = fetch(by_fate[Fate.LIVE], size)
    assert decode(answer).size == pixels
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert answer.headers["Server"] == "Jubilee"
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert "Content-Length" not in answer.headers
    assert int(answer.headers["x-ttdb-l"]) == len(answer.content)
    assert int(answer.headers["imagewidth"]) == pixels[0] + 1


def test_download_suffix(fake, session, by_fate):
    photo = by_fate[Fate.LIVE]
    url = urls.image_url(fake.image_url, photo.server, photo.flickr_id, photo.secret, "z")
    answer = session.get(url.replace("_z.jpg", "_z_d.jpg"))
    assert answer.headers["Content-Disposition"].startswith("attachment")


def test_wrong_secret_size_or_path_is_an_empty_404(fake, session, fetch, by_fate):
    photo = by_fate[Fate.LIVE]
    old = photo.secret
    photo.secret = "9999999999"  # the secret was rotated
    wrong = [fetch(photo, secret=old), session.get(f"{fake.image_url}/nowhere")]
    wrong.append(session.get(f"{fake.image_url}/65535/{photo.flickr_id}_{photo.secret}_h.jpg"))
    wrong.append(session.get(f"{fake.image_url}/65535/7_0123456789_z.jpg"))
    for answer in wrong:
        assert (answer.status_code, answer.content) == (404, b"")
        assert answer.headers["Content-Type"] == "text/html"
    assert fetch(photo).status_code == 200


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
def test_status_of_each_fate(fetch, by_fate, fate, status):
    assert fetch(by_fate[fate]).status_code == status


def test_gone_may_be_404(fetch, world, by_fate):
    world.gone_status = 404
    assert fetch(by_fate[Fate.IMAGE_GONE]).status_code == 404


def test_placeholder_is_a_picture_on_another_host(fake, fetch, session, by_fate):
    answer = fetch(by_fate[Fate.PLACEHOLDER])
    assert answer.status_code == 302
    target = urlsplit(answer.headers["Location"])
    assert target.hostname not in fake.image_url
    assert target.path == "/pw/images/en-us/photo_unavailable.png"
    picture = session.get(fake.image_url + target.path)
    assert (picture.status_code, decode(picture).format) == (200, "PNG")


def test_corrupt_image_stops_in_the_middle(fetch, by_fate):
    answer = fetch(by_fate[Fate.CORRUPT])
    assert answer.status_code == 200
    with pytest.raises(OSError, match="truncated"):
        decode(answer)


def test_page_named_as_a_picture(fetch, by_fate):
    answer = fetch(by_fate[Fate.HTML])
    assert answer.status_code == 200
    with pytest.raises(UnidentifiedImageError):
        decode(answer)


def test_forbidden_then_served(fake, fetch, by_fate):
    photo = by_fate[Fate.LIVE]
    fake.faults.fail_photo(photo.flickr_id, Fault.FORBIDDEN, host=Host.IMAGE)
    assert [fetch(photo).status_code for _ in range(2)] == [403, 200]


def test_cut_image_breaks_its_promise(fake, fetch, by_fate):
    photo = by_fate[Fate.LIVE]
    fake.faults.fail_photo(photo.flickr_id, Fault.CUT, host=Host.IMAGE)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        fetch(photo)


@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "CMYK"), ("JPEG", "L"), ("PNG", "RGBA"), ("GIF", "P")]
)
def test_odd_originals_come_as_rgb_jpeg(fetch, world, picture, kind, mode):
    photo = add(world, 11, picture(700, 400, kind, mode), original_format=kind.lower())
    image = decode(fetch(photo, "z"))
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (640, 366))
    small = add(world, 12, picture(70, 40, "PNG", "RGBA"))
    assert (decode(fetch(small)).format, decode(fetch(small)).size) == ("JPEG", (70, 40))


def test_original_has_its_own_secret_and_format(ask, session, world, picture):
    data = picture(700, 400, "PNG")
    add(world, 11, data, original_format="png")
    source = ask("flickr.photos.getSizes", photo_id=11).json()["sizes"]["size"][-1]["source"]
    assert source.endswith("_o.png")
    answer = session.get(source)
    assert (answer.content, answer.headers["Content-Type"]) == (data, "image/png")


def test_rotated_original_comes_upright(ask, fetch, world, picture):
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = add(world, 11, picture(600, 300, exif=exif))
    assert decode(fetch(photo)).size == (300, 600)
    row = ask("flickr.photos.getSizes", photo_id=11).json()["sizes"]["size"][-1]
    assert (row["width"], row["height"]) == ("300", "600")


def test_bytes_that_are_no_image_are_served_as_they_are(ask, fetch, world):
    photo = add(world, 11, b"no image at all")
    assert fetch(photo).content == b"no image at all"
    assert fetch(photo, "c").status_code == 404
    assert labels(ask("flickr.photos.getSizes", photo_id=11)) == ["Medium 640"]


def test_bytes_of_one_url_may_change(fetch, world, picture):
    versions = iter([picture(64, 64), picture(65, 64)])
    photo = add(world, 11, b"")
    photo.image = lambda: next(versions)
    assert fetch(photo).content != fetch(photo).content


def test_bug_in_a_photo_is_printed(fake, fetch, by_fate, capfd):
    def no_file():
        raise FileNotFoundError("gone.jpg")

    by_fate[Fate.LIVE].image = no_file
    with pytest.raises(requests.ConnectionError):
        fetch(by_fate[Fate.LIVE])
    fake.stop()
    assert "gone.jpg" in capfd.readouterr().err
