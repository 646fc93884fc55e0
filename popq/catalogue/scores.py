"""Scores: what a run says of each photo, one row for each pair, written in bulk.

One statement a settle on PostgreSQL, from one JSON parameter (see `steps`); on SQLite, where a
statement is a function call, one that is run once a photo.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import delete, func, select, text

from popq.catalogue.db import Tx
from popq.catalogue.models import Score


@dataclass(frozen=True, slots=True)
class Scored:
    """One photo's score, tier, and probability of each tier (None where the run makes none).

    `file_key` is of the file that was looked at; None of the one that the photo has.
    """

    photo: int
    score: float
    tier: int
    probabilities: list[float] | None
    file_key: str | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where scores come from: the job that wrote them and the revision of popq that computed them.

    `again_after` says that scores of jobs up to this id are written anew; None keeps them.
    """

    job: int | None = None
    code: str | None = None
    again_after: int | None = None


_INTO: Final = "INSERT INTO scores (run_id, job_id, code, photo_id, score, tier, probabilities)"
_ONE: Final = """
SELECT ?, ?, ?, ?, ?, ?, ? WHERE EXISTS (
    SELECT 1 FROM photos WHERE id = ? AND state = 'stored' AND file_key = coalesce(?, file_key))"""
_MANY: Final = """
SELECT :run, CAST(:job AS bigint), CAST(:code AS text), photo_id, score, tier, probabilities
FROM json_to_recordset(:rows) AS given(
    photo_id bigint, score double precision, tier bigint, probabilities json, looked_at text)
JOIN photos ON photos.id = given.photo_id AND photos.state = 'stored'
    AND photos.file_key = coalesce(given.looked_at, photos.file_key)
ORDER BY given.photo_id"""
# A worker that lost its lease may write the same row at this moment: the first one stays.
_KEEP: Final = "ON CONFLICT (run_id, photo_id) DO NOTHING"
_REPLACE: Final = """
ON CONFLICT (run_id, photo_id) DO UPDATE SET
    score = excluded.score, tier = excluded.tier, probabilities = excluded.probabilities,
    job_id = excluded.job_id, code = excluded.code, scored_at = CURRENT_TIMESTAMP
WHERE coalesce(scores.job_id, 0) <= """


def record(tx: Tx, run: int, scored: Sequence[Scored], origin: Origin | None = None) -> int:
    """Write the scores of photos that still have the file; return how many were written.

    A photo that the run has scored already keeps its score, unless `origin` says otherwise.
    """
    if not scored:
        return 0
    whence = origin or Origin()
    conflict = _KEEP if whence.again_after is None else f"{_REPLACE}{int(whence.again_after)}"
    if tx.dialect.name == "postgresql":
        return _record_many(tx, run, scored, whence, conflict)
    each = f"{_INTO} {_ONE} {conflict}"
    first = (run, whence.job, whence.code)
    rows = [
        (*first, row.photo, row.score, row.tier, _json(row), row.photo, row.file_key)
        for row in scored
    ]
    return int(tx.exec_driver_sql(each, rows).rowcount)


def _json(row: Scored) -> str | None:
    return None if row.probabilities is None else json.dumps(row.probabilities)


def _record_many(tx: Tx, run: int, scored: Sequence[Scored], whence: Origin, conflict: str) -> int:
    # In order of ids, as everybody locks photos.
    many = f"{_INTO} {_MANY} {conflict}"
    rows = json.dumps(
        [
            {
                "photo_id": row.photo,
                "score": row.score,
                "tier": row.tier,
                "probabilities": row.probabilities,
                "looked_at": row.file_key,
            }
            for row in scored
        ]
    )
    given: dict[str, Any] = {"run": run, "job": whence.job, "code": whence.code, "rows": rows}
    return int(tx.execute(text(many), given).rowcount)


def drop(tx: Tx, photos: Sequence[int]) -> None:
    """Delete what all runs said of photos whose bytes are others now: it was of another picture."""
    tx.execute(delete(Score).where(Score.photo_id.in_(photos)))


def count(tx: Tx, run: int) -> int:
    """Return how many photos the run has scored."""
    return int(tx.execute(select(func.count()).where(Score.run_id == run)).scalar_one())
