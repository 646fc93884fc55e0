"""What files say of photos, joined by uid and pid to the list that came in with them.

One file at a time is staged in a temporary table and matched with the staged list. All of it is
set-based, so the order of rows does not matter. The join goes by pid, and by uid where both sides
have one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    cast,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from popq.catalogue.db import Tx, bulk_insert
from popq.catalogue.imports import INCOMING, KEPT, REMARKS, Incoming, Refused
from popq.catalogue.models import Photo, PhotoMetadata
from popq.errors import Outcome


class Fact(NamedTuple):
    """One row of a file about a photo; `posted_at` in Unix seconds, `data` a JSON object.

    `data` is all that has no column of its own; None when nothing is left.
    """

    line: int
    uid: str | None
    pid: str
    label: float | None = None
    title: str | None = None
    tags: str | None = None
    views: int | None = None
    posted_at: int | None = None
    taken_at: str | None = None
    licence: int | None = None
    data: str | None = None


@dataclass(slots=True)
class Joined:
    """What a file came to: its rows, those that belong to a photo of the list, and the refused."""

    read: int
    joined: int = 0
    refused: Refused = field(default_factory=Refused)


_TABLES: Final = MetaData()
_FACTS: Final = Table(
    "facts",
    _TABLES,
    Column("line", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True),
    Column("uid", Text),
    Column("pid", Text),
    Column("label", Double),
    Column("title", Text),
    Column("tags", Text),
    Column("views", BigInteger),
    Column("posted_at", BigInteger),
    Column("taken_at", Text),
    Column("licence", BigInteger),
    Column("data", Text),
    prefixes=["TEMPORARY"],
)
#: Which row of the file is about which line of the list.
_MATCHED: Final = Table(
    "matched",
    _TABLES,
    Column("listed", BigInteger, index=True),
    Column("line", BigInteger, index=True),
    prefixes=["TEMPORARY"],
)
#: What is to be written to `metadata`, once the photos are in.
_NOTES: Final = Table(
    "notes",
    MetaData(),
    Column("listed", BigInteger),
    Column("kind", Text),
    Column("data", Text),
    prefixes=["TEMPORARY"],
)
_COLUMNS: Final = Fact._fields
_said, _match = _FACTS.c, _MATCHED.c
_BY_PID: Final = Index("ix_incoming_pid", INCOMING.c.pid)


class Facts:
    """The rows of one file about photos, within one open transaction."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx
        self._rows = 0

    def stage(self, rows: Sequence[Fact]) -> None:
        """Take in some more rows of the file."""
        self._rows += len(rows)
        bulk_insert(self._tx, _FACTS, _COLUMNS, rows)

    def give_labels(self) -> Joined:
        """Give the list's rows, before they are settled, the labels of this file."""
        done = self._match(Outcome.CONFLICTING_LABEL)
        self._fill(["label"])
        return done

    def give_remarks(self, kind: str) -> Joined:
        """Give the list's rows, after they are settled, what else this file says of them.

        What has no column of its own is noted under `kind`; see `Notes`.
        """
        done = self._match(Outcome.CONFLICTING_METADATA)
        self._fill([name for name in REMARKS if self._tells(name)])
        notes = (
            select(_match.listed, literal(kind), _said.data)
            .join(_FACTS, _said.line == _match.line)
            .where(_said.data.is_not(None))
        )
        self._tx.execute(insert(_NOTES).from_select(["listed", "kind", "data"], notes))
        return done

    def _match(self, conflict: Outcome) -> Joined:
        """Find the line of the list that each row is about."""
        done = Joined(self._rows)
        listed = INCOMING.c
        whose = or_(listed.uid.is_(None), _said.uid.is_(None), listed.uid == _said.uid)
        source = _FACTS.join(INCOMING, (listed.pid == _said.pid) & whose)
        rows = select(listed.line, _said.line).select_from(source)
        self._tx.execute(insert(_MATCHED).from_select(["listed", "line"], rows))
        matches, done.joined, lines = self._tx.execute(
            select(
                func.count(),
                func.count(func.distinct(_match.line)),
                func.count(func.distinct(_match.listed)),
            )
        ).one()
        if done.joined < self._rows:
            self._refuse_strangers(done)
        if matches > lines:
            self._refuse_conflicts(done, conflict)
        return done

    def _refuse_strangers(self, done: Joined) -> None:
        query = (
            select(_said.line, _said.uid, _said.pid)
            .join(_MATCHED, _match.line == _said.line, isouter=True)
            .where(_match.line.is_(None))
            .order_by(_said.line)
        )
        shown = [
            (line, f"no photo of the list has pid {pid} (uid {uid or 'not given'})")
            for line, uid, pid in self._tx.execute(query.limit(KEPT))
        ]
        done.refused.add(Outcome.NOT_JOINED, self._rows - done.joined, shown)

    def _refuse_conflicts(self, done: Joined, reason: Outcome) -> None:
        """Keep one of several equal rows about a photo, and none of several that differ."""
        values = [cast(_said[name], Text) for name in _COLUMNS if name != "line"]
        whole: Any = func.coalesce(values[0], "")
        for value in values[1:]:
            whole = whole + "\x1f" + func.coalesce(value, "")
        about = select(_match.listed).join(_FACTS, _said.line == _match.line)
        torn = about.group_by(_match.listed).having(func.min(whole) != func.max(whole))
        whole_ones = select(_match.line).where(_match.listed.not_in(torn))
        lines = select(_match.line).where(_match.listed.in_(torn), _match.line.not_in(whole_ones))
        lines = lines.distinct()
        count = self._tx.execute(select(func.count()).select_from(lines.subquery())).scalar_one()
        if count:
            words = "it differs from another row about the same photo"
            found = self._tx.execute(lines.order_by(_match.line).limit(KEPT))
            done.refused.add(reason, count, [(line, words) for (line,) in found])
            done.joined -= count
            self._tx.execute(delete(_MATCHED).where(_match.listed.in_(torn)))
        other = _MATCHED.alias()
        earlier = (other.c.listed == _match.listed) & (other.c.line < _match.line)
        self._tx.execute(delete(_MATCHED).where(select(other.c.line).where(earlier).exists()))

    def _fill(self, names: Sequence[str]) -> None:
        listed = INCOMING.c
        values = {name: func.coalesce(_said[name], listed[name]) for name in names}
        unowned = select(listed.line).where(listed.owner.is_(None)).limit(1)
        if self._tx.execute(unowned).first() is not None and self._tells("uid"):
            values["owner"] = func.coalesce(listed.owner, _said.uid)
        if values:
            mine = (listed.line == _match.listed) & (_said.line == _match.line)
            self._tx.execute(update(INCOMING).where(mine).values(values))

    def _tells(self, name: str) -> bool:
        query = select(_said[name]).where(_said[name].is_not(None)).limit(1)
        return self._tx.execute(query).first() is not None


