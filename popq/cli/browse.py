"""`popq browse`: the catalogue in a browser, by Datasette, on this machine only."""

from __future__ import annotations

import importlib.util
import json
import socket
import tempfile
from pathlib import Path
from typing import Any

import click

from popq.bootstrap import open_rooms
from popq.catalogue import cookbook
from popq.cli import show
from popq.errors import BadInput, Misconfigured, ServiceDown

#: Bound to this machine: a catalogue holds what owners may want gone.
HOST = "127.0.0.1"
#: A query may take so long.
QUERY_MS = 20_000
#: What a database of SQLite begins with.
_MAGIC = b"SQLite format 3\0"


@click.command()
@click.argument(
    "file", required=False, type=click.Path(path_type=Path, dir_okay=False, exists=True)
)
@click.option(
    "--port", type=click.IntRange(1, 65535), default=8001, show_default=True, help="Port."
)
def browse_command(file: Path | None, port: int) -> None:
    """Show the catalogue in a browser: Datasette, with questions ready to run, read-only.

    FILE is a copy that `popq export catalogue` made; without one it is the catalogue itself, if it
    is in SQLite. Reached from this machine only. Needs popq[browse].
    """
    if importlib.util.find_spec("datasette") is None:
        raise Misconfigured("Datasette is not installed; pip install 'popq[browse]'.")
    if file is None:
        found = _catalogue()
        files = [str(found)]
    else:
        _check_database(file)
        # Nobody writes to a copy, so it can be read without a lock.
        found, files = file, ["--immutable", str(file)]
    _must_be_free(port)
    from datasette.cli import cli as datasette  # noqa: PLC0415 - an extra, and slow to load
    from datasette.utils import tilde_encode  # noqa: PLC0415 - the same

    with tempfile.TemporaryDirectory() as folder:
        metadata = Path(folder, "metadata.json")
        metadata.write_text(json.dumps(_metadata(found.stem)), encoding="utf-8")
        show.note(f"{found} at http://{HOST}:{port}/{tilde_encode(found.stem)}; Ctrl-C stops.")
        options = ["--metadata", str(metadata), "--host", HOST, "--port", str(port)]
        options += ["--setting", "sql_time_limit_ms", str(QUERY_MS)]
        options += ["--setting", "allow_download", "off"]
        datasette.main(["serve", *files, *options], standalone_mode=False)


def _catalogue() -> Path:
    with open_rooms() as rooms:
        if rooms.catalogue.path is None:
            message = "The catalogue is in PostgreSQL, which Datasette does not read"
            raise BadInput(
                f"{message}: `popq export catalogue -o copy.db`, then `popq browse copy.db`."
            )
        with rooms.catalogue.read():  # says what is wrong if there is none
            return rooms.catalogue.path


def _check_database(file: Path) -> None:
    with file.open("rb") as start:
        if start.read(len(_MAGIC)) == _MAGIC:
            return
    raise BadInput(f"{file} is no SQLite database; `popq export catalogue -o copy.db` makes one.")


def _must_be_free(port: int) -> None:
    """Datasette would say that a port is taken, but not what to do about it."""
    try:
        socket.create_server((HOST, port)).close()
    except OSError as error:
        message = f"port {port} cannot be served ({error.strerror}); give another --port"
        raise ServiceDown(message) from error


def _metadata(database: str) -> dict[str, Any]:
    """Return Datasette's metadata: what tables are, and the cookbook's questions."""
    queries = {
        recipe.name: {"sql": recipe.sql.rstrip(";"), "title": recipe.question}
        for recipe in cookbook.RECIPES
    }
    tables = {name: {"description": text} for name, text in cookbook.TABLES.items()}
    return {
        "title": "A catalogue of popq",
        "description": "Photos remain their owners'; do not hand on what you see here.",
        "databases": {database: {"queries": queries, "tables": tables}},
    }
