"""Workers: who is there, by their own word.

A worker process writes when it was last there (by the database's clock), and takes its row away
when it ends well; one that died leaves its row behind, and the row's age tells. Nothing depends on
these rows but what people are shown: leases alone say whose work may be taken.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import delete, exists, select, update

from popq.catalogue.db import Tx, db_now, insert_or_keep
from popq.catalogue.models import Worker

#: A worker says that it is there so often, in seconds.
BEAT_S: Final = 10.0
#: One that has not said so for a day is forgotten.
FORGET_S: Final = 86_400.0


def beat(tx: Tx, name: str, queue: str, threads: int) -> None:
    """Note that the worker of this name is there now, works this queue, in so many threads."""
    values = {"queue": queue, "threads": threads, "seen": db_now()}
    same = update(Worker).where(Worker.name == name)
    if tx.execute(same.values(values)).rowcount == 0:
        tx.execute(insert_or_keep(tx, Worker).values(name=name, **values))


def is_there(tx: Tx, prefix: str, within_s: float) -> bool:
    """Return whether a worker whose name begins so has said that it is there, not long ago."""
    here = Worker.name.startswith(prefix, autoescape=True)
    return bool(
        tx.execute(select(exists().where(here, Worker.seen > db_now() - within_s))).scalar()
    )


def leave(tx: Tx, name: str) -> None:
    """Take the worker's row away: it has ended and holds nothing."""
    tx.execute(delete(Worker).where(Worker.name == name))


def forget(tx: Tx, older_than_s: float) -> int:
    """Take away the rows of workers not seen for so long; return how many there were."""
    gone = Worker.seen < db_now() - older_than_s
    return int(tx.execute(delete(Worker).where(gone)).rowcount)
