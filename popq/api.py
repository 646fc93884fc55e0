"""The public Python door: what each command does, as one call on `Rooms`.

    from popq import api
    from popq.bootstrap import open_rooms

    with open_rooms() as rooms:
        api.init(rooms)
        api.work(rooms, "resolve", on_progress=print)

Everything that lasts takes a callable that is told of progress.
"""

from __future__ import annotations

import contextlib
import getpass
import tempfile
import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog

from popq import gpu
from popq.bootstrap import BATCH_SIZES, QUEUES, Rooms, open_rooms, torch_stage
from popq.catalogue import datasets, hosts, jobs, migrate, orders, overview, queries, runs, scores
from popq.catalogue import recheck as rechecking
from popq.catalogue.db import Catalogue
from popq.catalogue.purge import Doomed
from popq.catalogue.states import ACTIVE_JOBS, JobState, PhotoState, RunState
from popq.catalogue.work import Filter
from popq.errors import BadInput, Misconfigured, PopqError
from popq.stages import dataset, ingest, stream
from popq.stages import purge as purging
from popq.stages.dataset import Spec
from popq.stages.presence import Presence

if TYPE_CHECKING:
    from popq.learn.scorer import Scorer

log = structlog.get_logger()

#: Told of progress: the stage or phase, how much is done, and of how much.
OnProgress = Callable[[str, int, int], None]
#: Seconds between two looks at a job that is followed.
FOLLOW_S: Final = 0.5


def init(rooms: Rooms) -> dict[str, Any]:
    """Make the catalogue, or bring it to this version; return where it is and both versions."""
    before = migrate.upgrade(rooms.catalogue)
    _, after = migrate.versions(rooms.catalogue)
    return {"catalogue": str(rooms.catalogue), "before": before, "version": after}


def make_ready(rooms: Rooms) -> None:
    """Make the catalogue where there is none; any number of workers may begin so at once.

    One of an older version is left as it is, since other workers may be at work on it: whoever
    wants it brought to this version says so with `popq init`. Raises `Misconfigured` then.
    """
    before, head = migrate.versions(rooms.catalogue)
    if before is None:
        before = migrate.upgrade(rooms.catalogue) or head
    if before != head:
        message = f"{rooms.catalogue} is at version {before}, this popq at {head}"
        raise Misconfigured(f"{message}; run `popq init` when its workers have stopped.")


def import_list(
    rooms: Rooms,
    source: ingest.Source,
    *,
    strict: bool = False,
    dry_run: bool = False,
    on_progress: OnProgress | None = None,
) -> ingest.Report:
    """Import a list, making the catalogue first where there is none; see `ingest.ingest`."""
    ingest.check_readable(source)  # before there is a catalogue of nothing
    version, _ = migrate.versions(rooms.catalogue)
    options: dict[str, Any] = {
        "image_base": rooms.settings.flickr_image_url,
        "image_size": rooms.settings.image_size,
        "strict": strict,
        "dry_run": dry_run,
        "on_progress": on_progress,
    }
    if version is None and dry_run:
        with tempfile.TemporaryDirectory() as folder:
            empty = Catalogue(f"sqlite:///{folder}/popq.db")
            try:
                migrate.upgrade(empty)
                return ingest.ingest(empty, source, **options)
            finally:
                empty.close()
    if version is None:
        init(rooms)
    return ingest.ingest(rooms.catalogue, source, **options)


def work(
    rooms: Rooms,
    stage: str,
    *,
    run_id: int | None = None,
    only: Filter | None = None,
    limit: int | None = None,
    via: str | None = None,
    again: bool = False,
    on_progress: OnProgress,
) -> jobs.Progress | None:
    """Do the stage's work here and now, beside whatever other workers do, until none is left.

    `only` narrows it (see `catalogue.work`), `limit` takes the first photos, `via` is another
    way to do it (`oembed` resolves without a key), `again` scores what is scored, too. Returns how
    its job ended, or None when there was nothing to do. Raises `Misconfigured` when the job was
    paused.
    """
    if stage == "score":
        run_id = scored_run(rooms, run_id)
    ask: dict[str, Any] = {"only": only, "limit": limit, "via": via, "again": again}
    done = rooms.enqueue(stage, run_id=run_id, by=person(), **ask)
    if done.job is None:
        return None
    # A score batch has the whole device; several would only fight for it.
    threads = 1 if stage == "score" else rooms.settings.io_threads

    def tell(progress: jobs.Progress) -> None:
        on_progress(stage, progress.finished, progress.photos)

    return rooms.drain(stage).run_job(done.job, threads, tell)


