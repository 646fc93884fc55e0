"""Rates and pauses of throttled hosts: one row for each API key and one for the image host.

The generic cell rate algorithm (GCRA) on the database's clock, shared by all workers of the
installation: `tat` is the theoretical arrival time of the next call. The burst is taken out of the
hourly budget, so that in no window of an hour, wherever it starts, more is granted than the budget.
Calls that must follow granted ones (`owe`) are paid for afterwards: by those, about one in a
hundred, a window may exceed it.

The clock may have been ahead once. What it left behind (a debt or a pause that ends later than any
can) counts as over: else a host would rest for as long as the clock was ahead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Select, select, update

from popq.catalogue.db import Tx, db_now, insert_or_keep
from popq.catalogue.models import Host

#: A host that is left alone collects at most this many seconds' worth of calls.
BURST_S: Final = 10.0
#: The longest pause after repeated 429s.
LONGEST_PAUSE_S: Final = 1800.0
#: … and the longest for a server that asks for more: then it is asked again. It may be wrong, and
#: where it names a date, so may this computer's clock.
LONGEST_ASKED_S: Final = 86_400.0
#: A pause that ends later was begun by a clock that was ahead; the minute is for its small steps.
LONGEST_REST_S: Final = LONGEST_ASKED_S + 60.0
#: So was a debt of more than an hour, or of so many bursts where calls are so rare that it is more:
#: a photo whose first call is granted may owe one for each other size and some looks.
LONGEST_DEBT_S: Final = 3600.0
LONGEST_DEBT_BURSTS: Final = 16
#: A grant that is not used by then is void, so that a frozen worker cannot exceed the budget.
GRANT_VALID_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Grant:
    """Permission for `permits` calls to `host`; when there are none, ask again in `wait_s`."""

    host: str
    permits: int
    wait_s: float


def register(tx: Tx, name: str, per_hour: float) -> None:
    """Make the host's row, or bring its rate (calls an hour, at least 1) up to the settings."""
    burst = max(1, math.floor(per_hour * BURST_S / 3600))
    known = tx.execute(select(Host.per_hour).where(Host.name == name)).scalar_one_or_none()
    if known is None:
        # Another worker may register at the same moment; both want the same row.
        row = {"name": name, "per_hour": per_hour, "burst": burst}
        tx.execute(insert_or_keep(tx, Host).values(row))
    elif known != per_hour:
        row = {"per_hour": per_hour, "burst": burst}
        tx.execute(update(Host).where(Host.name == name).values(row))


