"""What an error of a database's driver means to popq: what is wrong, where, and what to do next.

SQLite tells most of its errors apart only by their text. PostgreSQL's have a class each, and their
text is not looked at: it may hold names that people chose, and may be in any language. Only a
connection that never came about has nothing but text.
"""

from __future__ import annotations

from typing import Final

from popq.errors import Misconfigured, ServiceDown

Told = Misconfigured | ServiceDown

#: Kinds of a PostgreSQL error that a person must act on.
_NO_CATALOGUE: Final = frozenset({"UndefinedTable", "UndefinedColumn"})
_NO_RIGHTS: Final = frozenset({"InsufficientPrivilege", "ReadOnlySqlTransaction"})
#: Those of two transactions that could not both be carried out.
_CROSSED: Final = frozenset({"DeadlockDetected", "SerializationFailure"})


def of_sqlite(catalogue: object, error: object) -> Told | None:
    """Return what an error of SQLite's means, or None for one that it tells nothing of."""
    text = _first_line(error)
    told: Told | None = None
    if "no such table" in text or "no such column" in text:
        told = _no_catalogue(catalogue, text)
    elif "readonly" in text or "unable to open" in text:
        message = f"{catalogue} cannot be opened for writing ({text})"
        told = Misconfigured(f"{message}; check the path and its permissions.")
    elif "file is not a database" in text:
        told = Misconfigured(f"{catalogue} is no SQLite database; name another file.")
    elif "is locked" in text:
        message = f"Others write to {catalogue} for too long ({text})"
        told = ServiceDown(f"{message}; try again when they are done, or end them.")
    elif "disk is full" in text:
        # It may also be the disk of SQLite's temporary files, which hold a list that comes in.
        message = f"There is no room for {catalogue} or its temporary files ({text})"
        told = ServiceDown(f"{message}; make room on the disk and try again.")
    return told


def of_postgresql(catalogue: object, error: object) -> Told | None:
    """Return what an error of PostgreSQL's means, or None for one that it tells nothing of."""
    kind, text = type(error).__name__, _first_line(error)
    told: Told | None = None
    if kind in _NO_CATALOGUE:
        told = _no_catalogue(catalogue, text)
    elif kind in _NO_RIGHTS:
        message = f"{catalogue} may not be read or written ({text})"
        told = Misconfigured(f"{message}; check the user's rights.")
    elif kind == "LockNotAvailable":
        message = f"Others hold what this needs in {catalogue} for too long ({text})"
        told = ServiceDown(f"{message}; try again, or see who it is in pg_stat_activity.")
    elif kind == "QueryCanceled":  # by the time that a statement may take, or by a person
        message = f"A statement in {catalogue} was cancelled ({text})"
        told = ServiceDown(f"{message}; try again when the server has less to do.")
    elif kind in _CROSSED:
        message = f"Others wrote to {catalogue} at the same moment ({text})"
        told = ServiceDown(f"{message}; nothing of this was written: try again.")
    elif kind == "DiskFull":
        message = f"The server of {catalogue} has no room ({text})"
        told = ServiceDown(f"{message}; make room on its disk and try again.")
    elif "FATAL:  password authentication failed" in text:
        message = f"{catalogue} refuses the user or the password ({text})"
        told = Misconfigured(f"{message}; correct POPQ_DATABASE_URL.")
    elif 'FATAL:  database "' in text and text.endswith("does not exist"):
        # The server is there: to start it, as for one that does not answer, would help nobody.
        message = f"{catalogue} is not on its server ({text})"
        told = Misconfigured(f"{message}; make it with createdb, or correct POPQ_DATABASE_URL.")
    return told


def no_answer(catalogue: object, error: object) -> ServiceDown:
    """Return what any other error means that comes of the database and not of popq."""
    message = f"The database {catalogue} does not answer: {_first_line(error)}"
    return ServiceDown(f"{message}; start it, or correct POPQ_DATABASE_URL.")


def _no_catalogue(catalogue: object, text: str) -> Misconfigured:
    message = f"{catalogue} holds no catalogue of this version ({text})"
    return Misconfigured(f"{message}; run `popq init`.")


def _first_line(error: object) -> str:
    return str(error).strip().partition("\n")[0]