def preview(
    rooms: Rooms,
    stage: str,
    *,
    run_id: int | None = None,
    only: Filter | None = None,
    limit: int | None = None,
    via: str | None = None,
    again: bool = False,
    after: int = 0,
) -> dict[str, Any]:
    """Return what enqueuing would come to: photos, batches, and seconds at the current rate.

    `after` are photos that an earlier stage hands on; its batches are not known yet.

    The rate is the budget of the keys or of the image host; for scoring, what the last job did.
    Changes nothing and calls nobody. `per_second` and `seconds` are None where no rate is known.
    Resolving has bounds of its calls, retries left out; the seconds are for a call a photo.
    """
    size, tries = BATCH_SIZES[stage], rooms.settings.max_tries
    if stage == "score":
        run_id = scored_run(rooms, run_id)
    with rooms.catalogue.read() as tx:
        if again:
            only = jobs.again(tx, run_id, only or {})
        found, cut = jobs.preview(
            tx, stage, size=size, run_id=run_id, only=only, limit=limit, via=via, max_tries=tries
        )
    rate = _rate(rooms, stage, via)
    found = replace(found, photos=found.photos + after)
    seconds = None if rate is None else found.photos / rate
    told = {"stage": stage, **asdict(found), "per_second": rate, "seconds": seconds}
    if stage == "resolve":
        told["fewest_calls"], told["most_calls"] = stream.bounds(cut)
    return told


def _rate(rooms: Rooms, stage: str, via: str | None) -> float | None:
    s = rooms.settings
    if via is not None:
        return s.flickr_calls_per_hour / 3600
    with rooms.catalogue.read() as tx:
        if stage == "score":
            return queries.score_rate(tx)
        if stage == "download":
            return s.images_per_second
        keys = sum(hosts.disabled(tx, [name]) is None for name in rooms.flickr_clients)
    return s.flickr_calls_per_hour * keys / 3600 or None


def follow(rooms: Rooms, job: int, *, on_progress: OnProgress) -> jobs.Progress:
    """Tell of a job's progress until it is over, working nothing; return how it ended."""
    never = threading.Event()
    while True:
        with rooms.catalogue.read() as tx:
            (progress,) = jobs.progress(tx, job)
        phase = f"job {job} ({progress.stage})"
        if progress.state == JobState.PAUSED:
            phase += f", paused: {progress.message}"
        on_progress(phase, progress.finished, progress.photos)
        if progress.state not in ACTIVE_JOBS:
            return progress
        never.wait(FOLLOW_S)


def pause_job(rooms: Rooms, job: int) -> None:
    """Pause an active job; `BadInput` when it is unknown, over, or paused already."""
    with rooms.catalogue.begin() as tx:
        orders.pause(tx, job, person())


def resume_job(rooms: Rooms, job: int) -> None:
    """Let a paused job go on; `BadInput` when it is not paused."""
    with rooms.catalogue.begin() as tx:
        orders.resume(tx, job)


def cancel_job(rooms: Rooms, job: int) -> orders.Cancelled:
    """End an active job, keeping what is finished; `BadInput` when it is over."""
    with rooms.catalogue.begin() as tx:
        return orders.cancel(tx, job)


def retry_job(rooms: Rooms, job: int, reason: str | None) -> orders.Retried:
    """Enqueue again what an ended job left after failures, or took out for a reason."""
    tries = rooms.settings.max_tries
    with rooms.catalogue.begin() as tx:
        size = BATCH_SIZES[jobs.get(tx, job).stage]
        return orders.retry(tx, job, reason, size=size, max_tries=tries, requested_by=person())


def show_job(rooms: Rooms, job: int) -> dict[str, Any]:
    """Return a job with its progress, batches by state and outcomes; `BadInput` when unknown.

    `per_second` is the rate of late and `left_s` the time left by it, None where it cannot be told.
    """
    with rooms.catalogue.read() as tx:
        jobs.get(tx, job)
        (progress,) = jobs.progress(tx, job)
        told = asdict(progress) | queries.job(tx, job)
        rate = overview.rates(tx, [job]).get(job, 0.0)
    told["per_second"] = rate
    told["left_s"] = overview.left_s(progress.photos - progress.finished, rate)
    return told


def newest_dataset(rooms: Rooms, name: str | None) -> str:
    """Return the name of the data set asked for, or of the newest; `BadInput` without one."""
    with rooms.catalogue.read() as tx:
        if name is not None:
            return str(datasets.get(tx, name).name)
        found = datasets.list_all(tx)
    if not found:
        raise BadInput("There is no data set yet; `popq dataset create NAME` makes one.")
    return str(found[-1].name)


