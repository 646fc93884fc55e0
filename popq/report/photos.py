"""The photos that the report shows, each once: who made them, and a small picture to see.

At most `MOST` in all, which is what Flickr's terms allow on a page.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from popq.catalogue import summaries
from popq.catalogue.db import Tx
from popq.catalogue.summaries import Order
from popq.errors import PopqError
from popq.flickr.licences import licence_name
from popq.images import decode
from popq.images.store import Store

#: Photos of one group; three groups are thirty photos, the most that Flickr lets a page show.
EACH: Final = 10
MOST: Final = 3 * EACH
#: Pixels on the longer side of a small picture.
SIDE: Final = 160
#: Characters of a title or an owner that are shown.
LONGEST: Final = 120


@dataclass(frozen=True, slots=True)
class Shown:
    """One photo of the page; `href` and `picture` (a data: URI) are None where there is none."""

    id: int
    title: str
    owner: str
    licence: str
    href: str | None
    picture: str | None
    split: str
    label: float
    score: float
    tier: int
    predicted: int


def pick(tx: Tx, run: int, dataset: int, *, unit: bool) -> dict[Order, Sequence[Any]]:
    """Return the rows of the highest and lowest scores and of the rest those furthest off.

    `unit` says that scores are in the label's unit; otherwise their tiers are compared. No photo
    is in two groups. See `summaries.shown` for the rows.
    """
    seen: list[int] = []
    groups = {}
    for order in (Order.HIGHEST, Order.LOWEST, Order.FURTHEST if unit else Order.MISPLACED):
        groups[order] = summaries.shown(tx, run, dataset, order, EACH, seen)
        seen += [row.id for row in groups[order]]
    return groups


def show(row: Any, store: Store) -> Shown:
    """Return a row of `pick` as the page shows it, with its picture out of the store."""
    return Shown(
        id=row.id,
        title=shorten(row.title or "") or "Untitled",
        owner=shorten(row.owner or "") or "unknown owner",
        licence=licence_name(row.licence),
        href=link(row.page_url),
        picture=thumbnail(store, row.file_key),
        split=row.split,
        label=row.label,
        score=row.score,
        tier=row.tier,
        predicted=row.predicted,
    )


def thumbnail(store: Store, key: str) -> str | None:
    """Return a small JPEG of a photo as a data: URI; None when its file cannot be read."""
    try:
        with store.open(key) as file:
            small = decode.decode(file).image
    except PopqError:
        # Missing, damaged, or a store that does not answer: the page is whole without it.
        return None
    small.thumbnail((SIDE, SIDE))
    small.info.clear()  # Pillow would write the photo's comment into the small one
    out = io.BytesIO()
    small.save(out, "JPEG", quality=80, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode("ascii")


def link(url: str) -> str | None:
    """Return the address if a page may link to it: only https, never script or a local file."""
    return url if url.startswith("https://") else None


def shorten(text: str) -> str:
    """Return a text on one line, cut after `LONGEST` characters."""
    # Cut first: a title may be of any length.
    line = " ".join(text[: 4 * LONGEST].split())
    return line if len(line) <= LONGEST else line[:LONGEST].rstrip() + "…"
