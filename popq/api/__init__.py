"""The public Python door: what each command does, as one call on `Rooms`.

    from popq import api
    from popq.bootstrap import open_rooms

    with open_rooms() as rooms:
        api.init(rooms)
        api.work(rooms, "resolve", on_progress=print)

Everything that lasts takes a callable that is told of progress.
"""

from popq.api.catalogue import import_list, init, make_ready, purge, recheck
from popq.api.chain import run_all
from popq.api.learning import (
    compare_runs,
    follow_run,
    leads,
    load_model,
    make_dataset,
    new_run,
    newest_dataset,
    newest_run,
    scored_run,
    show_run,
    stop_run,
    train,
)
from popq.api.progress import OnProgress
from popq.api.work import (
    cancel_job,
    follow,
    pause_job,
    person,
    preview,
    resume_job,
    retry_job,
    serve,
    show_job,
    work,
)

__all__ = [
    "OnProgress",
    "cancel_job",
    "compare_runs",
    "follow",
    "follow_run",
    "import_list",
    "init",
    "leads",
    "load_model",
    "make_dataset",
    "make_ready",
    "new_run",
    "newest_dataset",
    "newest_run",
    "pause_job",
    "person",
    "preview",
    "purge",
    "recheck",
    "resume_job",
    "retry_job",
    "run_all",
    "scored_run",
    "serve",
    "show_job",
    "show_run",
    "stop_run",
    "train",
    "work",
]
