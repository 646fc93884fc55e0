"""The fake Flickr's REST API: test.echo, photos.getInfo and photos.getSizes, in XML and JSON.

Shapes, names and types follow the recorded answers of FLICKR.md 1.1 to 1.5.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as ET

from popq.flickr.fake import renditions
from popq.flickr.fake.accounts import Call, Caller, key_trouble, refuse_signature
from popq.flickr.fake.faults import Faults
from popq.flickr.fake.renditions import ORIGINAL
from popq.flickr.fake.reply import Reply
from popq.flickr.fake.world import Dialect, FakePhoto, Fate, World

_FORMATS = frozenset({"rest", "json"})
_CALLBACK = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_PAGES = "https://www.flickr.com/photos"


class _FailError(Exception):
    """An answer with stat="fail": Flickr's code and message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def photo_id(params: Mapping[str, str]) -> int | None:
    """Id that the parameters name, None without a usable one."""
    text = params.get("photo_id", "")
    return int(text) if re.fullmatch(r"[0-9]{1,20}", text) else None


def answer(
    call: Call,
    params: Mapping[str, str],
    caller: Caller,
    *,
    world: World,
    keys: Mapping[str, str],
    faults: Faults,
    image_base: str,
) -> Reply:
    """Answer one API call; `image_base` is what image URLs start with."""
    refused = refuse_signature(call, caller, keys)
    if refused is not None:
        return refused
    try:
        _check(params, key_trouble(caller, keys, faults))
        payload = {**_dispatch(params, world, image_base), "stat": "ok"}
    except _FailError as fail:
        code: int | str = str(fail.code) if world.string_codes else fail.code
        payload = {"stat": "fail", "code": code, "message": fail.message}
    return _encode(payload, params)


def _check(params: Mapping[str, str], bad_key: str | None) -> None:
    wanted = params.get("format", "rest")
    if wanted not in _FORMATS:
        raise _FailError(111, f'Format "{wanted}" not found')
    if bad_key is not None:
        raise _FailError(100, bad_key)


def _dispatch(params: Mapping[str, str], world: World, image_base: str) -> dict[str, Any]:
    method = params.get("method", "")
    match method:
        case "flickr.test.echo":
            return {name: {"_content": value} for name, value in params.items()}
        case "flickr.photos.getInfo":
            photo = _find(params, world, 'Photo "{id}" not found (invalid ID)')
            return {"photo": _info(photo, world)}
        case "flickr.photos.getSizes":
            return {"sizes": _sizes(_find(params, world, "Photo not found"), world, image_base)}
    raise _FailError(112, f'Method "{method}" not found')


def _find(params: Mapping[str, str], world: World, not_found: str) -> FakePhoto:
    photo = world.photos.get(photo_id(params) or 0)
    if photo is not None and photo.fate is Fate.PRIVATE and world.private_code != 1:
        raise _FailError(world.private_code, "Permission denied")
    if photo is None or photo.fate in {Fate.REMOVED, Fate.PRIVATE}:
        raise _FailError(1, not_found.format(id=params.get("photo_id", "")))
    return photo


def _info(photo: FakePhoto, world: World) -> dict[str, Any]:
    strings = world.dialect is Dialect.STRINGS

    def number(value: int) -> str | int:
        return str(value) if strings else value

    alias = photo.path_alias or ("" if strings else None)
    posted = str(photo.posted_at)
    info: dict[str, Any] = {
        "id": str(photo.flickr_id),
        "secret": photo.secret,
        "server": photo.server,
        "farm": 66,
        "dateuploaded": posted,
        "isfavorite": 0,
        "license": number(photo.licence),
        "safety_level": number(0),
        "rotation": photo.rotation,
        "owner": {
            "nsid": photo.owner,
            "username": f"user {photo.owner}",
            "realname": "",
            "location": "",
            "iconserver": "0",
            "iconfarm": 0,
            "path_alias": alias,
        },
        "title": {"_content": photo.title},
        "description": {"_content": ""},
        "visibility": {"ispublic": 1, "isfriend": 0, "isfamily": 0},
        "dates": {
            "posted": posted,
            "taken": photo.taken_at,
            "takengranularity": number(0),
            "takenunknown": number(0),
            "lastupdate": posted,
        },
        "views": number(photo.views),
        "usage": {"candownload": int(photo.downloadable), "canblog": 0, "canprint": 0},
        "comments": {"_content": number(0)},
        "notes": {"note": []},
        "people": {"haspeople": 0},
        "tags": {
            "tag": [
                {
                    "id": f"{index}-{photo.flickr_id}",
                    "author": photo.owner,
                    "raw": tag,
                    "_content": tag,
                    "machine_tag": 0 if strings else False,
                }
                for index, tag in enumerate(photo.tags)
            ]
        },
        "urls": {"url": [{"type": "photopage", "_content": f"{_PAGES}/{photo.owner}/"}]},
        "media": photo.media,
    }
    if photo.downloadable:
        info["originalsecret"] = renditions.secret_of(photo, ORIGINAL)
        info["originalformat"] = photo.original_format
    return info


