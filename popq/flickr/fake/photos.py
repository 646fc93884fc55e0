"""What the fake Flickr says of one photo: flickr.photos.getInfo and flickr.photos.getSizes.

Names, their order and types are those recorded of real Flickr, in both of its dialects.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from popq.flickr.fake import renditions
from popq.flickr.fake.renditions import ORIGINAL
from popq.flickr.fake.reply import Fail
from popq.flickr.fake.world import Dialect, FakePhoto, Fate, World
from popq.flickr.urls import page_url

INFO_NOT_FOUND = 'Photo "{id}" not found (invalid ID)'
SIZES_NOT_FOUND = "Photo not found"

_INT_SIZES = frozenset({"Square", "Thumbnail"})  # whose pixels are numbers among text


def photo_id(params: Mapping[str, str]) -> int | None:
    """Id that the parameters name, None without a usable one."""
    text = params.get("photo_id", "")
    return int(text) if re.fullmatch(r"[0-9]{1,20}", text) else None


def find(params: Mapping[str, str], world: World, not_found: str) -> FakePhoto:
    """Return the photo that a stranger may see; `Fail` for one that is not there or private."""
    photo = world.photos.get(photo_id(params) or 0)
    if photo is not None and photo.fate is Fate.PRIVATE and world.private_code != 1:
        raise Fail(world.private_code, "Permission denied")
    if photo is None or photo.fate in {Fate.REMOVED, Fate.PRIVATE}:
        raise Fail(1, not_found.format(id=params.get("photo_id", "")))
    return photo


def number(world: World, value: int) -> str | int:
    """Write a number that real Flickr writes now as text, now as a number."""
    return str(value) if world.dialect is Dialect.STRINGS else value


def alias(world: World, photo: FakePhoto) -> str | None:
    """Write an owner's alias; without one it is "" in one dialect and null in the other."""
    return photo.path_alias or ("" if world.dialect is Dialect.STRINGS else None)


def info(photo: FakePhoto, world: World) -> dict[str, Any]:
    """Return the `photo` of getInfo; keys that a photo has no value for are absent."""
    posted = str(photo.posted_at)
    member: dict[str, Any] = {
        "id": str(photo.flickr_id),
        "secret": photo.secret,
        "server": photo.server,
        "farm": 66,
        "dateuploaded": posted,
        "isfavorite": 0,
        "license": number(world, photo.licence),
        "safety_level": number(world, 0),
        "rotation": photo.rotation,
    }
    if photo.has_original:
        member["originalsecret"] = renditions.secret_of(photo, ORIGINAL)
        member["originalformat"] = photo.original_format
    member |= {
        "owner": _owner(photo, world),
        "title": {"_content": photo.title},
        "description": {"_content": photo.description},
        "visibility": {"ispublic": 1, "isfriend": 0, "isfamily": 0},
        "dates": {
            "posted": posted,
            "taken": photo.taken_at,
            "takengranularity": number(world, 0),
            "takenunknown": number(world, int(photo.taken_unknown)),
            "lastupdate": posted,
        },
        "views": number(world, photo.views),
        "editability": {"cancomment": 0, "canaddmeta": 0},
        "publiceditability": {"cancomment": 1, "canaddmeta": 0},
        "usage": {
            "candownload": int(photo.downloadable),
            "canblog": 0,
            "canprint": 0,
            "canshare": 1,
        },
        "comments": {"_content": number(world, 0)},
        "notes": {"note": []},
        "people": {"haspeople": 0},
        "tags": {"tag": [_tag(photo, world, *numbered) for numbered in enumerate(photo.tags)]},
    }
    if photo.location is not None:
        latitude, longitude = photo.location
        member["location"] = {
            "latitude": str(latitude),
            "longitude": str(longitude),
            "accuracy": number(world, 16),
            "context": number(world, 0),
        }
        member["geoperms"] = {"ispublic": 1, "iscontact": 0, "isfriend": 0, "isfamily": 0}
    page = page_url(photo.flickr_id, photo.path_alias or photo.owner)
    member["urls"] = {"url": [{"type": "photopage", "_content": f"{page.rstrip('/')}/"}]}
    member["media"] = photo.media
    if photo.fate is Fate.VIDEO:
        member["video"] = {"ready": 1, "failed": 0, "pending": 0, "duration": number(world, 12)}
    return member


def _owner(photo: FakePhoto, world: World) -> dict[str, Any]:
    return {
        "nsid": photo.owner,
        "username": f"user {photo.owner}",
        "realname": "",
        "location": "",
        "iconserver": "0",
        "iconfarm": 0,
        "path_alias": alias(world, photo),
        "gift": {
            "gift_eligible": True,
            "eligible_durations": ["year", "month", "week"],
            "new_flow": True,
        },
    }


def _tag(photo: FakePhoto, world: World, index: int, tag: str) -> dict[str, Any]:
    return {
        "id": f"{index}-{photo.flickr_id}",
        "author": photo.owner,
        "authorname": f"user {photo.owner}",
        "raw": tag,
        "_content": tag,
        "machine_tag": 0 if world.dialect is Dialect.STRINGS else False,
    }


def sizes(photo: FakePhoto, world: World, image_base: str) -> dict[str, Any]:
    """Return the `sizes` of getSizes, ascending, the original last, a video's files after it."""
    picture = renditions.look(photo.image())
    rows: list[dict[str, Any]] = []
    if picture is None:
        rows.append(_size(photo, world, image_base, "Medium 640", "z", "z", (None, None)))
    else:
        for size in renditions.available(photo, picture):
            pixels = renditions.shown_size(size, picture)
            row = _size(photo, world, image_base, size.label, size.suffix, size.letters, pixels)
            rows.append(row)
        if photo.has_original:
            pixels = picture.width, picture.height
            rows.append(_size(photo, world, image_base, "Original", ORIGINAL, "o", pixels))
    if photo.fate is Fate.VIDEO:
        source = f"{_page(photo)}/play/site/{photo.secret}/"
        film = {"source": source, "url": source, "media": "video"}
        rows += [
            {"label": label, "width": "", "height": None, **film}
            for label in ("Video Player", "Site MP4")
        ]
    return {"canblog": 0, "canprint": 0, "candownload": int(photo.downloadable), "size": rows}


def source_url(photo: FakePhoto, image_base: str, suffix: str) -> str:
    """URL of a photo's image in one size."""
    secret = renditions.secret_of(photo, suffix)
    extension = photo.original_format if suffix == ORIGINAL else "jpg"
    tail = f"_{suffix}" if suffix else ""
    return f"{image_base}/{photo.server}/{photo.flickr_id}_{secret}{tail}.{extension}"


def _page(photo: FakePhoto) -> str:
    return page_url(photo.flickr_id, photo.path_alias or photo.owner).rstrip("/")


def _size(
    photo: FakePhoto,
    world: World,
    image_base: str,
    label: str,
    suffix: str,
    letters: str,
    pixels: tuple[int | None, int | None],
) -> dict[str, Any]:
    strings = world.dialect is Dialect.STRINGS and label not in _INT_SIZES
    width, height = (str(p) if strings and p is not None else p for p in pixels)
    return {
        "label": label,
        "width": width,
        "height": height,
        "source": source_url(photo, image_base, suffix),
        "url": f"{_page(photo)}/sizes/{letters}/",
        "media": "photo",
    }
