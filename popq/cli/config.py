"""`popq config show`: every setting, its value, and where that comes from."""

from __future__ import annotations

import click

from popq import settings
from popq.cli import show


@click.group()
def config_command() -> None:
    """Show every setting, its value, and where that comes from."""


@config_command.command("show")
@show.json_option
def _show(as_json: bool) -> None:
    """Show every setting with its value and source; secrets are masked.

    Sources, each winning over those before it: default, popq.toml, .env, environment, flag
    (`popq --set NAME=VALUE`). popq.toml and .env are read in the folder where popq is started;
    `popq init` writes a popq.toml with all settings as comments.
    """
    values, sources = settings.load().masked(), settings.sources()
    rows = [
        {"name": name, "value": values[name], "source": sources.get(name, "default"), "what": what}
        for name, what in settings.variables().items()
    ]
    if as_json:
        show.data(rows)
        return
    for row in rows:
        row["value"] = "" if row["value"] == "None" else row["value"]
    show.table(rows, ("name", "source", "value"), "")
