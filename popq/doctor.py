"""What `popq doctor` looks at: database, broker, workers, store, keys and torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from popq.bootstrap import Rooms
from popq.catalogue import hosts, migrate, overview
from popq.errors import Misconfigured, PopqError
from popq.stages import stocktake


def check(rooms: Rooms) -> list[dict[str, str]]:
    """Check database, broker, store, keys, torch and workers; each row has name, state, message.

    State is ok, warning (something is not set up) or wrong (it is, and does not work). A key that
    answers is taken in again if it had been taken out.
    """
    checks: list[tuple[str, Callable[[], str]]] = [
        ("database", lambda: _check_database(rooms)),
        ("broker", lambda: _check_broker(rooms)),
        ("store", lambda: _check_store(rooms)),
        ("key", lambda: _check_keys(rooms)),
        ("torch", lambda: _check_torch(rooms)),
        ("workers", lambda: _check_workers(rooms)),
    ]
    rows = []
    for name, look in checks:
        try:
            found = look()
        except PopqError as error:
            rows.append({"name": name, "state": "wrong", "message": str(error)})
            continue
        state, _, message = found.partition(": ")
        rows.append({"name": name, "state": state, "message": message})
    return rows


def check_store(rooms: Rooms, *, repair: bool, delete_orphans: bool = False) -> dict[str, Any]:
    """Compare the catalogue with the store; see `stages.stocktake`."""
    orders = {"repair": repair, "delete_orphans": delete_orphans}
    return asdict(stocktake.take(rooms.catalogue, rooms.store, **orders))


def _check_database(rooms: Rooms) -> str:
    before, head = migrate.versions(rooms.catalogue)
    if before is None:
        return f"warning: {rooms.catalogue} holds no catalogue yet; `popq init` makes it"
    if before != head:
        raise Misconfigured(f"{rooms.catalogue} is at version {before}, popq at {head}: run init.")
    return f"ok: {rooms.catalogue}, version {before}"


def _check_broker(rooms: Rooms) -> str:
    if rooms.settings.broker() is None:
        return "warning: no POPQ_BROKER_URL; workers look for work in the catalogue themselves"
    from popq.celery import check_broker  # noqa: PLC0415 - Celery, only where it is needed

    return f"ok: {check_broker()}"


def _check_store(rooms: Rooms) -> str:
    rooms.store.check()
    return f"ok: {rooms.store}"


def _check_keys(rooms: Rooms) -> str:
    if not rooms.flickr_clients:
        return "warning: no POPQ_FLICKR_KEYS; only photos with image URLs can be had"
    made = migrate.versions(rooms.catalogue)[0] is not None
    refusals = []
    for host, client in rooms.flickr_clients.items():
        try:
            client.check_key()
        except PopqError as error:
            refusals.append(str(error))
            continue
        if made:
            with rooms.catalogue.begin() as tx:
                hosts.enable(tx, host)
    if refusals:
        of = f"{len(refusals)} of {len(rooms.flickr_clients)} keys do not work"
        raise Misconfigured(f"{of}: {refusals[0]}")
    return f"ok: {len(rooms.flickr_clients)} answer at {rooms.settings.flickr_api_url}"


def _check_torch(rooms: Rooms) -> str:
    try:
        from popq.learn import model  # noqa: PLC0415 - torch, only where it is needed
    except ModuleNotFoundError:
        return "warning: not installed; an io worker needs none, pip install 'popq[train]' else"
    device = model.pick_device(rooms.settings.device)
    facts = model.versions(device)
    return "ok: " + ", ".join(f"{name} {value}" for name, value in facts.items())


def _check_workers(rooms: Rooms) -> str:
    before, head = migrate.versions(rooms.catalogue)
    if before is None or before != head:
        return "warning: unknown, since the catalogue is not of this version"
    with rooms.catalogue.read() as tx:
        found = [worker for worker in overview.workers(tx) if worker["alive"] is not None]
    alive = Counter(worker["queue"] for worker in found if worker["alive"])
    told = ", ".join(f"{queue} {count} alive" for queue, count in sorted(alive.items())) or "none"
    silent = [worker["name"] for worker in found if not worker["alive"]]
    if silent:
        more = "" if len(silent) == 1 else f" and {len(silent) - 1} more"
        return f"warning: {told}; silent: {silent[0]}{more}; `popq status` says since when"
    return f"ok: {told}"
