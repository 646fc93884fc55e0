"""`popq doctor`: does everything that popq needs answer, and what is set."""

from __future__ import annotations

from typing import Any

import click

from popq import doctor
from popq.bootstrap import open_rooms
from popq.cli import show


@click.command()
@click.option("--store", "whole", is_flag=True, help="Also look for every photo's file.")
@click.option(
    "--repair", is_flag=True, help="With --store: let photos without a file be fetched again."
)
@click.option(
    "--delete-orphans",
    is_flag=True,
    help="With --store: delete popq's files that no photo has named for a day.",
)
@show.json_option
def doctor_command(whole: bool, repair: bool, delete_orphans: bool, as_json: bool) -> None:
    """Check database, broker, store, key and torch, and show the effective settings.

    Exits with 3 if something that is set does not work, and with 1 if a photo's file is missing
    from the store. Secrets are masked. Files that belong to no photo are reported and left alone,
    unless --delete-orphans is given: do not where catalogues share a store.
    """
    for given, name in ((repair, "--repair"), (delete_orphans, "--delete-orphans")):
        if given and not whole:
            raise click.UsageError(f"{name} goes with --store.")
    with open_rooms() as rooms:
        checks = doctor.check(rooms)
        wrong = {row["name"] for row in checks if row["state"] == "wrong"}
        can = whole and not wrong & {"database", "store"}
        orders = {"repair": repair, "delete_orphans": delete_orphans}
        stock = doctor.check_store(rooms, **orders) if can else None
        settings = rooms.settings.masked()
    if as_json:
        show.data({"checks": checks, "settings": settings} | ({"stock": stock} if stock else {}))
    else:
        for row in checks:
            click.echo(f"{row['state']:<8} {row['name']:<9} {row['message']}")
        if stock:
            _tell(stock)
        click.echo("\nsettings (environment, .env or popq.toml)")
        for name, value in settings.items():
            click.echo(f"  {name:<28} {value}")
    if wrong:
        raise SystemExit(3)
    if stock and stock["missing"] > stock["moved"]:
        raise SystemExit(1)


def _tell(stock: dict[str, Any]) -> None:
    """Print what a stocktaking found."""
    click.echo(f"\nstore: {stock['stored']:,} stored photos, {stock['files']:,} files")
    click.echo(f"  {stock['missing']:,} photos have no whole file")
    for key in stock["missing_keys"]:
        click.echo(f"    {key}")
    left = f"{stock['deleted']:,} deleted" if stock["deleted"] else "left alone"
    click.echo(f"  {stock['orphans']:,} files belong to no stored photo ({left})")
    for key in stock["orphan_keys"]:
        click.echo(f"    {key}")
    if stock["moved"]:
        click.echo(f"  {stock['moved']:,} can be fetched again: `popq download` does it")
    elif stock["missing"]:
        click.echo("  `popq doctor --store --repair` lets them be fetched again")
