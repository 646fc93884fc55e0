"""What `popq doctor` looks at: all that popq needs, from the database to the clock."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

from popq.bootstrap import Rooms
from popq.catalogue import hosts, migrate, overview, queries
from popq.errors import BadInput, Misconfigured, PopqError, ServiceDown
from popq.stages import stocktake

#: Clocks further apart than so many seconds are told of.
APART_S: Final = 2.0
#: A stored photo's size where none is known yet, and what should stay free, in bytes.
PHOTO_B: Final = 150_000
SPARE_B: Final = 1_000_000_000
#: What can only be looked at where the database answers.
_OF_DATABASE: Final = frozenset({"migrations", "clock", "workers"})


def check(rooms: Rooms) -> list[dict[str, Any]]:
    """Check all that popq needs; each row has name, state, message and status.

    State is ok, warning (something is not set up, or will be missed) or wrong (it is set up, and
    does not work); what is not ok says what to do. `status` is the exit status that it asks for: 3
    where a person must change something, 4 where a service does not answer. Each key and host is
    asked once; a key that answers is taken in again if it had been taken out.
    """
    checks: list[tuple[str, Callable[[Rooms], str]]] = [
        ("database", _check_database),
        ("migrations", _check_migrations),
        ("clock", _check_clock),
        ("broker", _check_broker),
        ("workers", _check_workers),
        ("key", _check_keys),
        ("images", _check_image_host),
        ("store", _check_store),
        ("disk", _check_disk),
        ("torch", _check_torch),
        ("gpu", _check_gpu),
    ]
    rows: list[dict[str, Any]] = []
    for name, look in checks:
        if name in _OF_DATABASE and rows[0]["state"] == "wrong":
            continue  # the database's own line says it
        try:
            state, _, message = look(rooms).partition(": ")
            status = 0
        except PopqError as error:
            state, message = "wrong", str(error)
            a_persons = isinstance(error, Misconfigured | BadInput)  # also a setting's odd value
            status = Misconfigured.exit_code if a_persons else ServiceDown.exit_code
        rows.append({"name": name, "state": state, "message": message, "status": status})
    return rows


def check_store(rooms: Rooms, *, repair: bool, delete_orphans: bool = False) -> dict[str, Any]:
    """Compare the catalogue with the store; see `stages.stocktake`."""
    orders = {"repair": repair, "delete_orphans": delete_orphans}
    return asdict(stocktake.take(rooms.catalogue, rooms.store, **orders))


def _check_database(rooms: Rooms) -> str:
    if not rooms.catalogue.exists():
        return f"warning: {rooms.catalogue} is not there yet; `popq init` makes it"
    with rooms.catalogue.read() as tx:
        overview.clock(tx)
    return f"ok: {rooms.catalogue}"


def _check_migrations(rooms: Rooms) -> str:
    before, head = migrate.versions(rooms.catalogue)
    if before is None:
        return f"warning: there is no catalogue yet; `popq init` makes one of version {head}"
    migrate.refuse_older(rooms.catalogue, before, head)
    return f"ok: version {before}, the newest"


def _is_ready(rooms: Rooms) -> bool | None:
    """Return whether there is a catalogue of this version; None where the database is wrong.

    Why it is says the database's own line, and that once is enough.
    """
    try:
        before, head = migrate.versions(rooms.catalogue)
    except PopqError:
        return None
    return before is not None and before == head


def _check_clock(rooms: Rooms) -> str:
    if not rooms.catalogue.exists():
        return "warning: there is no database whose clock could be compared"
    if rooms.catalogue.is_sqlite:
        return "ok: the database's clock is this machine's"
    with rooms.catalogue.read() as tx:
        overview.clock(tx)  # the connection is made before time is taken
        before = time.time()
        theirs = overview.clock(tx)
        after = time.time()
    apart = theirs - (before + after) / 2
    if abs(apart) - (after - before) / 2 > APART_S:
        message = f"the database's clock is {apart:+.1f} s off this machine's"
        return f"warning: {message}; set both by NTP (leases go by the database's, logs by ours)"
    return f"ok: the database's clock and ours are {abs(apart):.1f} s apart"


def _check_broker(rooms: Rooms) -> str:
    if rooms.settings.broker() is None:
        return "warning: no POPQ_BROKER_URL; workers look for work in the catalogue themselves"
    from popq.celery import check_broker  # noqa: PLC0415 - Celery, only where it is needed

    return f"ok: {check_broker()}"


def _check_store(rooms: Rooms) -> str:
    rooms.store.check()
    return f"ok: {rooms.store}: written, read and deleted"


def _check_keys(rooms: Rooms) -> str:
    if not rooms.flickr_clients:
        return "warning: no POPQ_FLICKR_KEYS; only photos with image URLs can be had"
    ready = _is_ready(rooms)
    refusals: list[PopqError] = []
    for host, client in rooms.flickr_clients.items():
        try:
            client.check_key()
        except PopqError as error:
            refusals.append(error)
            continue
        if ready:
            with rooms.catalogue.begin() as tx:
                hosts.enable(tx, host)
    if refusals:
        of = f"{len(refusals)} of {len(rooms.flickr_clients)} keys do not work"
        refused = [error for error in refusals if isinstance(error, Misconfigured)]
        if refused:
            raise Misconfigured(f"{of}: {refused[0]} Correct POPQ_FLICKR_KEYS.")
        raise ServiceDown(f"{of}: {refusals[0]}; look at the network, and try again.")
    return f"ok: {len(rooms.flickr_clients)} answer at {rooms.settings.flickr_api_url}"


def _check_torch(rooms: Rooms) -> str:
    try:
        from popq.learn import model  # noqa: PLC0415 - torch, only where it is needed
    except ModuleNotFoundError:
        return "warning: not installed; an io worker needs none, pip install 'popq[train]' else"
    facts = model.versions(model.pick_device(rooms.settings.device))
    return "ok: " + ", ".join(f"{name} {value}" for name, value in facts.items())


def _check_gpu(rooms: Rooms) -> str:
    try:
        from popq.learn import model  # noqa: PLC0415 - torch, only where it is needed
    except ModuleNotFoundError:
        return "warning: unknown without torch; workers of the gpu queue need popq[train]"
    device = model.pick_device(rooms.settings.device)
    if device.type == "cpu":
        return (
            "warning: none is used; a CPU trains small sets, a worker on a GPU machine large ones"
        )
    return f"ok: {device}, {model.versions(device)['hardware']}"


def _check_image_host(rooms: Rooms) -> str:
    """Ask the image host; that it is silent is wrong only where photos wait for it."""
    try:
        status = rooms.image_client.check()
    except ServiceDown as error:
        waiting = _wait_for_images(rooms)
        if waiting is None:
            return f"warning: {error} Whether photos wait for it, only the database knows."
        if waiting:
            raise ServiceDown(f"{error} {waiting:,} photos wait for it.") from error
        return f"warning: {error} No photo waits for it."
    return f"ok: {rooms.settings.flickr_image_url} answers (HTTP {status})"


def _wait_for_images(rooms: Rooms) -> int | None:
    """Return how many photos this machine could fetch: a listed one needs a key first.

    None where the database is wrong, and so does not say.
    """
    ready = _is_ready(rooms)
    if not ready:
        return None if ready is None else 0
    with rooms.catalogue.read() as tx:
        counts = queries.photos_by_state(tx)
    return counts["resolved"] + (counts["listed"] if rooms.flickr_clients else 0)


def _check_disk(rooms: Rooms) -> str:
    """Compare the room for images with what is still to come."""
    place = rooms.store.folder or rooms.settings.data_dir
    there = next(folder for folder in (place, *place.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    coming = 0
    if rooms.store.folder is not None and _is_ready(rooms):
        with rooms.catalogue.read() as tx:
            counts = queries.photos_by_state(tx)
            coming = (counts["listed"] + counts["resolved"]) * (queries.mean_bytes(tx) or PHOTO_B)
    told = f"{free / 1e9:,.1f} GB free at {there}"
    need = f"{coming / 1e9:,.1f} GB of photos are still to come"
    if free < coming + SPARE_B:
        return f"warning: {told}, {need}; free some, or set POPQ_STORE_URL to another place"
    return f"ok: {told}" + (f"; {need}" if coming else "")


def _check_workers(rooms: Rooms) -> str:
    if not _is_ready(rooms):
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
