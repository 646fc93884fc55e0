"""States of photos, jobs, batches and runs, and which outcome leads where.

    listed ──resolve──▶ resolved ──download──▶ stored
      │                    │  ▲                  │
      │                    │  └─ file missing ───┘
      ├─▶ gone ◀───────────┤       (removed, private: reason says which)
      └─▶ rejected ◀───────┘       (video, corrupt, too small: reason says which)

Terminal states are facts about the photo only. A photo that ran out of tries in an outage stays
where it was: its job ends with "N left", and the next job takes it up again.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from popq.errors import Outcome


class PhotoState(StrEnum):
    """Where a photo is in its life."""

    #: Imported; its image URL is not known.
    LISTED = "listed"
    #: Its image URL is known; the image is not here.
    RESOLVED = "resolved"
    #: Its image is in the store, checked and measured.
    STORED = "stored"
    #: Flickr does not show it any more.
    GONE = "gone"
    #: It is there, and no photo that popq can learn from.
    REJECTED = "rejected"


class JobState(StrEnum):
    """Where a request for work is."""

    #: Nobody has claimed a batch of it yet.
    QUEUED = "queued"
    #: At least one batch was claimed.
    RUNNING = "running"
    #: Kept, but no batch of it is handed out.
    PAUSED = "paused"
    #: Every batch is closed; photos may be left.
    DONE = "done"
    #: A person ended it.
    CANCELLED = "cancelled"
    #: It could not go on.
    FAILED = "failed"


class BatchState(StrEnum):
    """Where a range of photos is."""

    #: May be claimed once it is due.
    READY = "ready"
    #: A worker has it until it is due again.
    LEASED = "leased"
    #: Closed.
    DONE = "done"


class RunState(StrEnum):
    """Where a training run is."""

    #: Waits for a worker.
    QUEUED = "queued"
    #: A worker trains it.
    RUNNING = "running"
    #: Trained; its weights are in its folder.
    DONE = "done"
    #: It could not go on; its message says why.
    FAILED = "failed"
    #: A person stopped it; it can go on.
    STOPPED = "stopped"


ACTIVE_JOBS: Final = (JobState.QUEUED, JobState.RUNNING, JobState.PAUSED)
CLAIMABLE_JOBS: Final = (JobState.QUEUED, JobState.RUNNING)

GONE_REASONS: Final = frozenset(
    {Outcome.NOT_FOUND, Outcome.PRIVATE, Outcome.GONE, Outcome.PLACEHOLDER}
)
REJECTED_REASONS: Final = frozenset(
    {Outcome.VIDEO, Outcome.CORRUPT, Outcome.TOO_SMALL, Outcome.TOO_LARGE, Outcome.KILLS_WORKER}
)


def exit_for(outcome: Outcome) -> PhotoState:
    """Return the terminal state that a permanent outcome leads to.

    Raises `ValueError` for an outcome that ends no photo's life: a mistake in the caller.
    """
    if outcome in GONE_REASONS:
        return PhotoState.GONE
    if outcome in REJECTED_REASONS:
        return PhotoState.REJECTED
    raise ValueError(f"outcome {outcome!r} is no reason to give a photo up")
