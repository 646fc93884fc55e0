"""`popq jobs`: the jobs, how far they are, and what to do with one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click

from popq import api
from popq.bootstrap import open_rooms
from popq.catalogue import jobs
from popq.catalogue.states import GONE_REASONS, REJECTED_REASONS
from popq.catalogue.work import describe
from popq.cli import show
from popq.cli.progress import progress
from popq.cli.work import hint, say_enqueued

_id_argument = click.argument("job", type=show.NUMBER, metavar="ID")


@click.group(
    cls=show.OrNumber, invoke_without_command=True, subcommand_metavar="[ID | COMMAND ID] [OPTIONS]"
)
@show.json_option
@click.pass_context
def jobs_command(ctx: click.Context, as_json: bool) -> None:
    """List the jobs, newest first, or show, pause, resume, cancel or retry one."""
    if ctx.invoked_subcommand is not None:
        if as_json:
            ctx.default_map = {name: {"as_json": True} for name in jobs_command.commands}
        return
    with open_rooms() as rooms, rooms.catalogue.read() as tx, progress("Counting"):
        rows = [asdict(progress) for progress in jobs.progress(tx)]
    if as_json:
        show.data(rows)
        return
    columns = ("job", "stage", "state", "photos", "moved", "exited", "left", "open_batches")
    show.table(rows, (*columns, "message"), "No jobs yet; `popq enqueue-resolve` makes one.")


@jobs_command.command("show")
@_id_argument
@show.json_option
def _show(job: int, as_json: bool) -> None:
    """Show job ID: its filter, batches, outcomes, rate, and who asked."""
    with open_rooms() as rooms, progress("Counting"):
        told = api.show_job(rooms, job)
    if as_json:
        show.data(told)
        return
    told["filter"] = describe(told["filter"])
    told["batches_by_state"] = _counts(told["batches_by_state"])
    told["outcomes"] = _counts(told["outcomes"])
    told["rate"], left_s = show.rate(told.pop("per_second")), told.pop("left_s")
    told["time left"] = None if left_s is None else show.duration(left_s)
    for name, value in told.items():
        if value not in (None, ""):
            click.echo(f"{name:<18} {value}")


def _counts(counted: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counted.items() if count)


@jobs_command.command("pause")
@_id_argument
@show.json_option
def _pause(job: int, as_json: bool) -> None:
    """Hand out no more work of job ID; workers finish the photo they are at."""
    _order(job, as_json, api.pause_job, f"Job {job} is paused; `popq jobs resume {job}` goes on.")


@jobs_command.command("resume")
@_id_argument
@show.json_option
def _resume(job: int, as_json: bool) -> None:
    """Let paused job ID go on."""
    _order(job, as_json, api.resume_job, f"Job {job} goes on.")


@jobs_command.command("cancel")
@_id_argument
@show.json_option
def _cancel(job: int, as_json: bool) -> None:
    """End job ID for good; what is finished is kept, and its stage can be enqueued again."""
    _order(job, as_json, api.cancel_job, f"Job {job} is cancelled; what is finished is kept.")


def _order(job: int, as_json: bool, order: Callable[..., Any], text: str) -> None:
    with open_rooms() as rooms:
        order(rooms, job)
        told = api.show_job(rooms, job)
    if as_json:
        show.data(told)
        return
    click.echo(text)
    held = told["batches_by_state"]["leased"]
    if held and told["state"] != "running":
        show.note(f"Workers still hold {held:,} batches; each is put down within seconds.")


@jobs_command.command("retry")
@_id_argument
@click.option(
    "--reason",
    type=click.Choice(sorted(map(str, GONE_REASONS | REJECTED_REASONS))),
    help="Instead bring back the photos that it took out for this.",
)
@show.json_option
def _retry(job: int, reason: str | None, as_json: bool) -> None:
    """Enqueue the photos that job ID left after failed tries again, with fresh tries."""
    with open_rooms() as rooms:
        from popq import tasks  # noqa: PLC0415 - Celery, only where bells are rung

        with progress("Enqueuing"):
            done = api.retry_job(rooms, job, reason)
        stage = api.show_job(rooms, job)["stage"]
        tasks.ring(rooms, stage, done.enqueued)
        who = hint(rooms, stage)
    if as_json:
        show.data(asdict(done))
        return
    if done.enqueued.job is None:
        left = "after failed tries" if reason is None else f"as {reason}"
        click.echo(f"Nothing to retry: no photo of job {job} is left {left}.")
        show.note(f"Photos that no job has come to are taken up by `popq enqueue-{stage}`.")
        return
    if reason is not None:
        click.echo(f"{done.put_back:,} photos that left as {reason} are back.")
    say_enqueued(stage, done.enqueued)
    show.note(who)
