"""The database's own prompt for a catalogue, so that it changes nothing."""

from __future__ import annotations

from popq.catalogue.db import Catalogue

#: What makes a session of PostgreSQL refuse to write, until it says otherwise.
_READ_ONLY = "-c default_transaction_read_only=on"
#: Moments are shown, and cut into years, as SQLite and the report have them, not as a server does.
_IN_UTC = "-c timezone=UTC"


def prompt(catalogue: Catalogue) -> tuple[list[str], dict[str, str]]:
    """Return the command of a read-only prompt, and what its environment must hold beside.

    The password goes there: the arguments of a process are for all to see.
    """
    if catalogue.path is not None:
        return ["sqlite3", "-readonly", "-header", "-cmd", ".timeout 5000", str(catalogue.path)], {}
    from psycopg.conninfo import make_conninfo  # noqa: PLC0415 - the driver, an extra

    _, asked = catalogue.url.get_dialect()().create_connect_args(catalogue.url)
    password = asked.pop("password", None)
    asked.pop("sslpassword", None)  # libpq has no variable for this one: psql asks for it
    asked["options"] = f"{_IN_UTC} {asked.get('options', '')} {_READ_ONLY}"
    bare = make_conninfo(application_name="popq sql", **asked)
    return ["psql", bare], {} if password is None else {"PGPASSWORD": password}
