"""The photos that the fake Flickr knows, and what became of each."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from popq.flickr.urls import page_url

_PHOTOS_PER_OWNER = 2  # of a folder, on average
_FIRST_OWNER = 50_000_000
_FIRST_POSTED = 1_420_070_400  # 2015-01-01, Unix seconds
_POSTED_SPAN_S = 5 * 365 * 86_400

_FORMATS = {".jpg": "jpg", ".jpeg": "jpg", ".png": "png", ".gif": "gif"}
_ID = re.compile(r"[1-9][0-9]{0,18}")
_MAX_ID = 2**63 - 1  # the largest that databases keep


class Fate(StrEnum):
    """What became of a photo, as a client meets it."""

    #: API and image host both serve it.
    LIVE = "live"
    #: The API knows no such photo (code 1); the image is gone too.
    REMOVED = "removed"
    #: The API hides it (`World.private_code`), the image host says 403.
    PRIVATE = "private"
    #: The API still describes it, the image is gone (`World.gone_status`).
    IMAGE_GONE = "image_gone"
    #: The API still describes it, the image host says 403.
    IMAGE_PRIVATE = "image_private"
    #: A video.
    VIDEO = "video"
    #: The image is a JPEG that stops in the middle.
    CORRUPT = "corrupt"
    #: The image host redirects to its "photo unavailable" picture.
    PLACEHOLDER = "placeholder"
    #: The image is a web page under the name of a picture.
    HTML = "html"


class Look(StrEnum):
    """What is odd about the bytes of a photo's images; section 2.4 of what is known of Flickr."""

    PLAIN = "plain"
    #: JPEG whose Photoshop block (APP13) stands before the JFIF one, as recorded.
    APP13_FIRST = "app13_first"
    PROGRESSIVE = "progressive"
    CMYK = "cmyk"
    GREY = "grey"
    #: Stored lying down, with an EXIF orientation that says so.
    ROTATED = "rotated"
    #: PNG with transparency, PNG of 16 bits, animated GIF: all under the name of a JPEG.
    PNG = "png"
    PNG_16_BIT = "png_16_bit"
    GIF = "gif"
    ONE_PIXEL = "one_pixel"
    #: 50 million pixels.
    HUGE = "huge"
    #: The same picture in other bytes at every fetch.
    RESTLESS = "restless"


class Dialect(StrEnum):
    """How the API writes numbers and missing values; real Flickr has used both."""

    STRINGS = "strings"
    INTS = "ints"


@dataclass(slots=True)
class FakePhoto:
    """One photo. `image` gives the bytes of its original, read anew for every request.

    `posted_at` is in Unix seconds. `downloadable` False is an owner who disallows downloads: no
    original. `free_account` is an owner without Pro: no original, nothing above 1024 pixels.
    `location` is latitude and longitude in degrees. `missing_extras` are extras that list methods
    leave out though the photo has them; `missing_sizes` are suffixes of image URLs ("z", "" for 500
    pixels) that lead to the "photo unavailable" picture. `robots` is the image's X-Robots-Tag
    header, if any.
    """

    flickr_id: int
    owner: str
    server: str
    secret: str
    image: Callable[[], bytes]
    title: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    views: int = 0
    posted_at: int = _FIRST_POSTED
    taken_at: str = "2015-01-01 00:00:00"
    taken_unknown: bool = False
    licence: int = 0
    path_alias: str | None = None
    rotation: int = 0
    location: tuple[float, float] | None = None
    original_format: str = "jpg"
    downloadable: bool = True
    free_account: bool = False
    missing_extras: frozenset[str] = frozenset()
    missing_sizes: frozenset[str] = frozenset()
    robots: str | None = None
    look: Look = Look.PLAIN
    fate: Fate = Fate.LIVE

    @property
    def media(self) -> str:
        """What the API calls it."""
        return "video" if self.fate is Fate.VIDEO else "photo"

    @property
    def has_original(self) -> bool:
        """Whether a stranger may see the original."""
        return self.downloadable and not self.free_account

    @property
    def listed(self) -> bool:
        """Whether list methods show it to a stranger."""
        return self.fate not in {Fate.REMOVED, Fate.PRIVATE}


