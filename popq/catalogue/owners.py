"""Owner batches: an owner's photos in a job, kept together so that one call may find many.

Flickr lists an owner's photos 500 to a call, newest first. A resolve job that asks the API cuts,
when it is made, one batch for each owner with many of its photos; all other photos lie in plain
ranges. So each batch has a key: `batches.owner`, or '' for a plain one. A photo's key is its owner
if that owner has a batch in the job, else ''. A batch holds those photos between its `lo` and `hi`
that have its key, and batches of one key never overlap. So each photo lies in at most one batch of
a job, whatever ranges of other keys reach over it, and all that `ranges` says holds for each key.

Owners get batches only when the job is made: later, an owner's photos might lie in a plain range
that a worker holds, and would change hands. What turns up later for an owner who has batches opens
them again, or gets one more beside them; a batch of a worker-killing photo is halved under its key.
For a photo whose owner is corrected meanwhile (an import, the API's word) the new owner's batches
are its own; if they do not reach it, the next request takes it up.

How many are many? With k of an owner's photos listed, spread over a stream of S, the first page
finds about 500k/S of them for one call, so it pays for streams of up to 500k photos. People of
whom a list has several photos have some thousands at most: k = 5 pays up to 2,500. When it does not
pay it costs one call (`stages.stream`).
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import ColumnElement, Select, case, func, literal_column, select, true
from sqlalchemy.orm import aliased

from popq.catalogue.models import Batch, Photo

#: An owner with so many of a job's photos gets a batch.
OWNER_AT_LEAST: Final = 5
#: NSIDs such as 12345678@N00. Shorter numbers are a data set's own names: no such accounts.
_NSID: Final = "_____%@N__"
#: The key of a plain range; a literal, so that the partial index serves.
PLAIN: Final[ColumnElement[str]] = literal_column("''")


def of_job(job: Any) -> Select[str]:
    """Select the owners that have batches in the job."""
    keyed = aliased(Batch)
    return select(keyed.owner).where(keyed.job_id == job, keyed.owner != PLAIN)


def with_many(work: ColumnElement[bool]) -> Select[Any]:
    """Select the owners with many photos in the work of a job that is being made."""
    # Sorted, not by the index of owners: to fetch each photo's row by it takes twice as long.
    owner = func.coalesce(Photo.owner, PLAIN)
    many = select(owner).where(work, Photo.owner.like(_NSID)).group_by(owner)
    return many.having(func.count() >= OWNER_AT_LEAST).correlate(None)


def key(owners: Select[Any]) -> ColumnElement[str]:
    """Return a photo's key where these owners have batches."""
    return case((Photo.owner.in_(owners), Photo.owner), else_=PLAIN)


def mine(stage: str, job: Any, owner: Any) -> ColumnElement[bool]:
    """Return the condition that a photo has the key of a batch: `owner`, or None for a plain one.

    `job` and `owner` may be bound parameters. Only resolve jobs have owners' batches.
    """
    if stage != "resolve":
        return true()
    if owner is None:
        return Photo.owner.is_(None) | Photo.owner.not_in(of_job(job))
    of_owner: ColumnElement[bool] = Photo.owner == owner
    return of_owner
