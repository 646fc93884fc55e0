"""Photos that left and come back: their exit is taken back, and their stage finds them again.

Damaged bytes, too, may be what a host in trouble sent; those photos come back when asked for.

"Gone" is what a host said once; Flickr has said it of photos that live, and owners show photos
again. Nothing is lost by looking twice: a photo that is gone still leaves again, with a new note.
"""

from __future__ import annotations

import datetime as dt
from typing import Final

from sqlalchemy import ColumnElement, func, select, update

from popq.catalogue.db import Tx, db_now
from popq.catalogue.models import Failure, Photo
from popq.catalogue.states import GONE_REASONS, PhotoState
from popq.errors import Outcome

#: Why photos may have left that come back; those that are `corrupt` only when asked for.
REASONS: Final = GONE_REASONS | {Outcome.CORRUPT}


def gone_since(tx: Tx, older_than_s: float, reason: str | None) -> ColumnElement[bool]:
    """Return the condition that a photo of Flickr's is gone, and was said to be long enough ago.

    `older_than_s` counts from its newest note in `failures`, by the database's clock; a photo
    without any note is due. `reason`, one of `REASONS`, narrows it to photos that left for just
    that, be it `corrupt`.
    """
    now = tx.execute(select(db_now())).scalar_one()
    since = dt.datetime.fromtimestamp(max(0.0, now - older_than_s), dt.UTC)
    # A note of the same second as the limit is old enough: SQLite keeps whole seconds.
    noted = select(func.max(Failure.failed_at)).where(Failure.photo_id == Photo.id)
    last_word = noted.correlate(Photo).scalar_subquery()
    state = PhotoState.REJECTED if reason == Outcome.CORRUPT else PhotoState.GONE
    due = (Photo.state == state) & Photo.flickr_id.is_not(None)
    due &= last_word.is_(None) | (last_word <= since)
    return due if reason is None else due & (Photo.reason == reason)


def count(tx: Tx, which: ColumnElement[bool], limit: int | None = None) -> dict[str, int]:
    """Return how many photos `bring_back` would take, by their reasons."""
    chosen = select(Photo.reason).where(which).order_by(Photo.id).limit(limit).subquery()
    query = select(chosen.c.reason, func.count()).group_by(chosen.c.reason)
    return {str(row[0]): row[1] for row in tx.execute(query.order_by(chosen.c.reason))}


def bring_back(
    tx: Tx, which: ColumnElement[bool], to: PhotoState, limit: int | None = None
) -> list[int]:
    """Put those photos, or the first of them by id, in the state `to` again; return their ids.

    `which` says in what state they must be: it is looked at again once a photo is locked.
    """
    query = select(Photo.id).where(which).order_by(Photo.id).limit(limit)
    found = query.with_for_update(key_share=True).cte("found")
    back = update(Photo).where(Photo.id == found.c.id).values(state=to, reason=None)
    return sorted(tx.execute(back.returning(Photo.id)).scalars())
