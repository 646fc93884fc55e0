"""Links to Flickr photos: read every shape that lists contain, and build page and image URLs.

Nothing here touches the network. The shapes are those of FLICKR.md section 3: pages, old pages,
short links, image files and plain ids. What is no photo is refused with a reason.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qs, unquote

from popq.errors import BadInput, BadLink, Outcome

#: Renditions worth fetching, best first: 640, 800, 1024, 500, 400 and 320 pixels on the long edge.
SIZES = ("z", "c", "b", "", "w", "n")

#: Suffixes whose file name carries the photo's own secret; larger ones have each a secret of its
#: own (flickr.com/services/api/misc.urls.html).
SHARED_SECRET_SIZES = frozenset({"s", "q", "t", "m", *SIZES})

_MAX_ID = 2**63 - 1  # the catalogue keeps ids as signed 64-bit numbers
_MAX_ID_DIGITS = 20  # enough for the largest id; keeps int() away from endless digits
_MAX_SHORT_LENGTH = 11  # 58**11 is beyond _MAX_ID
_SHOWN = 80  # characters of a refused row that its message repeats

_BASE58 = "123456789abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ"
_BASE58_VALUE = {letter: value for value, letter in enumerate(_BASE58)}

_NSID = r"[0-9]{5,11}@N[0-9]{2}"
_ALIAS = r"[A-Za-z0-9_-]+"

# The fast path: what nearly every row of a list looks like. An id of 18 digits needs no range
# check. `tags` is a folder of Flickr's, never a person.
_match_ordinary_page = re.compile(
    rf'"?https?://(?:www\.)?flickr\.com/photos/({_NSID}|(?!tags/){_ALIAS})/([1-9][0-9]{{0,17}})/?"?'
).fullmatch

_LINK = re.compile(
    r"""(?:https?:)?(?://)?
        (?P<host>[^/?\#:\s]+) (?::[0-9]+)?
        (?P<path>/[^?\#]*)?
        (?:\?(?P<query>[^\#]*))?
        (?:\#(?P<fragment>.*))?""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_OWNER = re.compile(rf"{_NSID}|{_ALIAS}")
_DIGITS = re.compile(r"[0-9]+")
_ANONYMISED = re.compile(r"(?:^|/)[0-9]+@N[0-9]+/(?P<number>[0-9]+)(?:\.[A-Za-z]+)?$")

_PAGE_HOSTS = frozenset({"flickr.com", "www.flickr.com", "m.flickr.com", "secure.flickr.com"})
_SHORT_HOSTS = frozenset({"flic.kr", "www.flic.kr"})
_IMAGE_HOST = re.compile(
    r"(?:live|(?:farm|c)[0-9]+)\.staticflickr\.com|(?:farm[0-9]+\.)?static\.flickr\.com"
)
_OLD_IMAGE_HOST = re.compile(r"photos(?P<server>[0-9]+)\.flickr\.com")
_IMAGE_FILE = re.compile(
    r"(?P<id>[0-9]+)_(?P<secret>[0-9A-Za-z]+)(?:_(?P<size>[a-z]|[0-9]k))??(?:_d)?"
    r"\.(?:jpe?g|png|gif|webp)",
    re.IGNORECASE,
)

#: First folders below /photos/ that are Flickr's own and no person's.
_NO_OWNER = frozenset({"tags", "upload", "organize", "search", "friends"})
#: What a folder of an owner's pages holds instead of a photo.
_OWNER_FOLDERS = {
    "sets": Outcome.ALBUM,
    "albums": Outcome.ALBUM,
    "galleries": Outcome.NOT_FLICKR,
    "tags": Outcome.NOT_FLICKR,
    "collections": Outcome.NOT_FLICKR,
}
_SHORT_FOLDERS = {"s": Outcome.ALBUM, "ps": Outcome.USER, "gp": Outcome.GUEST_PASS}
_WHAT = {
    Outcome.ALBUM: "leads to an album, not to a photo",
    Outcome.USER: "leads to a person's pages, not to a photo",
    Outcome.GUEST_PASS: "is a guest pass, which popq does not use",
    Outcome.VIDEO: "leads to a video; popq learns from photos",
    Outcome.NOT_FLICKR: "leads to no photo on Flickr",
}


class PhotoLink(NamedTuple):
    """What a link says of its photo.

    `owner` is the NSID or path alias as it stands in the URL. `server` and `secret` are known from
    image URLs only; `secret` is None where the URL carries the secret of another rendition.
    """

    flickr_id: int
    owner: str | None
    server: str | None = None
    secret: str | None = None


def parse(text: str) -> PhotoLink:
    """Read one row: a link to a photo in any accepted shape, quoted or not, or a plain id.

    Raises `BadLink` with outcome `empty`, `album`, `user`, `guest_pass`, `video` or `not_flickr`.
    """
    page = _match_ordinary_page(text)
    if page is not None:
        owner, number = page.groups()
        # Past PhotoLink's own constructor, which takes a third of the time of an ordinary row.
        return tuple.__new__(PhotoLink, (int(number), owner, None, None))
    return _parse_any(text)


def _parse_any(text: str) -> PhotoLink:
    link = text.strip().strip("\ufeff").strip('"').strip()
    if not link:
        raise BadLink("the row is blank; remove it or give a photo's URL", outcome=Outcome.EMPTY)
    if _DIGITS.fullmatch(link):
        return PhotoLink(_photo_id(link, link), None)
    parts = _LINK.fullmatch(link)
    if parts is None:
        raise _refusal(link, Outcome.NOT_FLICKR)
    host = parts["host"].lower()
    folders = _folders(parts["path"])
    old_image_host = _OLD_IMAGE_HOST.fullmatch(host)
    if old_image_host is not None:
        return _parse_image(link, [old_image_host["server"], *folders])
    if _IMAGE_HOST.fullmatch(host):
        return _parse_image(link, folders)
    if host in _SHORT_HOSTS:
        return _parse_short(link, folders)
    if host in _PAGE_HOSTS:
        if not folders and parts["fragment"]:  # m.flickr.com/#/photos/owner/id
            folders = _folders(parts["fragment"])
        return _parse_page(link, folders, parts["query"] or "")
    anonymised = _ANONYMISED.search(link)
    if anonymised is not None:
        raise BadLink(
            f"{_shown(link)} is an anonymised path of a data set: {anonymised['number']} is not "
            "the photo's id on Flickr; use the list that carries the page URLs",
            outcome=Outcome.NOT_FLICKR,
        )
    raise _refusal(link, Outcome.NOT_FLICKR)


def _parse_page(link: str, folders: list[str], query: str) -> PhotoLink:
    match folders:
        case ["photo.gne" | "photo_zoom.gne", *_]:
            return _parse_old_page(link, query)
        case ["gp", *_]:
            raise _refusal(link, Outcome.GUEST_PASS)
        case ["people", _, *_]:
            raise _refusal(link, Outcome.USER)
        case ["photos", owner, *rest] if owner.lower() not in _NO_OWNER:
            return _parse_photo_page(link, owner, rest)
    raise _refusal(link, Outcome.NOT_FLICKR)


def _parse_photo_page(link: str, owner: str, rest: list[str]) -> PhotoLink:
    if not _OWNER.fullmatch(owner):
        raise BadLink(
            f"{_shown(link)}: {_shown(owner)} is no Flickr owner (an NSID is 5 to 11 digits, @N "
            "and 2 digits); an anonymised list names other photos than it means",
            outcome=Outcome.NOT_FLICKR,
        )
    match rest:
        case [number, "play", *_] if _DIGITS.fullmatch(number):
            raise _refusal(link, Outcome.VIDEO)
        case [number, *_] if _DIGITS.fullmatch(number):
            return PhotoLink(_photo_id(number, link), owner)
        case [folder, *_]:
            raise _refusal(link, _OWNER_FOLDERS.get(folder.lower(), Outcome.USER))
    raise _refusal(link, Outcome.USER)


def _parse_old_page(link: str, query: str) -> PhotoLink:
    values = parse_qs(query)
    if "id" in values:
        return PhotoLink(_photo_id(values["id"][0], link), None)
    if "short" in values:
        return PhotoLink(decode_short(values["short"][0]), None)
    raise _refusal(link, Outcome.NOT_FLICKR)


def _parse_short(link: str, folders: list[str]) -> PhotoLink:
    match folders:
        case ["p", code, *_]:
            return PhotoLink(decode_short(code), None)
        case [folder, *_]:
            raise _refusal(link, _SHORT_FOLDERS.get(folder.lower(), Outcome.NOT_FLICKR))
    raise _refusal(link, Outcome.NOT_FLICKR)


def _parse_image(link: str, folders: list[str]) -> PhotoLink:
    match folders:
        case ["video", *_]:
            raise _refusal(link, Outcome.VIDEO)
        case [server, name] | [_, server, name] if _DIGITS.fullmatch(server):
            file = _IMAGE_FILE.fullmatch(name)
            if file is not None:
                size = (file["size"] or "").lower()
                secret = file["secret"] if size in SHARED_SECRET_SIZES else None
                return PhotoLink(_photo_id(file["id"], link), None, server, secret)
    raise _refusal(link, Outcome.NOT_FLICKR)


def _folders(path: str | None) -> list[str]:
    return [unquote(folder) for folder in (path or "").split("/") if folder]


def _photo_id(number: str, link: str) -> int:
    if _DIGITS.fullmatch(number) and len(number) <= _MAX_ID_DIGITS and 0 < int(number) <= _MAX_ID:
        return int(number)
    raise BadLink(
        f"{_shown(link)}: {_shown(number)} cannot be a photo's id (1 to 2**63 - 1)",
        outcome=Outcome.NOT_FLICKR,
    )


def _refusal(link: str, outcome: Outcome) -> BadLink:
    return BadLink(f"{_shown(link)} {_WHAT[outcome]}", outcome=outcome)


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")


def decode_short(code: str) -> int:
    """Photo id of a short code, the `2p4QbKN` of https://flic.kr/p/2p4QbKN.

    Raises `BadLink` for a letter outside Flickr's base 58 (no 0, O, I, l) or an id out of range.
    """
    number = 0
    if len(code) <= _MAX_SHORT_LENGTH:
        for letter in code:
            value = _BASE58_VALUE.get(letter)
            if value is None:
                number = 0
                break
            number = number * len(_BASE58) + value
    if not 0 < number <= _MAX_ID:
        raise BadLink(f"{_shown(code)} is no short code of Flickr", outcome=Outcome.NOT_FLICKR)
    return number


def encode_short(flickr_id: int) -> str:
    """Short code of a photo id, for https://flic.kr/p/<code>; `BadInput` for an id below 1."""
    if flickr_id < 1:
        raise BadInput(f"{flickr_id} is no photo id: ids start at 1")
    letters = []
    while flickr_id:
        flickr_id, value = divmod(flickr_id, len(_BASE58))
        letters.append(_BASE58[value])
    return "".join(reversed(letters))


def page_url(flickr_id: int, owner: str | None) -> str:
    """URL of the photo's page; without an owner the old form, which Flickr redirects to it."""
    if owner is None:
        return f"https://www.flickr.com/photo.gne?id={flickr_id}"
    return f"https://www.flickr.com/photos/{owner}/{flickr_id}"


def image_url(base: str, server: str, flickr_id: int, secret: str, size: str) -> str:
    """URL of one rendition below `base` (such as https://live.staticflickr.com, no slash after).

    `size` is one of `SHARED_SECRET_SIZES`; "" means 500 pixels. `BadInput` for any other.
    """
    if size not in SHARED_SECRET_SIZES:
        raise BadInput(f"size {size!r} is not served under the photo's own secret")
    suffix = f"_{size}" if size else ""
    return f"{base}/{server}/{flickr_id}_{secret}{suffix}.jpg"


def fallback(preferred: str) -> tuple[str, ...]:
    """Sizes in the order to try them: `preferred`, then the rest of `SIZES`."""
    if preferred not in SHARED_SECRET_SIZES:
        raise BadInput(f"size {preferred!r} is not served under the photo's own secret")
    return (preferred, *(size for size in SIZES if size != preferred))
