"""Questions people ask of the catalogue: states, one photo's story, failures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, bindparam, exists, func, select

from popq.catalogue.db import Tx
from popq.catalogue.models import Batch, Failure, Job, Member, Photo, Run, Score
from popq.catalogue.states import BatchState, PhotoState
from popq.errors import BadInput

#: What is told of each failed try, in the order of an export.
FAILURE_COLUMNS: Final = (
    *("photo_id", "flickr_id", "page_url", "owner", "state", "reason"),
    *("job", "stage", "outcome", "http_status", "message", "failed_at"),
)
_AT_A_TIME: Final = 5_000


def photos_by_state(tx: Tx) -> dict[str, int]:
    """Return the number of photos in every state, zeros included."""
    query = select(Photo.state, func.count()).group_by(Photo.state)
    counted = {row[0]: row[1] for row in tx.execute(query)}
    return {str(state): counted.get(state, 0) for state in PhotoState}


def mean_bytes(tx: Tx) -> int | None:
    """Return the mean size of a stored photo's file; None where none is stored."""
    mean = tx.execute(select(func.avg(Photo.bytes)).where(Photo.state == PhotoState.STORED))
    found = mean.scalar()
    return None if found is None else round(float(found))


def reasons(tx: Tx) -> dict[str, int]:
    """Return the number of photos by the reason for which they left."""
    query = select(Photo.reason, func.count()).where(Photo.reason.is_not(None))
    rows = tx.execute(query.group_by(Photo.reason).order_by(Photo.reason))
    return {str(row[0]): row[1] for row in rows}


def photo(tx: Tx, photo_id: int) -> dict[str, Any]:
    """Return all that is known of a photo, by its Flickr id or else by its catalogue id.

    `BadInput` when the catalogue knows neither.
    """
    columns = Photo.__table__.c
    for key in (Photo.flickr_id, Photo.id):
        fits = abs(photo_id) < 2**63
        row = tx.execute(select(*columns).where(key == photo_id)).one_or_none() if fits else None
        if row is not None:
            break
    else:
        raise BadInput(f"No photo has the Flickr id or catalogue id {photo_id}.")
    story = _plain(row)
    failed = select(Failure.failed_at, Failure.outcome, Failure.http_status, Failure.message)
    scores = select(Score.run_id, Score.score, Score.tier, Score.probabilities)
    tiers = select(Member.dataset_id, Member.tier, Member.split)
    story["failures"] = _all(tx, failed.where(Failure.photo_id == row.id).order_by(Failure.id))
    story["scores"] = _all(tx, scores.where(Score.photo_id == row.id).order_by(Score.run_id))
    story["datasets"] = _all(tx, tiers.where(Member.photo_id == row.id).order_by(Member.dataset_id))
    return story


def failures(
    tx: Tx, limit: int, *, job: int | None = None, outcome: str | None = None
) -> list[dict[str, Any]]:
    """Return the newest failed tries, with their photos' pages; of one job or outcome if given."""
    columns = (Failure.failed_at, Failure.job_id, Failure.outcome, Failure.http_status)
    query = (
        select(*columns, Failure.message, Photo.flickr_id, Photo.page_url)
        .join(Photo, Photo.id == Failure.photo_id)
        .where(*_narrowed(job, outcome))
        .order_by(Failure.id.desc())
        .limit(limit)
    )
    return _all(tx, query)


def all_failures(
    tx: Tx, *, job: int | None = None, outcome: str | None = None
) -> Iterator[list[dict[str, Any]]]:
    """Yield every failed try, oldest first, some thousands at a time, by `FAILURE_COLUMNS`.

    What fails meanwhile may be among them or not.
    """
    about = (Failure.http_status, Failure.message, Failure.failed_at)
    query = (
        select(Failure.id, Failure.photo_id, Photo.flickr_id, Photo.page_url, Photo.owner)
        .add_columns(Photo.state, Photo.reason, Failure.job_id.label("job"), Job.stage)
        .add_columns(Failure.outcome, *about)
        .join(Photo, Photo.id == Failure.photo_id)
        .join(Job, Job.id == Failure.job_id)
        .where(Failure.id > bindparam("after"), *_narrowed(job, outcome))
        .order_by(Failure.id)
        .limit(_AT_A_TIME)
    )
    after = 0
    while rows := [_plain(row) for row in tx.execute(query, {"after": after})]:
        after = [row.pop("id") for row in rows][-1]
        yield rows


def _narrowed(job: int | None, outcome: str | None) -> list[ColumnElement[bool]]:
    wanted = ((Failure.job_id, job), (Failure.outcome, outcome))
    return [column == value for column, value in wanted if value is not None]


def job(tx: Tx, job_id: int) -> dict[str, Any]:
    """Return what is told of one job beyond its progress: times, batches, outcomes of tries."""
    about = select(Job.run_id, Job.via, Job.created_at, Job.finished_at).where(Job.id == job_id)
    (told,) = _all(tx, about)
    states = select(Batch.state, func.count()).where(Batch.job_id == job_id)
    outcomes = select(Failure.outcome, func.count()).where(Failure.job_id == job_id)
    counted = _counted(tx, states.group_by(Batch.state))
    told["batches_by_state"] = {str(state): counted.get(state, 0) for state in BatchState}
    told["outcomes"] = _counted(tx, outcomes.group_by(Failure.outcome).order_by(Failure.outcome))
    return told


def _counted(tx: Tx, query: Any) -> dict[str, int]:
    return {str(row[0]): row[1] for row in tx.execute(query)}


def score_rate(tx: Tx) -> float | None:
    """Return the photos a second of the newest score job that scored any; None without one."""
    rate = func.sum(Batch.moved) / func.sum(Batch.seconds)
    scored = select(rate).join(Job, Job.id == Batch.job_id)
    scored = scored.where(Job.stage == "score", Batch.moved > 0, Batch.seconds > 0)
    newest = scored.group_by(Job.id).order_by(Job.id.desc()).limit(1)
    found = tx.execute(newest).scalar_one_or_none()
    return None if found is None else float(found)


def any_stored(tx: Tx) -> bool:
    """Return whether any photo is stored."""
    stored = exists().where(Photo.state == PhotoState.STORED)
    return bool(tx.execute(select(stored)).scalar_one())


def newest_run(tx: Tx) -> int | None:
    """Return the id of the newest run that is done."""
    return tx.execute(select(func.max(Run.id)).where(Run.state == "done")).scalar_one()


def _all(tx: Tx, query: Any) -> list[dict[str, Any]]:
    return [_plain(row) for row in tx.execute(query)]


def _plain(row: Any) -> dict[str, Any]:
    """Return a row as a dict that JSON can hold."""
    mapping = row._mapping  # noqa: SLF001 - a documented name
    return {k: v.isoformat() if hasattr(v, "isoformat") else v for k, v in mapping.items()}


def rows_of(found: Sequence[Any]) -> list[dict[str, Any]]:
    """Return rows as dicts that JSON can hold."""
    return [_plain(row) for row in found]
