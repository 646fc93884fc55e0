"""Judgements: what a run said of each validation photo when it was judged.

They stay as they were then, whatever becomes of the files, so that two runs can be compared photo
by photo. Scores of all stored photos are another table: `popq score` writes them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from sqlalchemy import Table, delete, select

from popq.catalogue.db import Tx, bulk_insert
from popq.catalogue.models import Judgement, Member, Photo, Run, Score

_COLUMNS = ("run_id", "photo_id", "score", "tier", "probabilities")


@dataclass(frozen=True, slots=True)
class Judged:
    """What a run said of a photo beside what its data set says; `owner` is None when unknown."""

    photo: int
    owner: str | None
    label: float
    tier: int
    score: float
    predicted: int
    probabilities: list[float] | None


def record(
    tx: Tx,
    run: int,
    photos: Sequence[int],
    scores: Sequence[float],
    tiers: Sequence[int],
    probabilities: Sequence[list[float]] | None,
) -> None:
    """Write a run's judgements of photos, in place of those it has; purged photos are left out."""
    tx.execute(delete(Judgement).where(Judgement.run_id == run))
    # Held until the end of the transaction: a purge at this moment would break the foreign key.
    query = (
        select(Photo.id)
        .join(Member, Member.photo_id == Photo.id)
        .join(Run, Run.dataset_id == Member.dataset_id)
        .where(Run.id == run, Member.split == "val")
        .order_by(Photo.id)
    )
    held = query.with_for_update(read=True, key_share=True, of=Photo)
    kept = set(tx.execute(held).scalars())
    rows = [
        (
            run,
            photo,
            scores[place],
            tiers[place],
            None if probabilities is None else json.dumps(probabilities[place]),
        )
        for place, photo in enumerate(photos)
        if photo in kept
    ]
    bulk_insert(tx, cast("Table", Judgement.__table__), _COLUMNS, rows)


def of_run(tx: Tx, run: int, dataset: int) -> list[Judged]:
    """Return what the run said of its data set's validation photos, by photo id.

    Of a run that was judged before judgements were kept: the scores of those it has scored since.
    Empty where it has neither.
    """
    for said in (Judgement, Score):
        query = (
            select(Member.photo_id, Photo.owner, Member.label, Member.tier)
            .add_columns(said.score, said.tier.label("predicted"), said.probabilities)
            .join(Photo, Photo.id == Member.photo_id)
            .join(said, said.photo_id == Member.photo_id)
            .where(Member.dataset_id == dataset, Member.split == "val", said.run_id == run)
            .order_by(Member.photo_id)
        )
        found = [Judged(*row) for row in tx.execute(query)]
        if found:
            return found
    return []
