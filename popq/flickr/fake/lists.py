"""The fake Flickr's lists: photos.search, photos.getRecent and people.getPublicPhotos.

A page holds 100 photos unless asked otherwise, 500 at most, 250 where a place is asked for. A
search gives 4,000 photos and then repeats; an owner's photos repeat past their last page. Names of
extras are documented and differ from those of getInfo and of image URLs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from popq.flickr.fake import photos, renditions
from popq.flickr.fake.renditions import ORIGINAL, RENDITIONS
from popq.flickr.fake.reply import Fail
from popq.flickr.fake.world import Dialect, FakePhoto, World

DEFAULT_PER_PAGE = 100
MOST_PER_PAGE = 500
MOST_PER_PAGE_BY_PLACE = 250
MOST_FOUND = 4000
_BOX_SIDES = 4
_MOST_DIGITS = 18

# Extras are asked for by `letters`; 400 pixels have none. What is misspelt is left out silently.
_URL_EXTRAS = {
    f"url_{size.letters}": size for size in RENDITIONS if size.suffix in {*"sqtmnzcbhk", ""}
}


def search(params: Mapping[str, str], world: World, image_base: str) -> dict[str, Any]:
    """Find photos by `user_id`, `tags`, `text`, upload dates, `bbox` and `has_geo`, newest first.

    Other parameters are ignored.
    """
    by_place = "bbox" in params or params.get("has_geo") == "1"
    owner = params.get("user_id", "")
    pool = world.of_owner(owner) or [] if owner else world.photos.values()
    tests = _tests(params)
    found = [photo for photo in pool if photo.listed and all(test(photo) for test in tests)]
    most = MOST_PER_PAGE_BY_PLACE if by_place else MOST_PER_PAGE
    return _page(found, params, world, image_base, most=most, reach=MOST_FOUND)


def recent(params: Mapping[str, str], world: World, image_base: str) -> dict[str, Any]:
    """List everybody's photos, newest first."""
    found = [photo for photo in world.photos.values() if photo.listed]
    return _page(found, params, world, image_base, most=MOST_PER_PAGE, reach=MOST_FOUND)


def of_owner(params: Mapping[str, str], world: World, image_base: str) -> dict[str, Any]:
    """List one owner's photos, newest first; `Fail` for an unknown or deleted owner."""
    owner = params.get("user_id", "")
    if owner in world.deleted_owners:
        raise Fail(5, "User deleted")
    pool = world.of_owner(owner)
    if pool is None:
        raise Fail(1, "User not found")
    found = [photo for photo in pool if photo.listed]
    return _page(found, params, world, image_base, most=MOST_PER_PAGE, reach=None)


def _tests(params: Mapping[str, str]) -> list[Callable[[FakePhoto], bool]]:
    tests: list[Callable[[FakePhoto], bool]] = []
    tags = {tag.strip().lower() for tag in params.get("tags", "").split(",") if tag.strip()}
    if tags:
        tests.append(lambda photo: not tags.isdisjoint(tag.lower() for tag in photo.tags))
    text = params.get("text", "").lower()
    if text:
        tests.append(
            lambda photo: (
                text in f"{photo.title} {photo.description} {' '.join(photo.tags)}".lower()
            )
        )
    first, last = _whole(params, "min_upload_date"), _whole(params, "max_upload_date")
    if first is not None:
        tests.append(lambda photo: photo.posted_at >= first)
    if last is not None:
        tests.append(lambda photo: photo.posted_at <= last)
    if params.get("has_geo") == "1":
        tests.append(lambda photo: photo.location is not None)
    box = _box(params.get("bbox", ""))
    if box is not None:
        west, south, east, north = box
        tests.append(
            lambda photo: (
                photo.location is not None
                and south <= photo.location[0] <= north
                and west <= photo.location[1] <= east
            )
        )
    return tests


