"""The database's own prompt for a catalogue, so that it changes nothing."""

from __future__ import annotations

from popq.catalogue.db import Catalogue

#: What makes a session of PostgreSQL refuse to write, until it says otherwise.
_READ_ONLY = "-c default_transaction_read_only=on"


def prompt(catalogue: Catalogue) -> tuple[list[str], dict[str, str]]:
    """Return the command of a read-only prompt, and what its environment must hold beside.

    The password goes there: the arguments of a process are for all to see.
    """
    if catalogue.path is not None:
        return ["sqlite3", "-readonly", "-header", "-cmd", ".timeout 5000", str(catalogue.path)], {}
    url = catalogue.url.set(drivername="postgresql")
    given = url.query.get("options", "")
    options = f"{given if isinstance(given, str) else ' '.join(given)} {_READ_ONLY}".strip()
    url = url.update_query_dict({"options": options, "application_name": "popq sql"})
    secret = {} if url.password is None else {"PGPASSWORD": url.password}
    # `set` takes None for "leave it"; an empty password is left out of the text.
    bare = url._replace(password=None).render_as_string(hide_password=False)
    return ["psql", bare], secret