def scored_run(rooms: Rooms, run_id: int | None) -> int:
    """Return the run to score with; as `newest_run`, and `BadInput` without a photo to score."""
    run_id = newest_run(rooms, run_id)
    with rooms.catalogue.read() as tx:
        if not queries.any_stored(tx):
            raise BadInput("No photo is stored, so there is none to score; `popq download` first.")
    return run_id


def newest_run(rooms: Rooms, run_id: int | None) -> int:
    """Return the run asked for, or the newest that is done; `BadInput` for one without weights."""
    with rooms.catalogue.read() as tx:
        if run_id is None:
            run_id = queries.newest_run(tx)
            if run_id is None:
                raise BadInput("No run is done yet; `popq train` makes one.")
        else:
            row = runs.get(tx, run_id)
            if row.state != "done":
                message = f"Run {run_id} is {row.state}: it has no weights to score with"
                raise BadInput(f"{message}. `popq runs {run_id}` says where it stands.")
    return run_id


def person() -> str:
    """Return who asks, for the jobs' log."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"


def leads(rooms: Rooms) -> bool:
    """Return whether this process speaks for all that a launcher started; alone it does."""
    several = torch_stage("train").team(rooms.settings.device)
    return several is None or bool(several.leads)


def load_model(source: int | str | Path) -> Scorer:
    """Return a trained network ready to score pictures: of a run, or of an exported folder.

        scorer = api.load_model(3)                       # run 3 of this catalogue, or "exported/"
        for said in scorer.score(["a.jpg", Image.open("b.png")]):
            print(said.score, said.tier, said.probabilities)

    A picture is a path or a PIL image of any size from 64x64 pixels up and any mode; they are
    batched inside. `score` is in the labels' unit, `tier` counts from 1, `probabilities` has one
    float for each tier. Settings say where the catalogue is and on which device (`POPQ_DEVICE`).
    Raises `BadInput` for a run without weights, other weights than it recorded, or no such folder.
    """
    with open_rooms() as rooms:
        return rooms.scorer(source if isinstance(source, int) else Path(source))


def new_run(
    rooms: Rooms,
    dataset_name: str,
    preset: str,
    options: dict[str, Any],
    tracker: str | None = None,
) -> int:
    """Make a queued run, or take up an unfinished one of the same data set and configuration.

    `tracker` is told of its epochs beside the catalogue.
    """
    stage = torch_stage("train")

    def create() -> int:
        return int(
            stage.create_run(rooms.catalogue, dataset_name, preset, tracker=tracker, **options)
        )

    return int(stage.agreed(rooms.settings.device, create))


def train(
    rooms: Rooms, run: int, *, on_progress: OnProgress, stop: threading.Event | None = None
) -> dict[str, Any]:
    """Train a run here and now and return it; waits while another worker's lease holds it.

    Setting `stop` ends it after its next batch: it is stopped then, and goes on from there when it
    is asked for again. Raises what ended the run otherwise; its row says so too.
    """
    stage, where = torch_stage("train"), rooms.trainer_place()
    stop = stop or threading.Event()
    while True:
        try:
            stage.train(rooms.catalogue, run, where, stop=stop, on_progress=on_progress)
        except stage.Stopped:
            # Handed back for any worker; but a person who stops it does not want it trained.
            with contextlib.suppress(BadInput):
                stop_run(rooms, run)
            raise
        found = show_run(rooms, run)
        if found["state"] == "done":
            return found
        if found["state"] in {"failed", "stopped"}:
            raise PopqError(f"Run {run} {found['state']}: {found['message']}")
        on_progress(f"waiting for the lease of {found['worker']}", 0, 0)
        if stop.wait(1.0):
            raise stage.Stopped(f"run {run} was only waited for; {found['worker']} goes on with it")


def stop_run(rooms: Rooms, run: int) -> RunState:
    """Stop a run that waits, or ask the worker of one that is trained; return its state.

    Raises `BadInput` for a run that is unknown or over.
    """
    with rooms.catalogue.begin() as tx:
        return runs.ask_to_stop(tx, run)


def follow_run(
    rooms: Rooms, run: int, *, on_look: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Show `on_look` the run every half second until it is over, training nothing; return it."""
    never = threading.Event()
    while True:
        found = show_run(rooms, run)
        on_look(found)
        if found["state"] not in {RunState.QUEUED, RunState.RUNNING}:
            return found
        never.wait(FOLLOW_S)


def show_run(rooms: Rooms, run: int) -> dict[str, Any]:
    """Return a run with its configuration, metrics and epochs; `BadInput` when unknown."""
    with rooms.catalogue.read() as tx:
        row = runs.get(tx, run)
        return queries.rows_of([row])[0] | {"epochs": runs.epochs(tx, run)}


