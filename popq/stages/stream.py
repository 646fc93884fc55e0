"""An owner's stream: finding wanted photos by pages of 500, while that costs fewer calls.

What pages do not show is asked for one by one: Flickr leaves out of a stream what it takes for
unsafe, so that a photo is missing there says nothing of it. A page is asked for only while the
pages so far have found as many photos as there were pages, and fewer pages are left than photos. So
at any time pages <= found + 1, and an owner of k wanted photos never costs more than k + 1 calls:
the pages, and one call for each of the k - found others; calls that are tried again beside.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from popq.errors import Permanent, Transient
from popq.flickr.client import PER_PAGE, Page, PhotoInfo


@dataclass(frozen=True, slots=True)
class Turned:
    """A page of an owner's was asked for; `page` is the next one, 0 when none is worth a call."""

    page: int


def walk(
    wanted: set[int], ask: Callable[[int], Page], page: int, found: int
) -> Generator[tuple[list[PhotoInfo], int]]:
    """Yield what each page has of the wanted Flickr ids, and the next page (0: no more).

    `page` is the page to begin with, `found` how many photos the pages before it had. What Flickr
    says of an owner (deleted, unknown) is no word about a photo, and ends the walk. So do two
    faults at a page; but then the page has not been turned, and is worth a call again later. Other
    errors of `ask` go on up.
    """
    left, faults = set(wanted), 0
    while page:
        try:
            answer = ask(page)
        except Transient:
            faults += 1
            if faults > 1:
                return
            continue
        except Permanent:
            yield [], 0
            return
        faults = 0
        here = {info.flickr_id: info for info in answer.photos if info.flickr_id in left}
        left -= here.keys()
        found += len(here)
        # Newest first, and ids grow: behind a photo older than all that is wanted comes nothing.
        passed = left and any(info.flickr_id < min(left) for info in answer.photos)
        pays = page <= found and 0 < answer.pages - page < len(left)
        page = page + 1 if pays and not passed else 0
        yield list(here.values()), page


def bounds(batches: Sequence[tuple[str, int]]) -> tuple[int, int]:
    """Return the fewest and the most calls for batches of (owner or '', photos), retries left out.

    An owner's batch costs at least its full pages, and at most a call each and one page in vain.
    """
    plain = sum(photos for owner, photos in batches if not owner)
    streams = [photos for owner, photos in batches if owner]
    fewest = sum(-(-photos // PER_PAGE) for photos in streams)
    return plain + fewest, plain + sum(streams) + len(streams)
