"""Scores: what a run says of each photo, one row for each pair, written in bulk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.sql.expression import bindparam

from popq.catalogue.db import Tx, insert_or_keep
from popq.catalogue.models import Photo, Score
from popq.catalogue.states import PhotoState


@dataclass(frozen=True, slots=True)
class Scored:
    """One photo's score, tier, and probability of each tier (None where the run makes none)."""

    photo: int
    score: float
    tier: int
    probabilities: list[float] | None


def record(tx: Tx, run: int, scored: Sequence[Scored]) -> int:
    """Write the scores of photos that are still stored and unscored by the run; return how many."""
    ids = [row.photo for row in scored]
    stored = select(Photo.id).where(Photo.id.in_(ids), Photo.state == PhotoState.STORED)
    done = select(Score.photo_id).where(Score.run_id == run, Score.photo_id.in_(ids))
    wanted = set(tx.execute(stored).scalars()) - set(tx.execute(done).scalars())
    rows = [
        {
            "b_photo": row.photo,
            "b_score": row.score,
            "b_tier": row.tier,
            "b_probabilities": row.probabilities,
        }
        for row in scored
        if row.photo in wanted
    ]
    if rows:
        values = {
            "run_id": run,
            "photo_id": bindparam("b_photo"),
            "score": bindparam("b_score"),
            "tier": bindparam("b_tier"),
            "probabilities": bindparam("b_probabilities", type_=Score.probabilities.type),
        }
        # A worker that lost its lease may write the same row at this moment.
        tx.execute(insert_or_keep(tx, Score).values(values), rows)
    return len(rows)


def count(tx: Tx, run: int) -> int:
    """Return how many photos the run has scored."""
    return int(tx.execute(select(func.count()).where(Score.run_id == run)).scalar_one())