@dataclass
class World:
    """All photos by id, and how Flickr behaves today; both may be changed while it is served.

    The switches are what is not settled about real Flickr, or has been seen both ways.
    """

    photos: dict[int, FakePhoto] = field(default_factory=dict)
    #: API code of a private photo: 2 in 2024, 1 since 2025.
    private_code: int = 1
    #: Image host's status of a deleted photo: 410 and 404 have both been seen.
    gone_status: int = 410
    dialect: Dialect = Dialect.STRINGS
    #: Failure codes as text, as in older captures.
    string_codes: bool = False
    #: Content-Type of JSON: seen in 2013, today's was not recorded.
    json_type: str = "text/javascript; charset=utf-8"
    #: 401 for an OAuth nonce that was seen before; whether Flickr looks is unknown.
    refuse_replayed_nonces: bool = False
    #: oEmbed's status of a photo that is not there, and of a private one (the standard's).
    oembed_missing_status: int = 404
    oembed_private_status: int = 401
    #: Owners whose accounts are deleted: code 5 of people methods.
    deleted_owners: set[str] = field(default_factory=set)
    _by_owner: dict[str, list[FakePhoto]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        for photo in self.photos.values():
            self._by_owner.setdefault(photo.owner, []).append(photo)

    def add(self, photo: FakePhoto) -> None:
        """Add a photo, or replace the one with its id."""
        self.photos[photo.flickr_id] = photo
        self._by_owner.setdefault(photo.owner, []).append(photo)

    def of_owner(self, nsid: str) -> list[FakePhoto] | None:
        """Photos of an owner in the order in which they were added; None for a stranger."""
        photos = self._by_owner.get(nsid)
        if photos is None:
            return None
        return [photo for photo in photos if self.photos.get(photo.flickr_id) is photo]

    def page_urls(self) -> list[str]:
        """Page URL of each photo, in the order in which they were added."""
        return [page_url(photo.flickr_id, photo.owner) for photo in self.photos.values()]


def folder_files(folder: Path) -> tuple[dict[int, Path], list[Path]]:
    """Return the photos of a folder by id, in order, and its pictures that name none.

    A photo is `<id>.jpg`, `.jpeg`, `.png` or `.gif`; of two files with one id the first by name
    counts.
    """
    found: dict[int, Path] = {}
    strangers = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in _FORMATS or not path.is_file():
            continue
        flickr_id = int(path.stem) if _ID.fullmatch(path.stem) else _MAX_ID + 1
        if flickr_id > _MAX_ID or flickr_id in found:
            strangers.append(path)
        else:
            found[flickr_id] = path
    return dict(sorted(found.items())), strangers


def folder_world(folder: Path) -> World:
    """Serve a folder of `<photo id>.jpg` files; bytes are read when asked for.

    Owner, server, secret and date follow from the id and the number of files alone, so that the
    same folder gives the same world anywhere; about two photos share an owner.
    """
    files, _ = folder_files(folder)
    owners = max(1, len(files) // _PHOTOS_PER_OWNER)
    world = World()
    for flickr_id, path in files.items():
        digest = hashlib.sha256(str(flickr_id).encode()).digest()
        number = int.from_bytes(digest[:8])
        owner = number % owners
        world.add(
            FakePhoto(
                flickr_id=flickr_id,
                owner=f"{_FIRST_OWNER + owner}@N{owner % 10:02d}",
                server="65535",
                secret=digest.hex()[-10:],
                image=path.read_bytes,
                title=f"Photo {flickr_id}",
                tags=("popq",),
                posted_at=_FIRST_POSTED + number % _POSTED_SPAN_S,
                original_format=_FORMATS[path.suffix.lower()],
            )
        )
    return world
