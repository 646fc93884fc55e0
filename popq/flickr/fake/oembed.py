"""The fake www.flickr.com, of which only oEmbed is served: a photo's address without a key.

The JSON is as recorded (FLICKR.md 1.10). XML without `format`, and what is said of missing and
private photos, follow the oEmbed standard: nothing of it was recorded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as ET

from popq.errors import BadLink
from popq.flickr.fake import photos, renditions
from popq.flickr.fake.renditions import Picture, Rendition
from popq.flickr.fake.reply import HTML, Reply
from popq.flickr.fake.world import FakePhoto, Fate, World
from popq.flickr.urls import encode_short, page_url, parse

OEMBED_PATH = "/services/oembed/"

_LONG_EDGE = 1024  # nothing above it is given
_CREATIVE = "https://creativecommons.org"
#: Flickr's licence numbers: what each is called and where it stands.
_LICENCES = {
    0: ("All Rights Reserved", ""),
    1: ("Attribution-NonCommercial-ShareAlike License", f"{_CREATIVE}/licenses/by-nc-sa/2.0/"),
    2: ("Attribution-NonCommercial License", f"{_CREATIVE}/licenses/by-nc/2.0/"),
    3: ("Attribution-NonCommercial-NoDerivs License", f"{_CREATIVE}/licenses/by-nc-nd/2.0/"),
    4: ("Attribution License", f"{_CREATIVE}/licenses/by/2.0/"),
    5: ("Attribution-ShareAlike License", f"{_CREATIVE}/licenses/by-sa/2.0/"),
    6: ("Attribution-NoDerivs License", f"{_CREATIVE}/licenses/by-nd/2.0/"),
}


def photo_id(params: Mapping[str, str]) -> int | None:
    """Id of the photo page that `url` names; None if it names none."""
    try:
        return parse(params.get("url", "")).flickr_id
    except BadLink:
        return None


def answer(params: Mapping[str, str], world: World, *, image_base: str) -> Reply:
    """Answer one oEmbed request, in JSON for `format=json`, else in XML."""
    wanted = params.get("format", "xml")
    if wanted not in {"json", "xml"}:
        return _refusal(501)
    photo = world.photos.get(photo_id(params) or 0)
    if photo is None or photo.fate is Fate.REMOVED:
        return _refusal(world.oembed_missing_status)
    if photo.fate is Fate.PRIVATE:
        return _refusal(world.oembed_private_status)
    card = _card(photo, params, image_base)
    if wanted == "json":
        text = json.dumps(card, separators=(",", ":")).replace("/", "\\/")
        return Reply(200, _headers("application/json"), text.encode())
    root = ET.Element("oembed")
    for name, value in card.items():
        ET.SubElement(root, name).text = str(value)
    ET.indent(root, "\t")
    xml = b'<?xml version="1.0" encoding="utf-8" standalone="yes"?>\n' + ET.tostring(root)
    return Reply(200, _headers("text/xml; charset=utf-8"), xml)


def _headers(kind: str) -> tuple[tuple[str, str], ...]:
    return (("Content-Type", kind), ("Server", "openresty"), ("Vary", "Accept-Encoding"))


def _refusal(status: int) -> Reply:
    return Reply(status, (("Content-Type", HTML), ("Server", "openresty")), b"", chunked=False)


def _card(photo: FakePhoto, params: Mapping[str, str], image_base: str) -> dict[str, Any]:
    owner = photo.path_alias or photo.owner
    page = f"{page_url(photo.flickr_id, owner)}/"
    video = photo.fate is Fate.VIDEO
    card: dict[str, Any] = {
        "type": "video" if video else "photo",
        "flickr_type": photo.media,
        "title": photo.title,
        "author_name": f"user {photo.owner}",
        "author_url": f"https://www.flickr.com/photos/{owner}/",
    }
    picture = renditions.look(photo.image())
    source = photos.source_url(photo, image_base, "z")
    if picture is not None:
        size = _fitting(photo, picture, params)
        source = photos.source_url(photo, image_base, size.suffix)
        card["width"], card["height"] = renditions.shown_size(size, picture)
    if not video:  # the standard gives a video no url
        card["url"] = source
    licence, licence_url = _LICENCES.get(photo.licence, (f"License {photo.licence}", ""))
    return card | {
        "web_page": page,
        "thumbnail_url": photos.source_url(photo, image_base, "q"),
        "thumbnail_width": 150,
        "thumbnail_height": 150,
        "web_page_short_url": f"https://flic.kr/p/{encode_short(photo.flickr_id)}",
        "license": licence,
        "license_id": str(photo.licence),
        "license_url": licence_url,
        "html": f'<a data-flickr-embed="true" href="{page}"><img src="{source}"></a>',
        "version": "1.0",
        "cache_age": 3600,
        "provider_name": "Flickr",
        "provider_url": "https://www.flickr.com/",
    }


def _fitting(photo: FakePhoto, picture: Picture, params: Mapping[str, str]) -> Rendition:
    """Return the largest uncropped size inside `maxwidth`, `maxheight` and 1024 pixels."""
    most = [_pixels(params, name) for name in ("maxwidth", "maxheight")]
    sizes = [size for size in renditions.available(photo, picture) if not size.square]
    fitting = [
        size
        for size in sizes
        if size.long_edge <= _LONG_EDGE
        and all(
            pixels <= limit
            for pixels, limit in zip(renditions.shown_size(size, picture), most, strict=True)
        )
    ]
    return max(fitting or sizes[:1], key=lambda size: size.long_edge)


def _pixels(params: Mapping[str, str], name: str) -> int:
    text = params.get(name, "")
    return int(text[:9]) if text.isascii() and text.isdigit() else _LONG_EDGE
