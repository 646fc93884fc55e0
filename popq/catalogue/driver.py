"""Statements of every batch: put together once, and run by PostgreSQL's driver itself.

Most of what SQLAlchemy does to run a statement and to read its rows it does anew each time, and a
batch has few photos for that (`benchmarks/bench_claim.py`). On SQLite it is left to run them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import ARRAY, Dialect

from popq.catalogue.db import Tx


def rows(tx: Tx, statement: Any, given: Mapping[str, Any]) -> Sequence[Any]:
    """Run the statement with the parameters `given`, by name; return its rows as tuples.

    `statement` is one object for the life of the process (`functools.cache`). Values go to the
    driver as they are and come as it reads them (no type processing): numbers, text, times with a
    zone, None, and lists of them; JSON comes as what it says.
    """
    if tx.dialect.name != "postgresql":
        return tx.execute(statement, given).all()
    text, constants = _put_together(statement, tx.dialect)
    cursor = tx.connection.cursor()
    cursor.execute(text, constants | dict(given))
    found: Sequence[Any] = cursor.fetchall()
    return found


@lru_cache(maxsize=256)
def _put_together(statement: Any, dialect: Dialect) -> tuple[str, dict[str, Any]]:
    """Return the statement's text, and the values of those parameters that it has itself."""
    made = statement.compile(dialect=dialect)
    state = made.construct_expanded_state(made.params)
    given = {bind.key for bind in made.binds.values() if bind.required}
    own = {key: value for key, value in state.parameters.items() if key not in given}
    # Members of an enumeration would be looked up each time.
    own = {key: str(value) if isinstance(value, str) else value for key, value in own.items()}
    text = state.statement
    for bind in made.binds.values():
        if isinstance(bind.type, ARRAY):
            # Binary: as text, the driver writes a list element by element, in Python.
            text = text.replace(f"%({bind.key})s", f"%({bind.key})b")
    return text, own
