"""`popq flower`: Flower over popq's broker, bound to this machine, behind a password."""

from __future__ import annotations

import importlib.util
import secrets

import click

from popq.bootstrap import open_rooms
from popq.cli import show
from popq.errors import Misconfigured, ServiceDown

#: Whom a browser asks for.
USER = "popq"
#: Flower forgets a worker that has been gone for so long, in seconds.
FORGET_S = 600


@click.command()
@click.option(
    "--port", type=click.IntRange(1, 65535), default=5555, show_default=True, help="Port."
)
@click.option(
    "--address",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen at; the default is reached from this machine only.",
)
def flower_command(port: int, address: str) -> None:
    """Show workers and doorbells in a browser: Flower over POPQ_BROKER_URL.

    The user is popq, the password POPQ_FLOWER_PASSWORD; without one a new one is made and shown
    once. Flower answers /metrics and /healthcheck without asking for it, and whoever has it can
    stop workers: leave it on this machine, or put it behind a proxy. Needs popq[flower]. A bell is
    named by its job (job-7-..., run-3-...); what the jobs come to is in `popq status`, not here.
    """
    with open_rooms() as rooms:
        given = rooms.settings.flower_password
        broker = rooms.settings.broker()
    if broker is None:
        message = "There is no POPQ_BROKER_URL, so there is nothing for Flower to look at"
        raise Misconfigured(f"{message}; `popq status` shows jobs and workers without one.")
    if importlib.util.find_spec("flower") is None:
        raise Misconfigured("Flower is not installed; pip install 'popq[flower]'.")
    password = given.get_secret_value() if given is not None else secrets.token_urlsafe(18)
    if "," in password or not password:
        raise Misconfigured("POPQ_FLOWER_PASSWORD is empty or has a comma, which Flower splits at.")
    if given is None:
        # However quiet the command is: nobody could log in else.
        made = f"User {USER}, password {password} (for this start; POPQ_FLOWER_PASSWORD sets it)"
        click.echo(made, err=True)
    show.note(f"Flower at http://{address}:{port}; Ctrl-C stops.")
    from popq.celery import app  # noqa: PLC0415 - Celery, only where it is needed

    # As arguments of a call, not of a process: no list of processes shows the password.
    options = [
        "--quiet",
        "flower",
        f"--address={address}",
        f"--port={port}",
        f"--basic-auth={USER}:{password}",
        f"--purge-offline-workers={FORGET_S}",
    ]
    try:
        app.start(options)
    except OSError as error:
        message = f"{address} port {port} cannot be served ({error.strerror})"
        raise ServiceDown(f"{message}; give another --port or --address.") from error
