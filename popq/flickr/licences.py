"""Flickr's licences by id, as flickr.photos.licenses.getInfo lists them."""

from __future__ import annotations

from typing import Final

LICENCES: Final = (
    "All rights reserved",
    "CC BY-NC-SA 2.0",
    "CC BY-NC 2.0",
    "CC BY-NC-ND 2.0",
    "CC BY 2.0",
    "CC BY-SA 2.0",
    "CC BY-ND 2.0",
    "No known copyright restrictions",
    "United States government work",
    "Public domain (CC0)",
    "Public domain mark",
)


def licence_name(licence: int | None) -> str:
    """Return the name of one of Flickr's licence ids."""
    if licence is None:
        return "licence unknown"
    return LICENCES[licence] if 0 <= licence < len(LICENCES) else f"licence {licence}"
