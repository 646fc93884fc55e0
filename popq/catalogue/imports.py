"""Taking a list into `photos`: staged in a temporary table, then merged by a few statements.

    stage(rows) … → settle() → merge()

Other files may add to the staged rows (`catalogue.metadata`): labels before they are settled, the
rest after. All is set-based, so the result does not depend on the order of the rows: a photo that
stands in the list with two labels is refused on every line, whichever came first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Integer,
    MetaData,
    Table,
    Text,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement

from popq.catalogue.db import Tx, UtcDateTime, bulk_insert
from popq.catalogue.models import Photo, Tombstone
from popq.catalogue.states import PhotoState
from popq.errors import Outcome

#: Lower ids are those of Flickr's first months, or numbers that a data set gave its photos itself.
EARLY_IDS: Final = 1_000_000
#: Refused rows whose line and reason are kept to be shown; all are counted.
KEPT: Final = 1_000


class IncomingPhoto(NamedTuple):
    """One row of a list, parsed; `image_url` is set when the list itself has it.

    It has a `flickr_id` or, as a file of a folder, a `source_key`; all rows of one list have the
    same of the two. `uid` and `pid` are what other files of the data set call it. `posted_at` is
    in Unix seconds.
    """

    line: int
    flickr_id: int | None
    source_key: str | None
    page_url: str
    owner: str | None
    label: float | None
    server: str | None
    secret: str | None
    image_url: str | None
    uid: str | None
    pid: str | None
    title: str | None = None
    tags: str | None = None
    views: int | None = None
    posted_at: int | None = None
    taken_at: str | None = None
    licence: int | None = None


#: What files say of a photo besides its label; Flickr's own answers have the same.
REMARKS: Final = ("title", "tags", "views", "posted_at", "taken_at", "licence")


@dataclass(slots=True)
class Refused:
    """Rows that are not taken: their number by reason, and (line, reason, words) of the first."""

    counts: Counter[Outcome] = field(default_factory=Counter)
    first: list[tuple[int, Outcome, str]] = field(default_factory=list)

    def add(self, reason: Outcome, rows: int, shown: Sequence[tuple[int, str]]) -> None:
        """Count `rows` refused rows, and keep those that are to be shown."""
        if rows:
            self.counts[reason] += rows
            room = KEPT - len(self.first)
            self.first += [(line, reason, words) for line, words in shown[:room]]


@dataclass(slots=True)
class Merged:
    """How many rows were new, changed a photo, changed nothing; and those that were refused.

    `early` of the photos have an id below `EARLY_IDS`.
    """

    new: int = 0
    updated: int = 0
    unchanged: int = 0
    unlabelled: int = 0
    early: int = 0
    refused: Refused = field(default_factory=Refused)


INCOMING: Final = Table(
    "incoming",
    MetaData(),
    Column("line", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True),
    Column("flickr_id", BigInteger),
    Column("source_key", Text),
    Column("page_url", Text),
    Column("owner", Text),
    Column("label", Double),
    Column("server", Text),
    Column("secret", Text),
    Column("image_url", Text),
    Column("uid", Text),
    Column("pid", Text),
    Column("title", Text),
    Column("tags", Text),
    Column("views", BigInteger),
    Column("posted_at", BigInteger),
    Column("taken_at", Text),
    Column("licence", BigInteger),
    prefixes=["TEMPORARY"],
)
#: Any number that no other user of the same PostgreSQL database takes a lock on.
_IMPORT_LOCK: Final = 0x706F7072
_COLUMNS: Final = IncomingPhoto._fields
_new = INCOMING.c


class _moment(FunctionElement[Any]):  # noqa: N801 - reads as the SQL function that it is
    """Unix seconds as a timestamp of the database."""

    type = UtcDateTime()
    inherit_cache = True


@compiles(_moment, "sqlite")
def _sqlite_moment(element: Any, compiler: Any, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    return f"strftime('%Y-%m-%d %H:%M:%S.000000', {seconds}, 'unixepoch')"


@compiles(_moment)
def _postgresql_moment(element: Any, compiler: Any, **options: Any) -> str:
    return f"to_timestamp({compiler.process(element.clauses, **options)})"


def _remark(name: str) -> Any:
    """Return what the list says, as the column of `photos` of that name has it."""
    return _moment(_new.posted_at) if name == "posted_at" else _new[name]


class Incoming:
    """The rows of one list on their way into `photos`, within one open transaction."""

    def __init__(self, tx: Tx, *, files: bool) -> None:
        """`files`: the rows are files of a folder, known by `source_key` and not by Flickr id."""
        self._tx = tx
        name = "source_key" if files else "flickr_id"
        self._new, self._old = _new[name], Photo.__table__.c[name]
        self._purged = Tombstone.__table__.c[name]
        self._rows = 0
        self.refused = Refused()
        #: The condition under which a row names a photo of the catalogue.
        self.same = self._old == self._new

    def stage(self, rows: Sequence[IncomingPhoto]) -> None:
        """Take in some more rows of the list."""
        bulk_insert(self._tx, INCOMING, _COLUMNS, rows)

    def settle(self) -> None:
        """Refuse what must not come in, and keep one row a photo."""
        tx = self._tx
        if tx.dialect.name == "postgresql":
            # One import at a time (SQLite: always), so that each sees the photos of the one before.
            tx.execute(select(func.pg_advisory_xact_lock(_IMPORT_LOCK)))
        self._refuse_purged()
        rows, distinct = tx.execute(
            select(func.count(), func.count(func.distinct(self._new)))
        ).one()
        if rows != distinct:
            rows -= self._refuse_conflicts()
            self._drop_repeats()
        self._rows = rows

    def merge(self) -> Merged:
        """Merge what was staged and settled into `photos`.

        New photos get ids in the order of their lines. A known photo takes a label that differs,
        a `listed` one the image URL if the list has it, and a file that is not stored yet the
        place where it lies now. A remark (`REMARKS`) is replaced while the photo is `listed`, or
        if it is a file, since nobody knows better; afterwards Flickr's own word stays, and what is
        empty is filled in, as an owner is.
        """
        tx = self._tx
        early = func.count().filter(_new.flickr_id < EARLY_IDS)
        query = select(func.count(self._new), func.count(_new.label), early)
        distinct, labelled, early_ones = tx.execute(query).one()
        told = [name for name in REMARKS if self._tells(name)]
        changes = _changes(told)
        changed = func.coalesce(func.sum(case((changes, 1), else_=0)), 0)
        joined = INCOMING.join(Photo, self.same)
        known, updated = tx.execute(select(func.count(), changed).select_from(joined)).one()
        if updated:
            self._update_known(told, changes)
        new = self._insert_new() if distinct > known else 0
        purged = distinct - known - new  # since the list was settled; never on SQLite
        if purged:
            self._count_purged(purged)
        unchanged = self._rows - new - updated - purged
        return Merged(new, updated, unchanged, distinct - labelled, early_ones, self.refused)

    def _tells(self, name: str) -> bool:
        query = select(_new[name]).where(_new[name].is_not(None)).limit(1)
        return self._tx.execute(query).first() is not None

    def _refuse_purged(self) -> None:
        tx = self._tx
        purged = INCOMING.join(Tombstone, self._purged == self._new)
        rows = tx.execute(select(func.count()).select_from(purged)).scalar_one()
        if rows:
            self._count_purged(rows)
            ids = select(self._purged).where(self._purged.is_not(None))
            tx.execute(delete(INCOMING).where(self._new.in_(ids)))

    def _count_purged(self, rows: int) -> None:
        """Count so many of the staged rows as refused, since their photos were purged."""
        query = select(_new.line, _new.page_url).join(Tombstone, self._purged == self._new)
        found = self._tx.execute(query.order_by(_new.line).limit(min(rows, KEPT)))
        shown = [(line, f"{url} was purged from this catalogue") for line, url in found]
        self.refused.add(Outcome.PURGED, rows, shown)

    def _refuse_conflicts(self) -> int:
        """Refuse every row of a photo that has several labels; return how many rows."""
        tx = self._tx
        low, high = func.min(_new.label), func.max(_new.label)
        torn = (
            select(self._new.label("photo"), low.label("low"), high.label("high"))
            .group_by(self._new)
            .having(low != high)
            .subquery()
        )
        joined = INCOMING.join(torn, torn.c.photo == self._new)
        rows = int(tx.execute(select(func.count()).select_from(joined)).scalar_one())
        if rows:
            query = select(_new.line, torn.c.photo, torn.c.low, torn.c.high).select_from(joined)
            shown = [
                (line, f"photo {photo} stands in the list with labels {lowest:g} and {highest:g}")
                for line, photo, lowest, highest in tx.execute(
                    query.order_by(_new.line).limit(KEPT)
                )
            ]
            self.refused.add(Outcome.CONFLICTING_LABEL, rows, shown)
            tx.execute(delete(INCOMING).where(self._new.in_(select(torn.c.photo))))
        return rows

    def _drop_repeats(self) -> None:
        """Make one row of a photo's several: what any of them says, of two sayings the smaller."""
        filled = ("label", "owner", "uid", "pid", *REMARKS)
        said = (
            select(self._new.label("photo"), *(func.min(_new[name]).label(name) for name in filled))
            .group_by(self._new)
            .having(func.count() > 1)
            .subquery()
        )
        values = {name: func.coalesce(_new[name], said.c[name]) for name in filled}
        self._tx.execute(update(INCOMING).where(self._new == said.c.photo).values(values))
        # Server, secret and URL belong together; a page without its owner sorts first.
        order = [_missing(_new.image_url), _new.image_url, _new.page_url.desc()]
        order += [_new[name] for name in (*filled, "line")]
        best = func.row_number().over(partition_by=self._new, order_by=order)
        ranked = select(_new.line, best.label("rank")).subquery()
        repeats = select(ranked.c.line).where(ranked.c.rank > 1)
        self._tx.execute(delete(INCOMING).where(_new.line.in_(repeats)))

    def _update_known(self, told: Sequence[str], changes: Any) -> None:
        found = _found()
        values = {
            "label": func.coalesce(_new.label, Photo.label),
            "owner": func.coalesce(Photo.owner, _new.owner),
            "server": case((found, _new.server), else_=Photo.server),
            "secret": case((found, _new.secret), else_=Photo.secret),
            "image_url": case((found, _new.image_url), else_=Photo.image_url),
            "resolved_at": case((found, func.now()), else_=Photo.resolved_at),
            "state": case((found, PhotoState.RESOLVED), else_=Photo.state),
        }
        for name in told:
            old, said = Photo.__table__.c[name], _remark(name)
            filled = func.coalesce(old, said)
            values[name] = case((_unasked(), func.coalesce(said, old)), else_=filled)
        if self._tx.dialect.name == "postgresql":
            # Lock them in order of ids first, as a settle does, so that no two wait for each
            # other. Counted there: their ids would take memory here.
            found = select(Photo.id).join(INCOMING, self.same).where(changes).order_by(Photo.id)
            locked = found.with_for_update(of=Photo, key_share=True).subquery()
            self._tx.execute(select(func.count()).select_from(locked))
        self._tx.execute(update(Photo).where(self.same, changes).values(values))

    def _insert_new(self) -> int:
        """Insert the photos that are neither known nor purged; return how many.

        A purge takes the photo and leaves the tombstone in one transaction, and this is one
        statement: it sees one of the two, whenever the purge commits.
        """
        resolved = _new.image_url.is_not(None)
        known = select(Photo.id).where(self.same).exists()
        purged = select(Tombstone.id).where(self._purged == self._new).exists()
        columns = [name for name in _COLUMNS if name not in {"line", "uid", "pid", *REMARKS}]
        rows = (
            select(
                *(_new[name] for name in columns),
                *(_remark(name) for name in REMARKS),
                case((resolved, PhotoState.RESOLVED), else_=PhotoState.LISTED),
                case((resolved, func.now()), else_=None),
            )
            .where(~known, ~purged)
            .order_by(_new.line)
        )
        added = insert(Photo).from_select([*columns, *REMARKS, "state", "resolved_at"], rows)
        # psycopg does not say how many rows an INSERT touched unless it is asked to.
        return self._tx.execute(added, execution_options={"preserve_rowcount": True}).rowcount