def _page(
    found: Iterable[FakePhoto],
    params: Mapping[str, str],
    world: World,
    image_base: str,
    *,
    most: int,
    reach: int | None,
) -> dict[str, Any]:
    ordered = sorted(found, key=lambda photo: (photo.posted_at, photo.flickr_id), reverse=True)
    per_page = min(most, _whole(params, "per_page") or DEFAULT_PER_PAGE)
    page = max(1, _whole(params, "page") or 1)
    pages = -(-len(ordered) // per_page)
    served = pages if reach is None else min(pages, -(-reach // per_page))
    start = (min(page, max(1, served)) - 1) * per_page
    extras = {name.strip() for name in params.get("extras", "").split(",")}
    texts = world.dialect is Dialect.STRINGS
    return {
        # The page that was asked for, also where another one is repeated.
        "page": page,
        "pages": str(pages) if texts else pages,
        "perpage": per_page,
        "total": str(len(ordered)) if texts else len(ordered),
        "photo": [
            _item(photo, extras, world, image_base)
            for photo in ordered[:reach][start : start + per_page]
        ],
    }


def _item(photo: FakePhoto, extras: set[str], world: World, image_base: str) -> dict[str, Any]:
    item: dict[str, Any] = {
        "id": str(photo.flickr_id),
        "owner": photo.owner,
        "secret": photo.secret,
        "server": photo.server,
        "farm": 66,
        "title": photo.title,
        "ispublic": 1,
        "isfriend": 0,
        "isfamily": 0,
    }
    wanted = extras - photo.missing_extras
    for name, members in _extras(photo, world).items():
        if name in wanted:
            item |= members
    if any(name.startswith("url_") or name == "o_dims" for name in wanted):
        item |= _url_extras(photo, wanted, world, image_base)
    return item


def _extras(photo: FakePhoto, world: World) -> dict[str, dict[str, Any]]:
    posted = str(photo.posted_at)
    latitude, longitude = photo.location or (0, 0)
    taken = {
        "datetaken": photo.taken_at,
        "datetakengranularity": photos.number(world, 0),
        "datetakenunknown": photos.number(world, int(photo.taken_unknown)),
    }
    place = {
        "latitude": str(latitude) if photo.location else 0,
        "longitude": str(longitude) if photo.location else 0,
        "accuracy": photos.number(world, 16) if photo.location else 0,
        "context": 0,
    }
    values: dict[str, dict[str, Any]] = {
        "description": {"description": {"_content": photo.description}},
        "license": {"license": photos.number(world, photo.licence)},
        "date_upload": {"dateupload": posted},
        "date_taken": taken,
        "owner_name": {"ownername": f"user {photo.owner}"},
        "icon_server": {"iconserver": "0", "iconfarm": 0},
        "last_update": {"lastupdate": posted},
        "geo": place,
        "tags": {"tags": " ".join(photo.tags)},
        "machine_tags": {"machine_tags": ""},
        "views": {"views": photos.number(world, photo.views)},
        "media": {"media": photo.media, "media_status": "ready"},
        "path_alias": {"pathalias": photos.alias(world, photo)},
    }
    if photo.has_original:
        values["original_format"] = {
            "originalsecret": renditions.secret_of(photo, ORIGINAL),
            "originalformat": photo.original_format,
        }
    return values


def _url_extras(
    photo: FakePhoto, wanted: set[str], world: World, image_base: str
) -> dict[str, Any]:
    """Give URL and pixels of each size that was asked for and exists."""
    picture = renditions.look(photo.image())
    if picture is None:
        return {}
    found: dict[str, Any] = {}
    exist = set(renditions.available(photo, picture))
    for name, size in _URL_EXTRAS.items():
        if name in wanted and size in exist:
            pixels = renditions.shown_size(size, picture)
            width, height = (photos.number(world, p) for p in pixels)
            found[name] = photos.source_url(photo, image_base, size.suffix)
            found |= {f"height_{size.letters}": height, f"width_{size.letters}": width}
    if photo.has_original:
        width, height = (photos.number(world, p) for p in (picture.width, picture.height))
        if "url_o" in wanted:
            found["url_o"] = photos.source_url(photo, image_base, ORIGINAL)
            found |= {"height_o": height, "width_o": width}
        if "o_dims" in wanted:
            found |= {"o_width": width, "o_height": height}
    return found


def _whole(params: Mapping[str, str], name: str) -> int | None:
    text = params.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else None


def _box(text: str) -> tuple[float, float, float, float] | None:
    try:
        sides = [float(side) for side in text.split(",")]
    except ValueError:
        return None
    if len(sides) != _BOX_SIDES:
        return None
    west, south, east, north = sides
    return west, south, east, north
