"""The tables of the catalogue, as SQLAlchemy typed models with CHECKs for what must never be.

Two kinds of time: columns named `*_at` are timestamps for people; `due`, `settled`, `leased_until`,
`paused_until`, `rung` and the like are epoch seconds of the database's clock, since leases and
pauses are arithmetic. A photo's row is written once per stage and no index covers what stages
update, so that PostgreSQL can update in place; but for `owner`, which resolving writes only where
the list did not name the owner, or another one.
"""

from popq.catalogue.models.base import Base
from popq.catalogue.models.learning import Dataset, Epoch, Judgement, Member, Run, Score
from popq.catalogue.models.photos import Photo, PhotoMetadata, PhotoMoments, Tombstone
from popq.catalogue.models.work import Batch, Failure, Host, Job, Worker

__all__ = [
    "Base",
    "Batch",
    "Dataset",
    "Epoch",
    "Failure",
    "Host",
    "Job",
    "Judgement",
    "Member",
    "Photo",
    "PhotoMetadata",
    "PhotoMoments",
    "Run",
    "Score",
    "Tombstone",
    "Worker",
]
