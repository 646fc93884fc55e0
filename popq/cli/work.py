"""`popq resolve`, `download`, `score`, and their `enqueue-` twins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeVar

import click

from popq import api
from popq.bootstrap import Rooms, open_rooms
from popq.catalogue.enqueuing import Enqueued
from popq.catalogue.jobs import Progress
from popq.catalogue.work import describe
from popq.cli import show
from popq.cli.progress import progress
from popq.errors import BadInput

Command = TypeVar("Command", bound=Callable[..., Any])

_run_option = click.option(
    "run_id",
    "--run",
    type=show.NUMBER,
    help="The run; default: the newest done.",
)


def _narrowed(command: Command) -> Command:
    """Add the options that say which photos."""
    for option in (
        click.option(
            "--min-label",
            type=float,
            callback=show.finite,
            help="Only photos labelled so high, or higher.",
        ),
        click.option("--owner", metavar="NSID", help="Only photos of this owner."),
        click.option("--limit", type=show.NUMBER, help="At most so many photos."),
    ):
        command = option(command)
    return command


def _scoring(command: Command) -> Command:
    """Add the options of scoring: with which run, and which photos."""
    for option in (
        click.option(
            "again",
            "--all/--missing",
            default=False,
            help="Every photo, scored by the run or not; or only what it has not scored (default).",
        ),
        click.option("--dataset", metavar="NAME", help="Only photos of this data set."),
        _run_option,
    ):
        command = option(command)
    return _narrowed(command)


#: The option of every command that resolves.
via_option = click.option(
    "--via",
    type=click.Choice(["oembed"]),
    help="Ask Flickr's oEmbed instead of the API: no key needed; titles and licences only.",
)


def _enqueued(command: Command) -> Command:
    """Add the options of a command that leaves work to workers."""
    for option in (
        show.json_option,
        click.option("--follow", is_flag=True, help="Show progress until the job ends."),
        click.option(
            "--dry-run", is_flag=True, help="Only say how much it is, and how long it takes."
        ),
    ):
        command = option(command)
    return command


def _only(owner: str | None, min_label: float | None, dataset: str | None = None) -> dict[str, Any]:
    given = {"owner": owner, "min_label": min_label, "dataset": dataset}
    return {name: value for name, value in given.items() if value is not None}


def _work(
    stage: str,
    as_json: bool,
    *,
    owner: str | None,
    min_label: float | None,
    dataset: str | None = None,
    **options: Any,
) -> None:
    only = _only(owner, min_label, dataset)
    with open_rooms() as rooms, progress(f"Preparing to {stage}") as ticker:
        done = api.work(rooms, stage, only=only, on_progress=ticker, **options)
    if done is None:
        if as_json:
            show.data({"stage": stage, "job": None, "photos": 0, "moved": 0, "left": 0})
        else:
            click.echo(f"Nothing to {stage}.")
        return
    if as_json:
        show.data(asdict(done))
    else:
        left = "to be downloaded again" if stage == "score" else "gone or rejected"
        click.echo(f"{stage}: {done.moved:,} done, {done.exited:,} {left}.")
    _say_left([done])


def _say_left(ended: list[Progress]) -> None:
    """End with status 1 when photos are left."""
    for job in ended:
        if job.state == "cancelled":
            show.note(f"Job {job.job} was cancelled; {job.left:,} photos are left.")
        elif job.left:
            show.note(f"{job.left:,} left after all tries; `popq failures` says why.")
    if any(job.left for job in ended):
        raise SystemExit(1)


def _enqueue(
    stage: str,
    *,
    dry_run: bool,
    follow: bool,
    as_json: bool,
    owner: str | None,
    min_label: float | None,
    dataset: str | None = None,
    **options: Any,
) -> None:
    only = _only(owner, min_label, dataset)
    with open_rooms() as rooms:
        if dry_run:
            _preview(rooms, stage, as_json, only=only, **options)
            return
        from popq import tasks  # noqa: PLC0415 - Celery, only where bells are rung

        if stage == "score":
            options["run_id"] = api.scored_run(rooms, options["run_id"])
        with progress("Enqueuing"):
            done = tasks.enqueue(rooms, stage, only=only, by=api.person(), **options)
        parts = [(stage, done)] + ([("download", done.then)] if done.then else [])
        if not as_json:
            for name, part in parts:
                say_enqueued(name, part)
            if any(part.photos for _, part in parts):
                show.note(hint(rooms, stage))
        ended = _follow(rooms, [part.job for _, part in parts if part.job]) if follow else []
    if as_json:
        show.data(asdict(done) | ({"ended": [asdict(job) for job in ended]} if follow else {}))
    elif follow:
        for job in ended:
            click.echo(f"Job {job.job} is {job.state}: {job.moved:,} done, {job.exited:,} left us.")
    _say_left(ended)


def say_enqueued(stage: str, done: Enqueued) -> None:
    """Print what enqueuing came to."""
    if done.job is None:
        click.echo(f"Nothing to {stage}.")
        return
    verb = "is made" if done.new else "was active already and has grown"
    if not done.new and not done.photos:
        verb = "is active already, and nothing is new"
    click.echo(f"Job {done.job} {verb}: {done.photos:,} photos in {done.batches:,} batches.")
    if done.widened:
        show.note(f"Job {done.job} was for some photos only; now it is for {describe({})}.")
    if done.resumed:
        show.note(f"Job {done.job} was paused; now it goes on.")


def hint(rooms: Rooms, stage: str) -> str:
    """Return who does what is enqueued."""
    queue = "gpu" if stage == "score" else "io"
    return f"Workers do it: `popq worker --queues {queue}`; `popq jobs` shows how far they are." + (
        "" if rooms.settings.broker() else " (No broker: workers look for it by themselves.)"
    )


def _follow(rooms: Rooms, jobs: list[int]) -> list[Progress]:
    try:
        with progress("Following") as ticker:
            return [api.follow(rooms, job, on_progress=ticker) for job in jobs]
    except KeyboardInterrupt:
        show.note("No longer followed; the job goes on. `popq jobs` shows how far it is.")
        raise


def _preview(
    rooms: Rooms, stage: str, as_json: bool, *, then: str | None = None, **options: Any
) -> None:
    with progress("Counting"):
        parts = [api.preview(rooms, stage, **options)]
        if then is not None:
            handed_on, alone = parts[0]["photos"], options["limit"] is not None
            more = {"only": options["only"], "after": handed_on, "alone": alone}
            parts.append(api.preview(rooms, then, **more))
    if as_json:
        show.data(parts[0] | ({"then": parts[1]} if then else {}))
        return
    for part in parts:
        per_second, seconds = part["per_second"], part["seconds"]
        takes = "for how long is not known yet"
        if seconds is not None:
            takes = f"about {show.duration(seconds)} at {show.rate(per_second)}"
        joins = "" if part["job"] is None else f", beside what job {part['job']} has"
        click.echo(
            f"{part['stage']}: {part['photos']:,} photos in {part['batches']:,} batches{joins}:"
            f" {takes}."
        )
        if "most_calls" in part:
            calls = f"{part['fewest_calls']:,} to {part['most_calls']:,}"
            click.echo(f"  {calls} calls, as owners' pages show their photos or not.")


@click.command()
@_narrowed
@via_option
@show.json_option
def resolve_command(as_json: bool, **options: Any) -> None:
    """Find the image URL of every listed photo through the Flickr API, here and now.

    Needs POPQ_FLICKR_KEYS=key:secret, or --via oembed. Keeps to the key's hourly budget; stop it
    at any time and start it again. Photos that Flickr does not show any more leave with a reason.
    """
    _work("resolve", as_json, **options)


@click.command()
@_narrowed
@show.json_option
def download_command(as_json: bool, **options: Any) -> None:
    """Download, check and measure the image of every resolved photo, here and now."""
    _work("download", as_json, **options)


@click.command()
@_scoring
@show.json_option
def score_command(as_json: bool, **options: Any) -> None:
    """Score every stored photo that the run has not scored, here and now.

    Scores are in the view `scored_photos`: a score and a tier, and from a run that classifies the
    probability of each tier. Scores are in the label's unit, but for those of a run that ranks:
    they only order photos. Running it again scores what is new; with --all everything.
    """
    _work("score", as_json, **options)


@click.command()
@_narrowed
@click.option(
    "--then",
    type=click.Choice(["download"]),
    help="Let a download job take up each batch as soon as it is resolved.",
)
@via_option
@_enqueued
def enqueue_resolve_command(**options: Any) -> None:
    """Leave resolving to workers: make a job, or add what is new to the active one.

    With `--then download` what is resolved is downloaded at once, and what was resolved before
    too; but with a limit only what lies between the photos that it takes.
    """
    owner = options["owner"]
    if options["then"] is not None and owner is not None and "@" not in owner:
        raise BadInput(
            f"{owner} is the name in a link, which resolving replaces by the owner's id, so that"
            " the download would find nothing: give the id (12345678@N00), or leave --then out and"
            " enqueue the download afterwards."
        )
    _enqueue("resolve", **options)


@click.command()
@_narrowed
@_enqueued
def enqueue_download_command(**options: Any) -> None:
    """Leave downloading to workers: make a job, or add what is new to the active one."""
    _enqueue("download", **options)


@click.command()
@_scoring
@_enqueued
def enqueue_score_command(**options: Any) -> None:
    """Leave scoring to workers: make a job, or add what is new to the active one."""
    _enqueue("score", **options)
