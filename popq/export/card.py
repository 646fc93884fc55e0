"""A data set's card: Markdown below the YAML head that Hugging Face's hub reads.

Source, dates, licences, what was lost and why, size, splits and versions; never a photo.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import popq
from popq.catalogue import datasets, migrate, provenance, queries, summaries
from popq.catalogue.db import Catalogue
from popq.errors import BadInput
from popq.flickr.licences import licence_name
from popq.images.whole import whole_file
from popq.stages import dataset as dataset_stage

#: The hub's classes of size: up to so many photos, its name.
SIZES: Final = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
TERMS: Final = """\
This product uses the Flickr API but is not endorsed or certified by SmugMug, Inc. The photos are
their owners', each under the licence that its owner chose; this card and a manifest hold links, not
photos. Flickr's API is for non-commercial use unless a key says otherwise. Remove a photo within 24
hours when its owner asks (`popq purge`). Removed and private photos are missing, and which photos
are removed is no accident: what is left is not a random sample of what was listed."""


def save(catalogue: Catalogue, name: str, target: Path) -> int:
    """Write the card of a data set to a file, whole or not at all; return its bytes."""
    text = make(catalogue, name)
    with whole_file(target) as scratch:
        scratch.write_text(text, encoding="utf-8")
    return len(text.encode())


def make(catalogue: Catalogue, name: str) -> str:
    """Return the card of a data set; raises `BadInput` for one that is unknown or empty by now.

    The same catalogue gives the same card.
    """
    told = dataset_stage.describe(catalogue, name)
    version, _ = migrate.versions(catalogue)
    with catalogue.read() as tx:
        row = datasets.get(tx, name)
        extent = provenance.extent(tx, row.id)
        if not extent.photos:
            message = f"All photos of the data set {name!r} were purged, so no card can tell of it"
            raise BadInput(f"{message}; `popq dataset create` makes a new one of what is stored.")
        licences = provenance.licences(tx, row.id)
        states, exits = queries.photos_by_state(tx), summaries.exits(tx)
    parts = [
        *_head(name, extent.photos),
        *(f"# {_plain(name)}", ""),
        f"Flickr photos with popularity scores, in tiers. Made {row.created_at:%Y-%m-%d} by popq.",
        "",
        *_source(extent),
        *_licences(licences),
        *_loss(states, exits),
        *_splits(told),
        *("## Versions", ""),
        *_table(
            ("what", "version"),
            [
                ("popq", popq.__version__),
                ("catalogue", version),
                ("fingerprint", f"`{told['fingerprint']}`"),
            ],
        ),
        *("## Terms", "", TERMS),
    ]
    return "\n".join(parts) + "\n"


def _head(name: str, photos: int) -> Iterator[str]:
    size = next((what for most, what in SIZES if photos < most), "n>10M")
    yield "---"
    yield f"pretty_name: {json.dumps(name)}"  # JSON's strings are YAML's, too
    yield "license: other"
    yield "license_name: of-each-photos-owner"
    yield "license_link: https://www.flickr.com/creativecommons/"
    yield "task_categories:\n- image-classification\n- image-feature-extraction"
    yield "tags:\n- flickr\n- popularity"
    yield f"size_categories:\n- {size}"
    yield "---\n"


def _source(extent: Any) -> Iterator[str]:
    yield "## Source and size"
    yield ""
    rows: list[tuple[Any, ...]] = [
        ("source", "Flickr, by a list of links and scores"),
        ("photos", f"{extent.photos:,}"),
        ("owners", f"{extent.owners:,} known"),
        ("images", f"{(extent.bytes or 0) / 1e9:,.3f} GB"),
        ("scores", f"{extent.lowest:g} to {extent.highest:g}"),
    ]
    for what in ("posted", "imported", "stored"):
        first, last = getattr(extent, f"first_{what}"), getattr(extent, f"last_{what}")
        span = "unknown" if first is None else f"{first:%Y-%m-%d} to {last:%Y-%m-%d}"
        rows.append((what, span))
    yield from _table(("what", ""), rows)


def _licences(found: Sequence[Any]) -> Iterator[str]:
    yield "## Licences"
    yield ""
    yield from _table(
        ("licence", "photos"), [(licence_name(row.licence), f"{row.photos:,}") for row in found]
    )


def _loss(states: dict[str, int], exits: Sequence[Any]) -> Iterator[str]:
    yield "## What was lost, and why"
    yield ""
    yield f"Of {sum(states.values()):,} photos that were listed:"
    yield ""
    rows = [(state, "", f"{count:,}") for state, count in states.items() if count]
    rows += [(row.state, row.reason, f"{row.photos:,}") for row in exits]
    yield from _table(("state", "reason", "photos"), rows)


def _splits(told: dict[str, Any]) -> Iterator[str]:
    yield "## Splits and tiers"
    yield ""
    cuts = ", ".join(f"{cut:g}" for cut in told["cuts"])
    yield f"Split by {told['split_rule']} (seed {told['seed']})."
    yield f"Of {told['tiers']} tiers, cut at scores {cuts}."
    yield ""
    yield from _table(("split", "photos"), [(k, f"{n:,}") for k, n in told["splits"].items() if n])
    tiers = [(tier, f"{photos:,}") for tier, photos in told["photos_by_tier"].items()]
    yield from _table(("tier", "photos"), tiers)
    for what, values in (("mean", told["mean"]), ("deviation", told["std"])):
        yield f"Channel {what} of the training split: {', '.join(f'{v:.4f}' for v in values)}."
    yield ""
    for warning in told["warnings"]:
        yield f"- Warning: {warning}"
    if told["warnings"]:
        yield ""


def _table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    yield f"| {' | '.join(names)} |"
    yield f"|{'---|' * len(names)}"
    for row in rows:
        yield f"| {' | '.join(str(cell) for cell in row)} |"
    yield ""


def _plain(text: str) -> str:
    """Return a name that Markdown takes for no more than a name."""
    return "".join(
        f"\\{char}" if char in "\\`*_[]<>#|" else char for char in " ".join(text.split())
    )