@contextmanager
def incoming(tx: Tx, *, files: bool = False) -> Iterator[Incoming]:
    """Open the way in for one list; see `Incoming`."""
    INCOMING.create(tx)
    yield Incoming(tx, files=files)
    INCOMING.drop(tx)


def _missing(column: Any) -> Any:
    return case((column.is_(None), 1), else_=0)


def _found() -> Any:
    """Return the condition under which a row brings an image URL that the photo has use for."""
    waiting = Photo.state == PhotoState.LISTED
    lies_elsewhere = (
        Photo.source_key.is_not(None)
        & (Photo.state == PhotoState.RESOLVED)
        & (Photo.image_url != _new.image_url)
    )
    return _new.image_url.is_not(None) & (waiting | lies_elsewhere)


def _unasked() -> Any:
    """Return the condition under which Flickr has said nothing of a photo yet."""
    return (Photo.state == PhotoState.LISTED) | Photo.source_key.is_not(None)


def _changes(told: Sequence[str]) -> Any:
    """Return the condition under which a row changes the photo that it names."""
    relabelled = _new.label.is_not(None) & (Photo.label.is_(None) | (Photo.label != _new.label))
    owned = _new.owner.is_not(None) & Photo.owner.is_(None)
    changes = [relabelled, owned, _found()]
    for name in told:
        old, said = Photo.__table__.c[name], _remark(name)
        changes.append(_new[name].is_not(None) & (old.is_(None) | (_unasked() & (old != said))))
    return or_(*changes)