def _sizes(photo: FakePhoto, world: World, image_base: str) -> dict[str, Any]:
    page = f"{_PAGES}/{photo.owner}/{photo.flickr_id}"
    rows: list[dict[str, Any]] = []

    def row(label: str, suffix: str, extension: str, width: int | None, height: int | None) -> None:
        # Recorded: numbers for the two smallest, text for the rest.
        strings = world.dialect is Dialect.STRINGS and label not in {"Square", "Thumbnail"}
        tail = f"_{suffix}" if suffix else ""
        secret = renditions.secret_of(photo, suffix)
        name = f"{photo.flickr_id}_{secret}{tail}.{extension}"
        rows.append(
            {
                "label": label,
                "width": str(width) if strings and width is not None else width,
                "height": str(height) if strings and height is not None else height,
                "source": f"{image_base}/{photo.server}/{name}",
                "url": f"{page}/sizes/{suffix or 'm'}/",
                "media": "photo",
            }
        )

    picture = renditions.look(photo.image())
    if picture is None:
        row("Medium 640", "z", "jpg", None, None)
    else:
        for size in renditions.available(photo, picture):
            row(size.label, size.suffix, "jpg", *renditions.shown_size(size, picture))
        if photo.downloadable:
            row("Original", ORIGINAL, photo.original_format, picture.width, picture.height)
    if photo.fate is Fate.VIDEO:
        source = f"{page}/play/site/{photo.secret}/"
        rows.append(
            {
                "label": "Site MP4",
                "width": "",
                "height": None,
                "source": source,
                "url": source,
                "media": "video",
            }
        )
    return {"canblog": 0, "canprint": 0, "candownload": int(photo.downloadable), "size": rows}


def _encode(payload: dict[str, Any], params: Mapping[str, str]) -> Reply:
    kind = "text/xml; charset=utf-8"
    if params.get("format") == "json":
        kind = "text/javascript; charset=utf-8"
        text = json.dumps(payload, separators=(",", ":")).replace("/", "\\/")
        if "nojsoncallback" not in params:
            callback = params.get("jsoncallback", "")
            name = callback if _CALLBACK.fullmatch(callback) else "jsonFlickrApi"
            text = f"{name}({text})"
        body = text.encode()
    else:
        body = _xml(payload)
    headers = (
        ("Content-Type", kind),
        ("Server", "openresty"),
        ("Vary", "Accept-Encoding"),
        ("X-Robots-Tag", "noindex"),
        ("Via", "1.1 fake.cloudfront.net (CloudFront)"),
        ("X-Cache", "Miss from cloudfront"),
        ("X-Flickr-Api-Request", f"Root=1-{uuid.uuid4().hex[:32]}"),
        ("Set-Cookie", "ccc=fake; path=/; domain=flickr.com; secure"),
        ("Set-Cookie", "ccc=fake2; path=/; domain=.flickr.com; secure"),
    )
    return Reply(200, headers, body)


def _xml(payload: dict[str, Any]) -> bytes:
    """Flickr's rule backwards: plain members are attributes, `_content` text, lists children."""
    root = ET.Element("rsp", stat=str(payload["stat"]))
    if payload["stat"] == "fail":
        ET.SubElement(root, "err", code=str(payload["code"]), msg=str(payload["message"]))
    else:
        for name, member in payload.items():
            if isinstance(member, dict):
                _add_xml(root, name, member)
    return b'<?xml version="1.0" encoding="utf-8" ?>\n' + ET.tostring(root) + b"\n"


def _add_xml(parent: ET.Element, name: str, members: dict[str, Any]) -> None:
    element = ET.SubElement(parent, name)
    for key, value in members.items():
        if key == "_content":
            element.text = str(value)
        elif isinstance(value, dict):
            _add_xml(element, key, value)
        elif isinstance(value, list):
            for child in value:
                _add_xml(element, key, child)
        else:
            element.set(key, "" if value is None else str(value))
