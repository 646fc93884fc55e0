"""The fake image host: renditions by URL, and what it says of images that are not there."""

from __future__ import annotations

import io
import re
from functools import lru_cache

from PIL import Image

from popq.flickr.fake import renditions, reply
from popq.flickr.fake.renditions import ORIGINAL, Cache, Served
from popq.flickr.fake.reply import Reply
from popq.flickr.fake.world import FakePhoto, Fate, World

PLACEHOLDER_PATH = "/pw/images/en-us/photo_unavailable.png"

_FILE = re.compile(
    r"/(?P<server>[0-9]+)/(?P<id>[0-9]{1,20})_(?P<secret>[0-9a-z]+)"
    r"(?:_(?P<size>[a-z]|[0-9]k))??(?P<download>_d)?\.(?P<extension>[a-z]+)"
)
_EMPTY = (("Content-Type", reply.HTML), ("Server", "nginx"))
_CORRUPT_SHARE = 0.6  # of the file that a corrupt image still has


def named(path: str) -> tuple[int | None, str]:
    """Photo's id and kind of request (`size z`) that a path names; (None, "other") otherwise."""
    file = _FILE.fullmatch(path)
    if file is None:
        return None, "other"
    return int(file["id"]), f"size {file['size'] or 'none'}"


def answer(path: str, world: World, files: Cache, *, placeholder_base: str) -> Reply:
    """Answer one GET of the image host; `placeholder_base` is another host's base URL."""
    if path == PLACEHOLDER_PATH:
        return Reply(200, (("Content-Type", "image/png"),), _placeholder())
    file = _FILE.fullmatch(path)
    photo = None if file is None else world.photos.get(int(file["id"]))
    if file is None or photo is None:
        return empty(404)
    fated = _fated(photo, world, placeholder_base)
    if fated is not None:
        return fated
    suffix = file["size"] or ""
    extension = photo.original_format if suffix == ORIGINAL else "jpg"
    known = (photo.server, renditions.secret_of(photo, suffix), extension)
    if (file["server"], file["secret"], file["extension"]) != known:
        return empty(404)
    if suffix in photo.missing_sizes:
        return _unavailable(placeholder_base)
    served = files.serve(photo, suffix)
    return empty(404) if served is None else _image(photo, served, file)


def empty(status: int) -> Reply:
    """Return an error as the image host sends it: no body, and a Content-Type that is no image."""
    return Reply(status, _EMPTY, b"", chunked=False)


def _unavailable(placeholder_base: str) -> Reply:
    location = ("Location", placeholder_base + PLACEHOLDER_PATH)
    return Reply(302, (location, ("Content-Type", reply.HTML)), b"", chunked=False)


def _fated(photo: FakePhoto, world: World, placeholder_base: str) -> Reply | None:
    match photo.fate:
        case Fate.REMOVED | Fate.IMAGE_GONE:
            return empty(world.gone_status)
        case Fate.PRIVATE | Fate.IMAGE_PRIVATE:
            return empty(403)
        case Fate.PLACEHOLDER:
            return _unavailable(placeholder_base)
        case Fate.HTML:
            return reply.web_page()
    return None


def _image(photo: FakePhoto, served: Served, file: re.Match[str]) -> Reply:
    picture, body = served.picture, served.body
    # Flickr goes by the name: a PNG that is called .jpg is announced as a JPEG.
    kind = "jpeg" if file["extension"] == "jpg" else file["extension"]
    headers = [
        ("Content-Type", f"image/{kind}"),
        ("Server", "Jubilee"),
        ("ETag", f'"{photo.secret}.1"'),
        ("Last-Modified", "Mon, 16 Dec 2024 10:00:00 GMT"),
        ("Cache-Control", "public, max-age=31536000"),
        ("Expires", "Tue, 16 Dec 2031 10:00:00 GMT"),
        ("Access-Control-Allow-Origin", "*"),
        ("X-Cache", "Miss from cloudfront"),
        ("x-ttdb-l", str(len(body))),
    ]
    if picture is not None:
        # One more than the file has, as recorded: a client must decode to know.
        headers.append(("imagewidth", str(picture.width + 1)))
        headers.append(("imageheight", str(picture.height)))
    if file["download"]:
        name = file[0].rpartition("/")[2].replace("_d.", ".")
        headers.append(("Content-Disposition", f"attachment; filename={name}"))
    if photo.robots is not None:
        headers.append(("X-Robots-Tag", photo.robots))
    if photo.fate is Fate.CORRUPT:
        body = body[: int(len(body) * _CORRUPT_SHARE)]
    return Reply(200, tuple(headers), body)


@lru_cache(maxsize=1)
def _placeholder() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (500, 374), (240, 240, 240)).save(out, "PNG")
    return out.getvalue()