class Notes:
    """What files say beyond the columns of `photos`, on its way into `metadata`."""

    def __init__(self, tx: Tx, incoming: Incoming) -> None:
        self._tx = tx
        self._incoming = incoming

    @contextmanager
    def facts(self) -> Iterator[Facts]:
        """Open the way in for one file about the photos of the list; see `Facts`."""
        _BY_PID.create(self._tx, checkfirst=True)
        _TABLES.create_all(self._tx)
        yield Facts(self._tx)
        _TABLES.drop_all(self._tx)

    def write(self) -> int:
        """Write the notes, once the list is merged; return how many are new or differ."""
        postgres = self._tx.dialect.name == "postgresql"
        data = cast(_NOTES.c.data, postgresql.JSONB) if postgres else _NOTES.c.data
        rows = (
            select(Photo.id, _NOTES.c.kind, data)
            .select_from(_NOTES)
            .join(INCOMING, INCOMING.c.line == _NOTES.c.listed)
            .join(Photo, self._incoming.same)
            .where(_NOTES.c.data.is_not(None))
        )
        added = (postgresql if postgres else sqlite).insert(PhotoMetadata)
        added = added.from_select(["photo_id", "kind", "data"], rows)
        upsert = added.on_conflict_do_update(
            index_elements=["photo_id", "kind"],
            set_={"data": added.excluded.data},
            where=PhotoMetadata.__table__.c.data != added.excluded.data,
        )
        # psycopg does not say how many rows an INSERT touched unless it is asked to.
        return self._tx.execute(upsert, execution_options={"preserve_rowcount": True}).rowcount


@contextmanager
def notes(tx: Tx, incoming: Incoming) -> Iterator[Notes]:
    """Open the way in for files about the photos of `incoming`; see `Notes`."""
    _NOTES.create(tx)
    yield Notes(tx, incoming)
    _NOTES.drop(tx)
