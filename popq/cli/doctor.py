"""`popq doctor`: does everything that popq needs answer, and what is set."""

from __future__ import annotations

import click

from popq import api
from popq.bootstrap import open_rooms
from popq.cli import show


@click.command()
@show.json_option
def doctor_command(as_json: bool) -> None:
    """Check database, broker, store, key and torch, and show the effective settings.

    Exits with 3 if something that is set does not work. Secrets are masked.
    """
    with open_rooms() as rooms:
        checks = api.check(rooms)
        settings = rooms.settings.masked()
    if as_json:
        show.data({"checks": checks, "settings": settings})
    else:
        for row in checks:
            click.echo(f"{row['state']:<8} {row['name']:<9} {row['message']}")
        click.echo("\nsettings (environment, .env or popq.toml)")
        for name, value in settings.items():
            click.echo(f"  {name:<28} {value}")
    if any(row["state"] == "wrong" for row in checks):
        raise SystemExit(3)
