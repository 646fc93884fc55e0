"""Data sets: who could be in one, freezing one, and reading a frozen one."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Integer,
    MetaData,
    Table,
    Text,
    func,
    insert,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement

from popq.catalogue.db import Tx, bulk_insert, bulk_select
from popq.catalogue.models import Dataset, Member, Photo, PhotoMoments
from popq.catalogue.states import PhotoState
from popq.errors import BadInput

#: Rows read at a time: so few that they are gone again before Python looks for garbage.
_READ: Final = 500
#: Rows written at a time: each time is a round trip.
_WRITE: Final = 20_000


@dataclass(frozen=True, slots=True)
class MemberRow:
    """One photo of a frozen data set, with its Flickr id and its exact moments."""

    photo_id: int
    flickr_id: int | None
    owner: str | None
    label: float
    tier: int
    split: str
    file_key: str
    moments: tuple[int, ...]


#: How a data set under way is cut.
_CUT: Final = Table(
    "cut",
    MetaData(),
    Column("photo_id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True),
    Column("tier", BigInteger),
    Column("split", Text),
    prefixes=["TEMPORARY"],
)
_MOMENTS = (
    PhotoMoments.pixels,
    PhotoMoments.sum_r,
    PhotoMoments.sum_g,
    PhotoMoments.sum_b,
    PhotoMoments.square_r,
    PhotoMoments.square_g,
    PhotoMoments.square_b,
)


class unix_seconds(FunctionElement[int]):  # noqa: N801 - reads as the SQL function that it is
    """A timestamp as whole Unix seconds: no object is made for each row."""

    type = BigInteger()
    inherit_cache = True


@compiles(unix_seconds, "sqlite")
def _sqlite_seconds(element: Any, compiler: Any, **options: Any) -> str:
    return f"CAST(strftime('%s', {compiler.process(element.clauses, **options)}) AS INTEGER)"


@compiles(unix_seconds)
def _postgresql_seconds(element: Any, compiler: Any, **options: Any) -> str:
    moment = compiler.process(element.clauses, **options)
    return f"CAST(floor(extract(epoch FROM {moment})) AS bigint)"


@dataclass(frozen=True, slots=True)
class Candidates:
    """Every photo that can be learnt from, by id, as columns: a row each would be slow to hold.

    `posted` is in Unix seconds; `sha256` and `phash` are hex digits.
    """

    id: list[int] = field(default_factory=list)
    flickr_id: list[int | None] = field(default_factory=list)
    owner: list[str | None] = field(default_factory=list)
    label: list[float] = field(default_factory=list)
    posted: list[int | None] = field(default_factory=list)
    sha256: list[str] = field(default_factory=list)
    phash: list[str | None] = field(default_factory=list)


def candidates(tx: Tx) -> Candidates:
    """Return every photo that is stored, measured and labelled."""
    columns = (Photo.id, Photo.flickr_id, Photo.owner, Photo.label, unix_seconds(Photo.posted_at))
    query = (
        select(*columns, Photo.sha256, Photo.phash)
        .join(PhotoMoments, PhotoMoments.photo_id == Photo.id)
        .where(Photo.state == PhotoState.STORED, Photo.label.is_not(None))
    )
    found = Candidates()
    parts: list[list[Any]] = [getattr(found, column.name) for column in fields(found)]
    for rows in bulk_select(tx, query.order_by(Photo.id), _READ):
        for part, values in zip(parts, zip(*rows, strict=True), strict=True):
            part.extend(values)
    return found


def hold_still(tx: Tx) -> None:
    """Let a transaction see the catalogue as it is now to its end; the first thing in it.

    Otherwise PostgreSQL would show each statement what others have committed since the last one,
    and labels could be frozen that are not those the tiers were cut by. SQLite's writer is alone.
    """
    if tx.dialect.name == "postgresql":
        tx.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))


def readiness(tx: Tx) -> tuple[int, int]:
    """Return how many photos are stored, and how many of these have a label."""
    query = select(func.count(), func.count(Photo.label)).where(Photo.state == PhotoState.STORED)
    stored, labelled = tx.execute(query).one()
    return int(stored), int(labelled)


def create(tx: Tx, values: dict[str, Any], members: Iterable[tuple[int, int, str]]) -> int:
    """Freeze a data set and return its id.

    `values` are the columns of `datasets` but for the id and times (mean and std are set by
    `set_channels`); `members` are (photo_id, tier, split), whose labels and files are taken as
    they are now: `hold_still` makes them those that `candidates` read.
    """
    row = {**values, "mean": [], "std": []}
    dataset = int(tx.execute(insert(Dataset).values(row).returning(Dataset.id)).scalar_one())
    _CUT.create(tx)
    rows = iter(members)
    while chunk := list(itertools.islice(rows, _WRITE)):
        bulk_insert(tx, _CUT, ("photo_id", "tier", "split"), chunk)
    cut = _CUT.c
    # Half the time of sending each photo's label and file there and back.
    taken = (
        select(literal(dataset), Photo.id, Photo.label, cut.tier, cut.split, Photo.file_key)
        .join(_CUT, cut.photo_id == Photo.id)
        .order_by(Photo.id)
    )
    columns = ["dataset_id", "photo_id", "label", "tier", "split", "file_key"]
    tx.execute(insert(Member).from_select(columns, taken))
    _CUT.drop(tx)
    return dataset


def training_sums(tx: Tx, dataset: int) -> tuple[int, ...]:
    """Return the training split's (pixels, sums r g b, squares r g b): exact integers by SQL."""
    query = (
        select(*(func.sum(column) for column in _MOMENTS))
        .join(Member, Member.photo_id == PhotoMoments.photo_id)
        .where(Member.dataset_id == dataset, Member.split == "train")
    )
    return tuple(int(value) for value in tx.execute(query).one())


