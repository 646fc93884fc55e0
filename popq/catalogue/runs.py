"""Training runs: the row, its lease, its epochs.

    queued ──claim──▶ running ──finish──▶ done
      ▲                 │  └──fail──▶ failed
      └── handed back, ─┘  └──stop──▶ stopped ──requeue──▶ queued
          lease ran out

A run is leased like a batch: a term fences the results, the database's clock times the lease, and
the trainer renews it only while it makes progress. A run that waits is stopped at once; of one at
work it is asked, and its trainer sees it when it next tells how far it is. `stopped` is what a
person can mend: asked for again, the run goes on from its checkpoint. A purge of photos that it
learns from fails it instead, since its checkpoint is of them; see `fail_shrunk`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from sqlalchemy import ColumnElement, case, delete, func, insert, or_, select, update

from popq.catalogue.db import Tx, db_now
from popq.catalogue.models import Dataset, Epoch, Run
from popq.catalogue.states import RunState
from popq.errors import BadInput, LeaseLost

#: A run whose worker died this often without finishing an epoch in between is stopped.
MAX_EXPIRIES: Final = 5


#: What a stopped run says of itself.
GOES_ON: Final = "stopped; train it again and it goes on"
_ANEW: Final = "so it cannot go on; train again with the same options and a new run begins"
#: What a run says of itself whose photos were purged before it was done.
SHRUNK: Final = f"photos that it learnt from were purged, {_ANEW}"
#: What one says of itself that finds other data than it began with.
CHANGED: Final = (
    "photos that it learnt from were purged, or its pairs are others by now (owners or times of"
    f" posting were imported), {_ANEW}"
)


def create(
    tx: Tx, dataset: int, config: dict[str, Any], seed: int, tracker: str | None = None
) -> int:
    """Make a queued run and return its id."""
    row = {"dataset_id": dataset, "config": config, "seed": seed, "tracker": tracker}
    return int(tx.execute(insert(Run).values(row).returning(Run.id)).scalar_one())


def find_same(tx: Tx, dataset: int, config: dict[str, Any]) -> Any | None:
    """Return the newest run of the data set with the same configuration that has not failed."""
    query = select(*Run.__table__.c).where(Run.dataset_id == dataset, Run.state != RunState.FAILED)
    rows = tx.execute(query.order_by(Run.id.desc())).all()
    return next((row for row in rows if row.config == config), None)


def _claimable() -> ColumnElement[bool]:
    waiting = Run.state == RunState.QUEUED
    expired = (Run.state == RunState.RUNNING) & (Run.leased_until <= db_now())
    return or_(waiting, expired)


def claimable(tx: Tx) -> list[int]:
    """Return the ids of the runs that wait for a worker, oldest first."""
    return list(tx.execute(select(Run.id).where(_claimable()).order_by(Run.id)).scalars())


def claim(tx: Tx, run: int, worker: str, lease_s: float) -> int | None:
    """Lease the run and return the term, or None when another worker has it or it is over."""
    expired = case((Run.state == RunState.RUNNING, 1), else_=0)
    values = {
        "state": RunState.RUNNING,
        "worker": worker,
        "term": Run.term + 1,
        "leased_until": db_now() + lease_s,
        "expiries": Run.expiries + expired,
        "message": None,
    }
    take = update(Run).where(Run.id == run, _claimable()).values(values)
    row = tx.execute(take.returning(Run.term, Run.expiries, Run.stop_asked)).one_or_none()
    if row is None:
        return None
    if row.stop_asked:  # and its worker died before it saw
        stop(tx, run, row.term)
        return None
    if row.expiries >= MAX_EXPIRIES:
        why = f"its worker died {row.expiries} times; see the worker's log (memory?)"
        stop(tx, run, row.term, f"{why}. Train it again and it goes on")
        return None
    return int(row.term)


def requeue(tx: Tx, run: int, tracker: str | None = None) -> None:
    """Let a run that was stopped, or still waits, go on from its last checkpoint.

    One at work that was asked to stop, and has not stopped yet, is let go on: of two orders the
    later counts. A `tracker` that is named takes the place of the one before.
    """
    unfinished = Run.state.in_((RunState.STOPPED, RunState.QUEUED))
    values: dict[str, Any] = {
        "state": RunState.QUEUED,
        "message": None,
        "finished_at": None,
        "expiries": 0,
        "stop_asked": False,
    }
    if tracker is not None:
        values["tracker"] = tracker
    tx.execute(update(Run).where(Run.id == run, unfinished).values(values))
    at_work = (Run.id == run) & (Run.state == RunState.RUNNING)
    tx.execute(update(Run).where(at_work, Run.stop_asked).values(stop_asked=False))


def ask_to_stop(tx: Tx, run: int) -> RunState:
    """Stop a run that waits, or whose worker is gone; ask the worker of one that is trained.

    Returns the state after. Raises `BadInput` for a run that is unknown or over.
    """
    row = get(tx, run)
    ended = {
        "state": RunState.STOPPED,
        "worker": None,
        "finished_at": func.now(),
        "message": GOES_ON,
    }
    if tx.execute(update(Run).where(Run.id == run, _claimable()).values(ended)).rowcount:
        return RunState.STOPPED
    at_work = update(Run).where(Run.id == run, Run.state == RunState.RUNNING)
    if tx.execute(at_work.values(stop_asked=True)).rowcount:
        return RunState.RUNNING
    raise BadInput(f"Run {run} is {row.state} already; there is nothing to stop.")


def tell(tx: Tx, run: int, term: int, progress: dict[str, Any]) -> bool:
    """Record how far the run is; return whether it was asked to stop. `LeaseLost` as in `renew`."""
    row = tx.execute(
        _mine(run, term).values(progress=progress).returning(Run.stop_asked)
    ).one_or_none()
    if row is None:
        raise LeaseLost(f"run {run} has a newer term than {term}, or was ended")
    return bool(row.stop_asked)


def renew(tx: Tx, run: int, term: int, lease_s: float) -> None:
    """Keep the run for another `lease_s` seconds; `LeaseLost` when another worker has it."""
    values = {"leased_until": db_now() + lease_s}
    if tx.execute(_mine(run, term).values(values)).rowcount != 1:
        raise LeaseLost(f"run {run} has a newer term than {term}, or was ended")


def note(tx: Tx, run: int, term: int, **values: Any) -> None:
    """Write columns of a run that this worker holds; `LeaseLost` otherwise."""
    if tx.execute(_mine(run, term).values(values)).rowcount != 1:
        raise LeaseLost(f"run {run} has a newer term than {term}, or was ended")


def add_epoch(tx: Tx, run: int, term: int, epoch: Any, lease_s: float) -> bool:
    """Record one epoch (a dataclass with the columns of `epochs`) and renew the lease.

    Returns whether it was not recorded before. Only such an epoch forgives the deaths before it:
    each life of a run reports again what the ones before it have trained.
    """
    renew(tx, run, term, lease_s)
    row = asdict(epoch)
    again = delete(Epoch).where(Epoch.run_id == run, Epoch.epoch == row["epoch"])
    new = not tx.execute(again).rowcount
    tx.execute(insert(Epoch).values(run_id=run, **row))
    if new:
        tx.execute(_mine(run, term).values(expiries=0))
    return new


def finish(tx: Tx, run: int, term: int, **values: Any) -> None:
    """End the run as done with its best epoch, weights hash and metrics.

    Its message stays: what it says went otherwise than asked (memory ran out, say).
    """
    _end(tx, run, term, RunState.DONE, values)


def fail(tx: Tx, run: int, term: int, message: str) -> None:
    """End the run as failed, saying why."""
    _end(tx, run, term, RunState.FAILED, {"message": message})


def stop(tx: Tx, run: int, term: int, message: str = GOES_ON) -> None:
    """End the run as stopped by a person, or by what a person must mend (`message`)."""
    _end(tx, run, term, RunState.STOPPED, {"message": message})


def fail_shrunk(tx: Tx, datasets: Sequence[int]) -> None:
    """End the runs of these data sets that have begun and wait: photos they learn from left.

    Their checkpoints are of a larger data set, so they could never go on, and would be taken for
    the same run whenever it is asked for. One at work has all it needs, and is let go on; if it
    stops on the way, its checkpoint is refused when it is taken up. One that has not begun can.
    """
    waits = Run.state.in_((RunState.STOPPED, RunState.QUEUED)) & (Run.term > 0)
    ended = {"state": RunState.FAILED, "finished_at": func.now(), "message": SHRUNK}
    tx.execute(update(Run).where(Run.dataset_id.in_(datasets), waits).values(ended))


def hand_back(tx: Tx, run: int, term: int, message: str | None = None) -> None:
    """Let another worker go on with the run at once; `message` says why this one does not."""
    values = {"state": RunState.QUEUED, "worker": None, "message": message}
    if tx.execute(_mine(run, term).values(values)).rowcount != 1:
        raise LeaseLost(f"run {run} has a newer term than {term}, or was ended")


def _end(tx: Tx, run: int, term: int, state: RunState, values: dict[str, Any]) -> None:
    ended = {"state": state, "worker": None, "finished_at": func.now(), **values}
    if tx.execute(_mine(run, term).values(ended)).rowcount != 1:
        raise LeaseLost(f"run {run} has a newer term than {term}, or was ended")


def _mine(run: int, term: int) -> Any:
    held = (Run.id == run) & (Run.term == term) & (Run.state == RunState.RUNNING)
    return update(Run).where(held)


def get(tx: Tx, run: int) -> Any:
    """Return the run's row with its data set's name; `BadInput` when unknown."""
    query = select(*Run.__table__.c, Dataset.name.label("dataset")).join(Dataset)
    row = tx.execute(query.where(Run.id == run)).one_or_none()
    if row is None:
        raise BadInput(f"There is no run {run}; `popq runs` lists those there are.")
    return row


def list_all(tx: Tx) -> Sequence[Any]:
    """Return the rows of all runs with their data sets' names, newest first."""
    query = select(*Run.__table__.c, Dataset.name.label("dataset")).join(Dataset)
    return tx.execute(query.order_by(Run.id.desc())).all()


def epochs(tx: Tx, run: int) -> list[dict[str, Any]]:
    """Return the run's epochs in order."""
    columns = [column for column in Epoch.__table__.c if column.name != "run_id"]
    query = select(*columns).where(Epoch.run_id == run).order_by(Epoch.epoch)
    return [dict(row._mapping) for row in tx.execute(query)]  # noqa: SLF001 - a documented name


def ring_due(tx: Tx, run: int, every_s: float) -> bool:
    """Return whether the run's doorbell may ring now, and note that it did."""
    due = Run.rung + every_s <= db_now()
    ring = update(Run).where(Run.id == run, due, _claimable())
    return tx.execute(ring.values(rung=db_now())).rowcount == 1
