"""`popq sql`: the database's own prompt, read-only."""

from __future__ import annotations

import os
import shutil

import click

from popq.bootstrap import open_rooms
from popq.catalogue.prompt import prompt
from popq.errors import Misconfigured
from popq.settings import environment


@click.command()
def sql_command() -> None:
    """Open the database's own prompt on the catalogue, read-only: sqlite3 or psql.

    Queries may also be piped in. docs/sql.md has questions to begin with.
    """
    with open_rooms() as rooms:
        catalogue = rooms.catalogue
        with catalogue.read():
            command, secret = prompt(catalogue)
    program = shutil.which(command[0])
    if program is None:
        message = f"{command[0]} is not installed here, and is what opens {catalogue}"
        raise Misconfigured(f"{message}; install it, or use any client of that database.")
    os.execve(program, command, environment() | secret)  # noqa: S606 - no shell, our arguments
