"""The fake Flickr's REST API: which method is meant, may it be called, and XML or JSON of it.

Shapes, names and types follow the recorded answers of FLICKR.md 1.1 to 1.5.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as ET

from popq.flickr.fake import lists, photos
from popq.flickr.fake.accounts import Call, Caller, key_trouble, refuse_signature
from popq.flickr.fake.faults import Faults
from popq.flickr.fake.reply import Fail, Reply
from popq.flickr.fake.world import World

_FORMATS = frozenset({"rest", "json"})
_CALLBACK = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")


def answer(
    call: Call,
    params: Mapping[str, str],
    caller: Caller,
    *,
    world: World,
    keys: Mapping[str, str],
    faults: Faults,
    image_base: str,
    fail: Fail | None = None,
) -> Reply:
    """Answer one API call; `image_base` is what image URLs start with.

    With `fail` the call goes through all checks and then fails like that.
    """
    refused = refuse_signature(call, caller, keys)
    if refused is not None:
        return refused
    try:
        _check(params, key_trouble(caller, keys, faults))
        if fail is not None:
            raise fail
        payload = {**_dispatch(params, world, image_base), "stat": "ok"}
    except Fail as failed:
        code = str(failed.code) if world.string_codes else failed.code
        payload = {"stat": "fail", "code": code, "message": failed.message}
    return _encode(payload, params, world.json_type)


def _check(params: Mapping[str, str], bad_key: str | None) -> None:
    wanted = params.get("format", "rest")
    if wanted not in _FORMATS:
        raise Fail(111, f'Format "{wanted}" not found')
    if bad_key is not None:
        raise Fail(100, bad_key)


def _dispatch(params: Mapping[str, str], world: World, image_base: str) -> dict[str, Any]:
    method = params.get("method", "")
    match method:
        case "flickr.test.echo":
            return {name: {"_content": value} for name, value in params.items()}
        case "flickr.photos.getInfo":
            photo = photos.find(params, world, photos.INFO_NOT_FOUND)
            return {"photo": photos.info(photo, world)}
        case "flickr.photos.getSizes":
            photo = photos.find(params, world, photos.SIZES_NOT_FOUND)
            return {"sizes": photos.sizes(photo, world, image_base)}
        case "flickr.photos.search":
            return {"photos": lists.search(params, world, image_base)}
        case "flickr.photos.getRecent":
            return {"photos": lists.recent(params, world, image_base)}
        case "flickr.people.getPublicPhotos":
            return {"photos": lists.of_owner(params, world, image_base)}
    raise Fail(112, f'Method "{method}" not found')


def _encode(payload: dict[str, Any], params: Mapping[str, str], json_type: str) -> Reply:
    kind = "text/xml; charset=utf-8"
    if params.get("format") == "json":
        kind = json_type
        text = json.dumps(payload, separators=(",", ":")).replace("/", "\\/")
        if params.get("nojsoncallback") != "1":
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
    ET.indent(root, "\t")
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
                _add_xml(element, key, child if isinstance(child, dict) else {"_content": child})
        else:
            element.set(key, _xml_text(value))


def _xml_text(value: object) -> str:
    if isinstance(value, bool):
        return str(int(value))
    return "" if value is None else str(value)
