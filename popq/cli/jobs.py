"""`popq resolve`, `download`, `score`, their `enqueue-` twins, and `jobs`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from popq import api
from popq.bootstrap import Rooms, open_rooms
from popq.catalogue import jobs
from popq.cli import show

limit_option = click.option(
    "--limit", type=click.IntRange(1, show.BIGGEST), help="At most so many photos."
)
run_option = click.option(
    "run_id",
    "--run",
    type=click.IntRange(1, show.BIGGEST),
    help="The run; default: the newest done.",
)


def _work(stage: str, as_json: bool, **options: Any) -> None:
    ticker = show.Ticker()
    try:
        with open_rooms() as rooms:
            done = api.work(rooms, stage, on_progress=ticker, **options)
    finally:
        ticker.close()
    if done is None:
        if as_json:
            show.data({"stage": stage, "job": None, "photos": 0, "moved": 0, "left": 0})
        else:
            click.echo(f"Nothing to {stage}.")
        return
    if as_json:
        show.data(asdict(done))
    else:
        click.echo(f"{stage}: {done.moved:,} done, {done.exited:,} gone or rejected.")
    if done.left:
        show.note(f"{done.left:,} left after all tries; `popq failures` says why.")
        raise SystemExit(1)


def _enqueue(stage: str, as_json: bool, *, run_id: int | None, limit: int | None) -> None:
    from popq import tasks  # noqa: PLC0415 - Celery, only where bells are rung

    with open_rooms() as rooms:
        if stage == "score":
            run_id = api.scored_run(rooms, run_id)
        done = tasks.enqueue(rooms, stage, run_id=run_id, limit=limit, by=api.person())
        hint = _hint(rooms, stage)
    if as_json:
        show.data(asdict(done))
        return
    if done.job is None:
        click.echo(f"Nothing to {stage}.")
        return
    verb = "is made" if done.new else "was active already and has grown"
    click.echo(f"Job {done.job} {verb}: {done.photos:,} photos in {done.batches:,} batches.")
    if done.photos:
        show.note(hint)


def _hint(rooms: Rooms, stage: str) -> str:
    queue = "gpu" if stage == "score" else "io"
    return f"Workers do it: `popq worker --queues {queue}`; `popq jobs` shows how far they are." + (
        "" if rooms.settings.broker() else " (No broker: workers look for it by themselves.)"
    )


@click.command()
@limit_option
@show.json_option
def resolve_command(limit: int | None, as_json: bool) -> None:
    """Find the image URL of every listed photo through the Flickr API, here and now.

    Needs POPQ_FLICKR_KEYS=key:secret. Keeps to the key's hourly budget; stop it at any time and
    start it again. Photos that Flickr does not show any more leave with a reason.
    """
    _work("resolve", as_json, limit=limit)


@click.command()
@limit_option
@show.json_option
def download_command(limit: int | None, as_json: bool) -> None:
    """Download, check and measure the image of every resolved photo, here and now."""
    _work("download", as_json, limit=limit)


@click.command()
@run_option
@limit_option
@show.json_option
def score_command(run_id: int | None, limit: int | None, as_json: bool) -> None:
    """Score every stored photo that the run has not scored, here and now.

    Scores are in the view `scored_photos`: a score in the label's unit, a tier, and the
    probability of each tier. Running it again scores what is new.
    """
    _work("score", as_json, run_id=run_id, limit=limit)


@click.command()
@limit_option
@show.json_option
def enqueue_resolve_command(limit: int | None, as_json: bool) -> None:
    """Leave resolving to workers: make a job, or add what is new to the active one."""
    _enqueue("resolve", as_json, run_id=None, limit=limit)


@click.command()
@limit_option
@show.json_option
def enqueue_download_command(limit: int | None, as_json: bool) -> None:
    """Leave downloading to workers: make a job, or add what is new to the active one."""
    _enqueue("download", as_json, run_id=None, limit=limit)


@click.command()
@run_option
@limit_option
@show.json_option
def enqueue_score_command(run_id: int | None, limit: int | None, as_json: bool) -> None:
    """Leave scoring to workers: make a job, or add what is new to the active one."""
    _enqueue("score", as_json, run_id=run_id, limit=limit)


@click.command()
@click.argument("job", type=click.IntRange(1, show.BIGGEST), required=False)
@show.json_option
def jobs_command(job: int | None, as_json: bool) -> None:
    """List the jobs, newest first, or show JOB."""
    with open_rooms() as rooms, rooms.catalogue.read() as tx:
        if job is not None:
            jobs.get(tx, job)
        rows = [asdict(progress) for progress in jobs.progress(tx, job)]
    if as_json:
        show.data(rows)
        return
    columns = ("job", "stage", "state", "photos", "moved", "exited", "left", "open_batches")
    show.table(rows, (*columns, "message"), "No jobs yet; `popq enqueue-resolve` makes one.")