def compare_runs(rooms: Rooms, first: int, second: int) -> dict[str, Any]:
    """Return two runs side by side on the same validation photos; see `stages.compare`."""
    from popq.stages.compare import compare  # noqa: PLC0415 - loads scikit-learn

    return compare(rooms.catalogue, first, second)


def make_dataset(rooms: Rooms, spec: Spec) -> dict[str, Any]:
    """Freeze a data set, or return the one of that name if it was asked to be the same."""
    with rooms.catalogue.read() as tx:
        there = datasets.find(tx, spec.name)
        new, relabelled = datasets.drift(tx, there.id) if there is not None else (0, 0)
    if there is None:
        return dataset.create(rooms.catalogue, spec)
    asked = (spec.tiers, spec.fit, spec.split, spec.val, spec.test, spec.seed)
    made = (there.tiers, there.fit, there.split_rule, there.val, there.test, there.seed)
    if asked != made or (spec.cuts and list(spec.cuts) != there.cuts):
        message = f"The data set {spec.name!r} is frozen with other tiers or another split"
        raise BadInput(f"{message}; give another name.")
    described = dataset.describe(rooms.catalogue, spec.name)
    if new or relabelled:
        described["warnings"].append(
            f"it is frozen as it was made: {new} stored photos are not in it, and {relabelled} of"
            " its photos have another label now; give another --name for a set of all of them"
        )
    return described


def recheck(
    rooms: Rooms,
    *,
    older_than_hours: float,
    reason: str | None = None,
    limit: int | None = None,
    dry_run: bool = False,
) -> dict[str, int]:
    """List gone photos again whose last word is so old; return how many, by why they had left.

    `limit` takes the first by id. What resolves them is another call: `work`, or a worker.
    """
    with rooms.catalogue.begin() as tx:
        which = rechecking.gone_since(tx, older_than_hours * 3600, reason)
        counted = rechecking.count(tx, which, limit)
        if not dry_run:
            rechecking.bring_back(tx, which, PhotoState.LISTED, limit)
    return counted


def purge(
    rooms: Rooms,
    *,
    photo: str | None = None,
    owner: str | None = None,
    reason: str,
    agreed: Callable[[Doomed], bool],
) -> Doomed | None:
    """Take one photo, or all of an owner, out for good and return what was taken.

    `agreed` is shown what would be taken first; without its consent nothing is, and None returned.
    Raises `BadInput` for photos that the catalogue does not know.
    """
    doomed = purging.look_up(rooms.catalogue, photo=photo, owner=owner)
    if not agreed(doomed):
        return None
    packs = rooms.settings.data_dir / "packs"
    return purging.purge(rooms.catalogue, rooms.store, packs, doomed, reason)


def run_all(
    rooms: Rooms,
    source: ingest.Source,
    spec: Spec,
    preset: str,
    options: dict[str, Any],
    *,
    via: str | None = None,
    on_progress: OnProgress,
) -> dict[str, Any]:
    """Go from a list to scored photos in one go; started again, it goes on where it was.

    Each step is the one its own command takes. Returns what each came to.
    """
    summary: dict[str, Any] = {"catalogue": init(rooms)["catalogue"]}
    report = import_list(rooms, source, on_progress=on_progress)
    summary["import"] = asdict(report)
    left = 0
    for stage in ("resolve", "download"):
        way = via if stage == "resolve" else None
        done = work(rooms, stage, via=way, on_progress=on_progress)
        left += done.left if done else 0
    described = make_dataset(rooms, spec)
    summary["dataset"] = described
    same = torch_stage("train").find_done(rooms.catalogue, spec.name, preset, **options)
    run = new_run(rooms, spec.name, preset, options) if same is None else int(same)
    summary["run"] = train(rooms, run, on_progress=on_progress)
    done = work(rooms, "score", run_id=run, on_progress=on_progress)
    left += done.left if done else 0
    with rooms.catalogue.read() as tx:
        summary["photos"] = queries.photos_by_state(tx)
        summary["reasons"] = queries.reasons(tx)
        summary["scored"] = scores.count(tx, run)
    summary["left"] = left
    return summary


def serve(rooms: Rooms, queue: str, stop: threading.Event) -> None:
    """Work one queue off the catalogue alone, without a broker, until `stop` is set."""
    threads = rooms.settings.io_threads if queue == "io" else 1
    with Presence(rooms.catalogue, rooms.worker, queue, threads):
        if queue == "gpu":
            gpu.serve(rooms, stop)
            return
        drain = rooms.drain(*QUEUES[queue])
        drain.stop = stop
        drain.serve(threads)