def set_channels(tx: Tx, dataset: int, mean: Sequence[float], std: Sequence[float]) -> None:
    """Record the training split's channel mean and standard deviation, in pixel / 255."""
    values = {"mean": list(mean), "std": list(std)}
    tx.execute(update(Dataset).where(Dataset.id == dataset).values(values))


def get(tx: Tx, name: str | None = None, dataset: int | None = None) -> Any:
    """Return a data set's row by name or by id; `BadInput` when there is none."""
    row = find(tx, name, dataset)
    if row is None:
        what = f"data set {name if name is not None else dataset!r}"
        message = f"There is no {what}; `popq dataset list` lists those there are"
        raise BadInput(f"{message}, `popq dataset create` makes one.")
    return row


def find(tx: Tx, name: str | None = None, dataset: int | None = None) -> Any | None:
    """Return a data set's row by name or by id, or None."""
    condition = Dataset.name == name if name is not None else Dataset.id == dataset
    return tx.execute(select(*Dataset.__table__.c).where(condition)).one_or_none()


def list_all(tx: Tx) -> Sequence[Any]:
    """Return the rows of all data sets, oldest first."""
    return tx.execute(select(*Dataset.__table__.c).order_by(Dataset.id)).all()


def counts(tx: Tx, dataset: int) -> Sequence[Any]:
    """Return (split, tier, photos) of a data set."""
    query = (
        select(Member.split, Member.tier, func.count())
        .where(Member.dataset_id == dataset)
        .group_by(Member.split, Member.tier)
        .order_by(Member.split, Member.tier)
    )
    return tx.execute(query).all()


def drift(tx: Tx, dataset: int) -> tuple[int, int]:
    """Return how many learnable photos are not in the set, and how many have another label now."""
    own = (Member.photo_id == Photo.id) & (Member.dataset_id == dataset)
    fit = (Photo.state == PhotoState.STORED) & Photo.label.is_not(None)
    query = select(
        func.count().filter(fit & Member.photo_id.is_(None)),
        func.count().filter(Member.label != Photo.label),
    ).select_from(Photo)
    new, relabelled = tx.execute(query.join(Member, own, isouter=True)).one()
    return int(new), int(relabelled)


def member_ids(tx: Tx, dataset: int) -> list[int]:
    """Return the members' photo ids in order: the rows of the data set's pack."""
    query = select(Member.photo_id).where(Member.dataset_id == dataset)
    found: list[int] = []
    for rows in bulk_select(tx, query.order_by(Member.photo_id), _READ):
        found.extend(row[0] for row in rows)
    return found


def file_keys(tx: Tx, dataset: int, lo: int, hi: int) -> dict[int, str]:
    """Return the files that the members from photo `lo` to `hi` were frozen with, by photo."""
    query = select(Member.photo_id, Member.file_key).where(
        Member.dataset_id == dataset, Member.photo_id.between(lo, hi)
    )
    return {row[0]: row[1] for row in tx.execute(query)}


def members(tx: Tx, dataset: int) -> list[MemberRow]:
    """Return the members by photo id: row i here is row i of the data set's pack.

    They are all that `member_ids` names. Raises `BadInput` when the sums of one are missing.
    """
    columns = (Member.photo_id, Photo.flickr_id, Photo.owner, Member.label, Member.tier)
    query = (
        select(*columns, Member.split, Member.file_key, *_MOMENTS)
        .join(Photo, Photo.id == Member.photo_id)
        .join(PhotoMoments, PhotoMoments.photo_id == Member.photo_id, isouter=True)
        .where(Member.dataset_id == dataset)
        .order_by(Member.photo_id)
    )
    found = [MemberRow(*row[:7], moments=tuple(row[7:])) for row in tx.execute(query)]
    if bare := [one.photo_id for one in found if None in one.moments]:
        # A popq of before deleted them with a lost file. Fewer members would be another data set.
        message = f"{len(bare):,} of the {len(found):,} photos of data set {dataset} have no sums"
        message += (
            f" (photo {bare[0]} is the first): their files were lost. `popq download` fetches"
        )
        raise BadInput(f"{message} them again; if it cannot, make a new data set without them.")
    return found
