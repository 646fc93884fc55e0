"""Fault plans: a file that says what goes wrong at the fake Flickr, when, and to whom.

A plan is TOML as a file and JSON, with the same names, at the running server. docs/fake-flickr.md
describes it for people; the models here are its exact grammar.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from popq.errors import BadInput
from popq.flickr.fake.faults import Fault, Faults, Host, Rule
from popq.flickr.fake.world import Dialect, FakePhoto, Fate, Look, World

_Count = Annotated[int, Field(ge=1)]
_Seconds = Annotated[float, Field(ge=0, le=10**9)]

_RUN = re.compile(r"(ok|failed) ([0-9]{1,9})")


def _ascending(rows: tuple[int, int]) -> tuple[int, int]:
    if rows[0] > rows[1]:
        raise ValueError("the first row is after the last")
    return rows


def _listed(fault: object) -> object:
    return [fault] if isinstance(fault, str) else fault


_Rows = Annotated[tuple[_Count, _Count], AfterValidator(_ascending)]
_Faults = Annotated[list[Fault], Field(min_length=1), BeforeValidator(_listed)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _World(_Part):
    dialect: Dialect | None = None
    private_code: Literal[1, 2] | None = None
    gone_status: Literal[404, 410] | None = None
    string_codes: bool | None = None
    json_type: str | None = None
    refuse_replayed_nonces: bool | None = None
    oembed_missing_status: Annotated[int, Field(ge=400, le=599)] | None = None
    oembed_private_status: Annotated[int, Field(ge=400, le=599)] | None = None
    deleted_owners: set[str] | None = None


class _Which(_Part):
    """Photos by id, or by rows: their places in the world, counted from 1, both ends included."""

    photos: set[int] | None = None
    rows: _Rows | None = None

    def ids(self, world: World) -> set[int] | None:
        """Return the ids that are meant, None for all."""
        if self.rows is None:
            return self.photos
        first, last = self.rows
        return set(islice(world.photos, first - 1, last)) | (self.photos or set())


class _Photo(_Which):
    fate: Fate | None = None
    look: Look | None = None
    secret: Annotated[str, Field(pattern=r"^[0-9a-z]{1,40}$")] | None = None
    views: int | None = None
    downloadable: bool | None = None
    free_account: bool | None = None
    missing_extras: frozenset[str] | None = None
    missing_sizes: frozenset[str] | None = None
    robots: Annotated[str, Field(pattern=r"^[\x20-\x7e]*$")] | None = None


class _Rule(_Which):
    fault: _Faults
    name: str = ""
    host: Host = Host.API
    keys: frozenset[str] | None = None
    kinds: frozenset[str] | None = None
    from_s: _Seconds = 0.0
    to_s: _Seconds | None = None
    from_call: _Count = 1
    to_call: _Count | None = None
    every: _Count = 1
    times: _Count | None = None
    budget: Annotated[int, Field(ge=0)] | None = None
    window_s: _Seconds = 3600.0
    lasts_s: _Seconds | None = None
    slow_s: _Seconds = 1.0
    retry_after_s: Annotated[int, Field(ge=0)] | None = None

    def made(self, world: World) -> Rule:
        """Return the rule for the photos of a world."""
        ids = self.ids(world)
        members = self.model_dump(exclude={"fault", "photos", "rows"})
        photos = None if ids is None else frozenset(ids)
        return Rule(faults=tuple(self.fault), photos=photos, **members)


class _Outcomes(_Part):
    file: str
    outage: _Rows | None = None


class Plan(_Part):
    """What to change about a fake Flickr; `apply` does it."""

    keys: dict[str, str] = {}
    world: _World = _World()
    photo: list[_Photo] = []
    rule: list[_Rule] = []
    outcomes: _Outcomes | None = None
    _failed: frozenset[int] = frozenset()

    def apply(self, world: World, faults: Faults, keys: dict[str, str]) -> None:
        """Change a world, its faults and its keys; `BadInput`, and no change, for a strange id."""
        for which in (*self.photo, *self.rule):
            strangers = sorted((which.photos or set()) - world.photos.keys())
            if strangers:
                raise BadInput(f"the fault plan names photo {strangers[0]}, which is not served")
        keys |= self.keys
        _set(world, self.world)
        for row, photo in enumerate(world.photos.values(), start=1):
            if row in self._failed:
                photo.fate = Fate.REMOVED
        for change in self.photo:
            ids = change.ids(world)
            for flickr_id in world.photos if ids is None else ids:
                _set(world.photos[flickr_id], change)
        for rule in self.rule:
            faults.add(rule.made(world))


def _set(thing: World | FakePhoto, change: _Part) -> None:
    """Set what a change names and its thing has."""
    has = {field.name for field in fields(thing)}
    for name in change.model_fields_set & has:
        value = getattr(change, name)
        if value is not None:
            setattr(thing, name, value)


def read(members: Mapping[str, Any], where: str) -> Plan:
    """Read a plan that came as JSON; `BadInput` says what is wrong and where."""
    plan = _validated(members, where)
    if plan.outcomes is not None:
        raise BadInput(f"{where}: outcomes: only a file at the server's start may have these")
    return plan


def read_file(path: Path) -> Plan:
    """Read a plan's TOML file, and the file of outcomes that it names beside itself."""
    try:
        members = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # no TOML, or no text
        raise BadInput(f"{path} is no TOML: {error}") from error
    plan = _validated(members, str(path))
    if plan.outcomes is not None:
        runs = _runs(path.parent / plan.outcomes.file)
        plan._failed = frozenset(failed_rows(runs, plan.outcomes.outage))  # noqa: SLF001 - its own
    return plan


def failed_rows(
    runs: Sequence[tuple[bool, int]], outage: tuple[int, int] | None = None
) -> Iterator[int]:
    """Give the rows, counted from 1, that failed in runs of (ok, how many).

    Rows of the `outage` (first, last) are left out: they failed, but their photos live.
    """
    row = 1
    for ok, count in runs:
        if not ok:
            for failed in range(row, row + count):
                if outage is None or not outage[0] <= failed <= outage[1]:
                    yield failed
        row += count


def _runs(path: Path) -> list[tuple[bool, int]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BadInput(f"{path} is no text: {error}") from error
    runs = []
    for number, line in enumerate(lines, start=1):
        run = _RUN.fullmatch(line.strip())
        if run is None and line.strip():
            raise BadInput(f'{path}, line {number}: "{line[:40]}" is neither "ok N" nor "failed N"')
        if run is not None:
            runs.append((run[1] == "ok", int(run[2])))
    return runs


def _validated(members: Mapping[str, Any], where: str) -> Plan:
    try:
        return Plan.model_validate(members)
    except ValidationError as error:
        first = error.errors()[0]
        path = [str(part + 1) if isinstance(part, int) else part for part in first["loc"]]
        unknown = first["type"] == "extra_forbidden"
        what = "there is nothing of this name" if unknown else first["msg"]
        raise BadInput(f"{where}: {' '.join(path)}: {what}") from error