def grant(tx: Tx, name: str, want: int) -> Grant:
    """Take up to `want` calls out of the host's budget.

    With none to give, `wait_s` says how long until half a burst is there (so that a worker that
    comes back then does a stretch of work, not a single call), or until the pause ends.
    """
    row = tx.execute(_look(name).with_for_update()).one()
    if row.disabled_why is not None:
        # No time will help: the caller hands its work back, and the next claim sees why.
        return Grant(name, 0, 0.0)
    opens = opens_at(row.paused_until, row.now)
    if opens is not None:
        return Grant(name, 0, opens - row.now)
    interval, tat = _interval(row), _tat(row)
    permits = max(0, min(want, _there(row)))
    if permits == 0:
        enough = max(1, row.burst // 2)
        return Grant(name, 0, max(0.0, tat + (enough - row.burst) * interval - row.now))
    tx.execute(update(Host).where(Host.name == name).values(tat=tat + permits * interval))
    return Grant(name, permits, 0.0)


def least_asked(tx: Tx, names: Sequence[str]) -> list[str]:
    """Return the hosts in the order in which to ask them: the one left alone longest first.

    So keys share the calls, and the one that was throttled is not the first that asks again.
    """
    rows = tx.execute(select(Host.name, Host.tat).where(Host.name.in_(names)))
    tat = {name: float(at) for name, at in rows}
    return sorted(names, key=lambda name: tat[name])


def is_open(tx: Tx, name: str) -> bool:
    """Return whether it is worth claiming work for the host: half a burst of calls is there.

    False while it is paused or disabled. Takes nothing and locks nothing.
    """
    row = tx.execute(_look(name)).one_or_none()
    if row is None:
        return True
    if row.disabled_why is not None or opens_at(row.paused_until, row.now) is not None:
        return False
    return _there(row) >= max(1, int(row.burst) // 2)


def disabled(tx: Tx, names: Sequence[str]) -> str | None:
    """Return why, when every one of these hosts is disabled; None while one is not."""
    rows = tx.execute(select(Host.disabled_why).where(Host.name.in_(names))).scalars().all()
    whys = [why for why in rows if why is not None]
    return whys[-1] if rows and len(whys) == len(names) else None


def opens_at(paused_until: float, now: float) -> float | None:
    """Return when a host that is paused until then opens; None when it is open."""
    return paused_until if now < paused_until <= now + LONGEST_REST_S else None


def _look(name: str) -> Select[float, float, int, float, str | None, float]:
    columns = (Host.tat, Host.per_hour, Host.burst, Host.paused_until, Host.disabled_why)
    return select(*columns, db_now().label("now")).where(Host.name == name)


def _interval(row: Any) -> float:
    # A budget smaller than twice its burst (one call an hour, say) keeps half of itself.
    # Calls of an hour may come from grants of the last seconds before it.
    return (3600.0 + GRANT_VALID_S) / float(max(row.per_hour - row.burst, row.per_hour / 2))


def _tat(row: Any) -> float:
    """Return the row's theoretical arrival time, of which what is past or cannot be counts as now.

    Not as the longest debt: that would be the longest again whenever it is looked at.
    """
    longest_s = max(LONGEST_DEBT_S, LONGEST_DEBT_BURSTS * row.burst * _interval(row))
    return float(row.tat if row.now < row.tat <= row.now + longest_s else row.now)


def _there(row: Any) -> int:
    """Return how many calls the row's budget has now."""
    interval = _interval(row)
    return math.floor(float(row.now + row.burst * interval - _tat(row)) / interval + 1e-6)


def owe(tx: Tx, name: str) -> bool:
    """Take one call whether the budget has one or not: later grants wait for it.

    For what must follow a call that was granted. False, and nothing taken, while the host is
    paused or disabled.
    """
    row = tx.execute(_look(name).with_for_update()).one()
    if row.disabled_why is not None or opens_at(row.paused_until, row.now) is not None:
        return False
    tat = _tat(row) + _interval(row)
    tx.execute(update(Host).where(Host.name == name).values(tat=tat))
    return True


def pause(tx: Tx, name: str, first_s: float, retry_after_s: float | None, why: str) -> float:
    """Pause the host after a 429 (`why` is what it said) and return for how many seconds.

    Each new pause is twice as long as the last, from `first_s` to half an hour, and at least what
    the server asked for, up to a day. Calls that were under way when the pause began do not
    lengthen it, unless the server asks them for more; and the next pause is none the longer.
    """
    query = select(Host.paused_until, Host.pause_s, db_now().label("now"))
    row = tx.execute(query.where(Host.name == name).with_for_update()).one()
    asked_s = min(retry_after_s or 0.0, LONGEST_ASKED_S)
    opens = opens_at(row.paused_until, row.now)
    if opens is not None and opens >= row.now + asked_s:
        return float(opens - row.now)
    pause_s, wait_s = row.pause_s, asked_s
    if opens is None:
        pause_s = min(max(first_s, row.pause_s * 2), LONGEST_PAUSE_S)
        wait_s = max(pause_s, asked_s)
    values = {"pause_s": pause_s, "paused_until": row.now + wait_s, "paused_why": why}
    tx.execute(update(Host).where(Host.name == name).values(values))
    return wait_s


def calm(tx: Tx, name: str) -> None:
    """Forget earlier pauses, since the host answers again: the next one is short."""
    resting = Host.paused_until.between(db_now(), db_now() + LONGEST_REST_S)
    open_again = (Host.pause_s > 0) & ~resting
    over = {"pause_s": 0.0, "paused_why": None}
    tx.execute(update(Host).where(Host.name == name, open_again).values(over))


def disable(tx: Tx, name: str, why: str) -> None:
    """Take a key out until a person checks it."""
    tx.execute(update(Host).where(Host.name == name).values(disabled_why=why))


def enable(tx: Tx, name: str) -> None:
    """Take a key in again."""
    tx.execute(update(Host).where(Host.name == name).values(disabled_why=None))
