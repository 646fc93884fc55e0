"""What all tables share: types, names of constraints, and conditions on columns."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, Double, Integer, MetaData, Text
from sqlalchemy.orm import DeclarativeBase

from popq.catalogue.db import UtcDateTime

#: SQLite counts rows up by itself only for a column of type INTEGER.
Id = BigInteger().with_variant(Integer(), "sqlite")


class Base(DeclarativeBase):
    """Base of all models: stable constraint names, so that migrations can speak of them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own shape
        int: BigInteger(),
        str: Text(),
        float: Double(),
        dt.datetime: UtcDateTime(),
        dict[str, Any]: JSON(),
        list[float]: JSON(),
        list[int]: JSON(),
    }


def one_of(column: str, values: object) -> str:
    """Return the condition that a column has one of these values."""
    names = sorted(str(value) for value in values)  # type: ignore[attr-defined]
    return f"{column} IN ({', '.join(repr(name) for name in names)})"


def states(column: str, enum: type[StrEnum]) -> str:
    """Return the condition that a column has one of an enumeration's values."""
    return one_of(column, list(enum))
