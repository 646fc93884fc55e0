"""`popq doctor`: does everything that popq needs answer, and what is set."""

from __future__ import annotations

import sys
import textwrap
from typing import Any, Final

import click

from popq import doctor
from popq.bootstrap import open_rooms
from popq.cli import show
from popq.cli.progress import progress

COLOURS: Final = {"ok": "green", "warning": "yellow", "wrong": "red"}


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
    """Check database, broker, workers, key, hosts, store, disk, GPU and clock; show the settings.

    Each line is ok, a warning, or wrong with what to do. Exits with 3 if something that is set
    cannot work, with 4 if all that is wrong is a service that does not answer, and with 1 if a
    photo's file is missing from the store. An image host that does not answer is wrong where photos
    wait for it, else a warning. Secrets are masked. Files that belong to no photo are
    reported and left alone, unless --delete-orphans is given: do not where catalogues share a
    store.
    """
    for given, name in ((repair, "--repair"), (delete_orphans, "--delete-orphans")):
        if given and not whole:
            raise click.UsageError(f"{name} goes with --store.")
    with open_rooms() as rooms:
        with progress("Looking"):
            checks = doctor.check(rooms)
        wrong = {row["name"] for row in checks if row["state"] == "wrong"}
        can = whole and not wrong & {"database", "store"}
        orders = {"repair": repair, "delete_orphans": delete_orphans}
        with progress("Comparing catalogue and store"):
            stock = doctor.check_store(rooms, **orders) if can else None
        settings = rooms.settings.masked()
    if as_json:
        show.data({"checks": checks, "settings": settings} | ({"stock": stock} if stock else {}))
    else:
        for row in checks:
            _say(row)
        if stock:
            _tell(stock, delete_orphans)
        click.echo("\nsettings (`popq config show` says where each comes from)")
        for name, value in settings.items():
            click.echo(f"  {name:<28} {value}")
    if wrong:
        raise SystemExit(min(row["status"] for row in checks if row["status"]))
    if stock and stock["missing"] > stock["moved"]:
        raise SystemExit(1)


def _say(row: dict[str, Any]) -> None:
    """Print one check; what it says hangs below itself."""
    head = f"{row['state']:<8} {row['name']:<11}"
    size = max(show.width() - len(head), 40) if sys.stdout.isatty() else len(row["message"])
    first, *rest = textwrap.wrap(
        row["message"], size, break_long_words=False, break_on_hyphens=False
    )
    click.echo(click.style(f"{row['state']:<8}", fg=COLOURS[row["state"]]) + head[8:] + first)
    for line in rest:
        click.echo(" " * len(head) + line)


def _tell(stock: dict[str, Any], delete_orphans: bool) -> None:
    """Print what a stocktaking found, and why it deleted nothing though it was asked to."""
    click.echo(f"\nstore: {stock['stored']:,} stored photos, {stock['files']:,} files")
    click.echo(f"  {stock['missing']:,} photos have no whole file")
    for key in stock["missing_keys"]:
        click.echo(f"    {key}")
    left = "left alone"
    if stock["deleted"]:
        left = f"{stock['deleted']:,} deleted"
    elif delete_orphans and not stock["stored"]:
        left += ": no photo is stored, so they may be another catalogue's"
    elif delete_orphans and stock["orphans"]:
        left += ": none is popq's own that nobody has named for a day"
    click.echo(f"  {stock['orphans']:,} files belong to no stored photo ({left})")
    for key in stock["orphan_keys"]:
        click.echo(f"    {key}")
    if stock["moved"]:
        click.echo(f"  {stock['moved']:,} can be fetched again: `popq download` does it")
    elif stock["missing"]:
        click.echo("  `popq doctor --store --repair` lets them be fetched again")
