"""What `popq status` asks: the funnel, jobs with rate and time left, workers, hosts, failures.

All of it from the catalogue alone, in a handful of statements of which only the first, one pass
over the photos, grows with their number.

**Rate.** A batch's photos count as spread evenly from its first claim (`begun`) to its last results
(`settled`); a job's rate is those that fall into the last ten minutes, by that time. While a job is
younger than that, the time since its first claim stands instead of the ten minutes. So a worker's
photos are seen with its next partial settle, waits (a paused host, a retry) count as time, and a
job that stands still comes to 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import case, func, select

from popq.catalogue.db import Tx, db_now
from popq.catalogue.models import Batch

#: Seconds of which a job's rate tells.
RATE_S: Final = 600.0
#: A worker that has not been seen for so many seconds is silent.
ALIVE_S: Final = 60.0
#: Seconds of which failures are told.
FAILURES_S: Final = 3600.0
#: How many jobs that have ended are shown beside the active ones.
ENDED_JOBS: Final = 5


def clock(tx: Tx) -> float:
    """Return the database's clock in epoch seconds."""
    return float(tx.execute(select(db_now())).scalar_one())


def rates(tx: Tx, jobs: Sequence[int]) -> dict[int, float]:
    """Return the photos a second that each of the jobs finished of late; see the module.

    Photos that moved or left count, failed tries do not. A job without any is left out.
    """
    now = clock(tx)
    start = now - RATE_S
    done = Batch.moved + Batch.exited
    within = case(
        (Batch.begun >= start, done * 1.0),
        else_=done * (Batch.settled - start) / (Batch.settled - Batch.begun),
    )
    began = func.min(case((Batch.begun >= start, Batch.begun), else_=start))
    query = select(Batch.job_id, func.sum(within), began).group_by(Batch.job_id)
    rows = tx.execute(query.where(Batch.job_id.in_(jobs), Batch.settled > start))
    # In a job's first second there is nothing to tell by.
    return {job: float(photos) / max(now - since, 1.0) for job, photos, since in rows}


def left_s(photos: int, per_second: float) -> float | None:
    """Return the seconds that so many photos take; None where that cannot be told."""
    if photos <= 0:
        return 0.0
    return photos / per_second if per_second > 0 else None
