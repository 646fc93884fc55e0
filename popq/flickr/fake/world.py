"""The photos that the fake Flickr knows, and what became of each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from popq.flickr.urls import page_url

_PHOTOS_PER_OWNER = 2  # of a folder, on average
_FIRST_OWNER = 50_000_000
_FIRST_POSTED = 1_420_070_400  # 2015-01-01, Unix seconds
_POSTED_SPAN_S = 5 * 365 * 86_400


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


class Dialect(StrEnum):
    """How the API writes numbers and missing values; real Flickr has used both."""

    STRINGS = "strings"
    INTS = "ints"


@dataclass(slots=True)
class FakePhoto:
    """One photo. `image` gives the bytes of its original, read anew for every request.

    `posted_at` is in Unix seconds. `downloadable` False is an owner with a free account: no
    original, nothing above 1024 pixels.
    """

    flickr_id: int
    owner: str
    server: str
    secret: str
    image: Callable[[], bytes]
    title: str = ""
    tags: tuple[str, ...] = ()
    views: int = 0
    posted_at: int = _FIRST_POSTED
    taken_at: str = "2015-01-01 00:00:00"
    licence: int = 0
    path_alias: str | None = None
    rotation: int = 0
    original_format: str = "jpg"
    downloadable: bool = True
    fate: Fate = Fate.LIVE

    @property
    def media(self) -> str:
        """What the API calls it."""
        return "video" if self.fate is Fate.VIDEO else "photo"


@dataclass
class World:
    """All photos by id, and how Flickr behaves today; both may be changed while it is served."""

    photos: dict[int, FakePhoto] = field(default_factory=dict)
    #: API code of a private photo: 2 in 2024, 1 since 2025.
    private_code: int = 1
    #: Image host's status of a deleted photo: 410 and 404 have both been seen.
    gone_status: int = 410
    dialect: Dialect = Dialect.STRINGS
    #: Failure codes as text, as in older captures.
    string_codes: bool = False

    def add(self, photo: FakePhoto) -> None:
        """Add a photo, or replace the one with its id."""
        self.photos[photo.flickr_id] = photo

    def page_urls(self) -> list[str]:
        """Page URL of each photo, in the order in which they were added."""
        return [page_url(photo.flickr_id, photo.owner) for photo in self.photos.values()]


def folder_world(folder: Path) -> World:
    """Serve a folder of `<photo id>.jpg` files; bytes are read when asked for.

    Owner, server, secret and date follow from the id and the number of files alone, so that the
    same folder gives the same world anywhere; about two photos share an owner.
    """
    found = [path for path in folder.glob("*.jpg") if path.stem.isascii() and path.stem.isdigit()]
    owners = max(1, len(found) // _PHOTOS_PER_OWNER)
    world = World()
    for path in sorted(found, key=lambda path: int(path.stem)):
        digest = hashlib.sha256(path.stem.encode()).digest()
        number = int.from_bytes(digest[:8])
        owner = number % owners
        world.add(
            FakePhoto(
                flickr_id=int(path.stem),
                owner=f"{_FIRST_OWNER + owner}@N{owner % 10:02d}",
                server="65535",
                secret=digest.hex()[-10:],
                image=path.read_bytes,
                title=f"Photo {path.stem}",
                tags=("popq",),
                posted_at=_FIRST_POSTED + number % _POSTED_SPAN_S,
            )
        )
    return world
