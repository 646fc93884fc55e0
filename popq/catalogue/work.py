"""What is work: the photos a stage finds in its start state, within what a job is asked for.

A job's `filter` is a JSON object; each key that is there narrows the work, and `{}` is all of it:

| key           | only photos                                                      |
|---------------|------------------------------------------------------------------|
| `owner`       | of this owner (NSID, as the catalogue has it)                    |
| `min_label`   | whose label is at least this                                     |
| `dataset`     | in the data set of this name                                     |
| `failed_in`   | of which a try failed in this job, its worker's deaths left out  |
| `reason`      | with `failed_in`: whose tries there came to just this outcome    |

One key widens the work of scoring instead: with `again_after` photos are work, too, whose score was
written by a job up to this id. So a job that scores everything again knows what it has done.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import ColumnElement, exists, func, select

from popq.catalogue.models import Dataset, Failure, Member, Photo, Score
from popq.catalogue.states import PhotoState
from popq.errors import Outcome

#: The narrowing of a job, as its row keeps it.
Filter = dict[str, Any]

#: The state in which a stage finds its photos.
START: Final = {
    "resolve": PhotoState.LISTED,
    "download": PhotoState.RESOLVED,
    "score": PhotoState.STORED,
}
#: Where a stage takes a photo when all goes well; scoring leaves it where it is.
FORWARD: Final = {"resolve": PhotoState.RESOLVED, "download": PhotoState.STORED}


def work_of(stage: str, run_id: int | None, only: Filter) -> ColumnElement[bool]:
    """Return the condition on `photos` under which a photo is work for such a job."""
    condition = Photo.state == START[stage]
    if stage == "resolve":
        condition &= Photo.flickr_id.is_not(None)
    if stage == "score":
        scored = exists().where(Score.run_id == run_id, Score.photo_id == Photo.id)
        if "again_after" in only:
            scored = scored.where(Score.job_id > only["again_after"])
        condition &= ~scored
    if "dataset" in only:
        named = select(Dataset.id).where(Dataset.name == only["dataset"]).scalar_subquery()
        condition &= exists().where(Member.dataset_id == named, Member.photo_id == Photo.id)
    if "owner" in only:
        condition &= Photo.owner == only["owner"]
    if "min_label" in only:
        condition &= Photo.label >= only["min_label"]
    if "failed_in" in only:
        condition &= failed_in(only["failed_in"], only.get("reason"))
    return condition


def failed_in(job: int, reason: str | None) -> ColumnElement[bool]:
    """Return the condition that a try of the photo failed in the job, for the reason if given."""
    tried = exists().where(Failure.job_id == job, Failure.photo_id == Photo.id)
    if reason is not None:
        return tried.where(Failure.outcome == reason)
    return tried.where(Failure.outcome != Outcome.KILLS_WORKER)


#: Tries that met a host that was down cost a photo one try together, so that a photo that fails
#: alone, of all that are left, is not tried for ever.
_DOWN_FOR_A_TRY: Final = 10


def spent(job: int, max_tries: int) -> ColumnElement[bool]:
    """Return the condition that a photo's tries in the job are used up; see `used_up`."""
    mine = (Failure.job_id == job) & (Failure.photo_id == Photo.id)
    down = Failure.outcome == Outcome.HOST_DOWN
    tries = func.count().filter(~down) + func.count().filter(down) // _DOWN_FOR_A_TRY
    counted_ = select(tries).select_from(Failure).where(mine).correlate(Photo).scalar_subquery()
    return (counted_ >= max_tries) | exists().where(mine, Failure.outcome == Outcome.KILLS_WORKER)


def counted(tried: dict[str, int]) -> int:
    """Return how many tries these are (a count for each outcome), as a job counts them."""
    down = tried.get(Outcome.HOST_DOWN, 0)
    return sum(tried.values()) - down + down // _DOWN_FOR_A_TRY


def used_up(tried: dict[str, int], max_tries: int) -> bool:
    """Return whether these tries (a count for each outcome) are all that a job allows a photo."""
    return counted(tried) >= max_tries or Outcome.KILLS_WORKER in tried


def describe(only: Filter) -> str:
    """Return a filter in a person's words: `all photos`, `photos of 12@N00`, …."""
    words = [
        f"of {only['owner']}" if "owner" in only else "",
        f"labelled {only['min_label']:g} or more" if "min_label" in only else "",
        f"that failed in job {only['failed_in']}" if "failed_in" in only else "",
        f"as {only['reason']}" if "reason" in only else "",
        f"in the data set {only['dataset']}" if "dataset" in only else "",
        "again" if "again_after" in only else "",
    ]
    return " ".join(["photos", *filter(None, words)]) if only else "all photos"
