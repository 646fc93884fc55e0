"""A fleet of worker processes over one house, and the hand that kills, freezes and replaces them.

Photos are tiny, but each answer of the fake Flickr takes `SLOW_S`, so that a thread cannot have
more than `UNSETTLED` photos finished and not settled: whatever it takes along when it dies.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from chaos.outcomes import asked, asked_again, differences, outcome
from houses import house, jpeg, small_world
from sqlalchemy.exc import DBAPIError

from popq import api
from popq.catalogue import enqueuing
from popq.errors import PopqError
from popq.flickr.fake.faults import Fault, Faults, Host
from popq.flickr.fake.world import Fate
from popq.stages.ingest import Source

SLOW_S = 0.05
SETTLE_EVERY_S = 0.3
UNSETTLED = math.ceil(SETTLE_EVERY_S / SLOW_S) + 1
#: What the first photos of every list come to.
FATES = (Fate.REMOVED, Fate.VIDEO, Fate.CORRUPT, Fate.IMAGE_GONE, Fate.PRIVATE, Fate.PLACEHOLDER)
SIZE = (96, 80)
#: A worker dies with the test, however that ends.
WITH_US = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []

_pictures = []


def world(photos):
    """Return a Flickr of so many photos that cost next to nothing to serve."""
    _pictures.extend(jpeg(number, SIZE) for number in range(len(_pictures), photos))
    made = small_world(photos, owners=max(6, photos // 4), fates=FATES)
    for number, photo in enumerate(made.photos.values()):
        photo.image = lambda data=_pictures[number]: data
    return made


def slow(photos, hosts=tuple(Host), seconds=SLOW_S):
    """Return faults that make each answer of these hosts take a while."""
    faults = Faults()
    for photo in photos.photos:
        for host in hosts:
            faults.fail_photo(photo, Fault.SLOW, host=host, times=30, slow_s=seconds)
    return faults


def impatient(**settings):
    """Return settings with short leases and small windows."""
    return {
        "lease_s": 2,
        "settle_every_s": SETTLE_EVERY_S,
        "retry_wait_s": 0.05,
        "flickr_calls_per_hour": 36_000_000,
        "images_per_second": 10_000,
    } | settings


@contextlib.contextmanager
def fleet_over(folder, photos, *, first=None, threads=2, faults=None, **settings):
    """Open a house with so many listed photos, and a fleet over it that has no worker yet.

    Its list is in `folder`; only the `first` of them are imported, if given.
    """
    made = world(photos)
    faults = slow(made) if faults is None else faults
    with house(folder, made, faults, **impatient(**settings)) as home:
        source = home.list_files(folder)
        if first is not None:
            source = Source(*(_head(path, first) for path in (source.links, source.labels)))
        if first != 0:
            api.import_list(home.rooms, source)
        with Fleet(home, folder, threads) as fleet:
            yield fleet


def _head(path, lines):
    """Write the first lines of a file beside it and return where."""
    head = path.with_name(f"first-{path.name}")
    head.write_text("".join(path.read_text().splitlines(keepends=True)[:lines]))
    return head


class Undisturbed:
    """Runs of the same lists in which nothing goes wrong, each made once."""

    def __init__(self, make_folder):
        self._make_folder = make_folder
        self._runs = {}

    def __call__(self, photos):
        """Return the outcome of so many photos, and how often each was asked for."""
        if photos not in self._runs:
            folder = self._make_folder(f"undisturbed-{photos}")
            with house(folder, world(photos), **impatient(lease_s=60)) as home:
                api.import_list(home.rooms, home.list_files(folder))
                for stage in ("resolve", "download"):
                    api.work(home.rooms, stage, on_progress=lambda *_: None)
                self._runs[photos] = outcome(home), asked(home)
        expected, calls = self._runs[photos]
        return dict(expected), calls


class Worker:
    """One worker process and its log."""

    def __init__(self, process, log):
        self.process = process
        self.log = log
        self.doomed = False

    @property
    def pid(self):
        return self.process.pid

    def alive(self):
        return self.process.poll() is None

    def signal(self, number):
        """Send a signal to the worker and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def kill(self):
        self.doomed = True
        self.signal(signal.SIGKILL)
        self.process.wait()


class Fleet:
    """Workers over one house; every one is ended with the fleet.

    `losses` counts threads that may have taken finished photos along: the bound on what may be
    asked for twice.
    """

    def __init__(self, home, folder, threads=2):
        self.home = home
        self.folder = folder
        # A Celery worker sweeps in one thread more.
        self.threads = threads + (home.rooms.settings.broker() is not None)
        self.workers = []
        self.kills = 0
        self.losses = 0
        self.random = random.Random(4)
        self._command = ("worker", "--queues", "io", "--concurrency", str(threads))
        kept = {name: value for name, value in os.environ.items() if not name.startswith("POPQ_")}
        self._environment = kept | home.settings()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for worker in self.workers:
            worker.kill()

    # Processes

    def start(self, count=1, command=None, **environment):
        """Start workers; `environment` are more variables of theirs."""
        for _ in range(count):
            log = self.folder / f"worker-{len(self.workers):03}.log"
            with log.open("w") as out:
                process = subprocess.Popen(
                    [*WITH_US, sys.executable, "-m", "popq", *(command or self._command)],
                    cwd=self.folder,
                    env=self._environment | environment,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                )
            self.workers.append(Worker(process, log))
        return self.workers[-1]

    def popq(self, *arguments):
        """Run a command to its end and return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "popq", *map(str, arguments)],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if done.returncode:
            pytest.fail(f"popq {' '.join(map(str, arguments))}: {done.stdout}{done.stderr}")
        return done.stdout

    def living(self):
        return [worker for worker in self.workers if worker.alive()]

    def busy(self):
        """Return the workers that hold a batch."""
        names = self.home.sql("SELECT worker FROM batches WHERE state = 'leased'")
        pids = {int(name.split(":")[1]) for (name,) in names if name}
        return [worker for worker in self.living() if worker.pid in pids]

    def kill_one(self, at_most=math.inf):
        """Kill a worker in the middle of a batch, if there is one, and start another instead.

        Not at once: workers that are killed as they claim would never get on.
        """
        if self.kills >= at_most:
            return
        with contextlib.suppress(PopqError):
            if self.busy():
                time.sleep(self.random.uniform(0.3, 1.3))
            busy = self.busy()
            if busy:
                self.random.choice(busy).kill()
                self.kills += 1
                self.losses += self.threads
                self.start()

    def freeze_one(self):
        """Freeze a worker in the middle of a batch until another has it and got on with it."""
        self.until(self.busy)
        victim = self.random.choice(self.busy())
        victim.signal(signal.SIGSTOP)
        settled = self.settled()
        # It may have stopped inside of a settle; then nobody gets the batch before it goes on.
        until = time.monotonic() + 10 * self.home.rooms.settings.lease_s
        # The next holder has finished again what the frozen one has in its hands.
        self.until(
            lambda: (
                (victim not in self.busy() and self.settled() > settled + UNSETTLED + 1)
                or time.monotonic() > until
            )
        )
        victim.signal(signal.SIGCONT)
        self.losses += self.threads

    def settled(self):
        """Return how many results the batches have counted."""
        return int(self._one("SELECT coalesce(sum(moved + exited), 0) FROM batches"))

    def lose_all(self):
        """Note that every thread may have lost what it had finished."""
        self.losses += self.threads * len(self.living())

    # The run

    def enqueue(self, stage, size=None):
        """Enqueue all of the stage's work, with bells; or, given a size of batches, without."""
        if size is None:
            self.popq(f"enqueue-{stage}")
            return
        with self.home.rooms.catalogue.begin() as tx:
            enqueuing.enqueue(tx, stage, size=size, requested_by="chaos")

    def resolve_here(self):
        """Resolve all photos in this process."""
        api.work(self.home.rooms, "resolve", on_progress=lambda *_: None)

    def job(self, stage):
        """Return the state of the stage's newest job; None when the catalogue does not answer."""
        newest = f"SELECT state FROM jobs WHERE stage = '{stage}' ORDER BY id DESC LIMIT 1"
        with contextlib.suppress(PopqError, DBAPIError):
            return self._one(newest)

    def count(self, table):
        """Return how many rows there are; 0 when the catalogue does not answer."""
        with contextlib.suppress(PopqError, DBAPIError):
            return self._one(f"SELECT count(*) FROM {table}")
        return 0

    def _one(self, query):
        rows = self.home.sql(query)
        return rows[0][0] if rows else None

    def finish(self, stage, act=None, **options):
        """Wait until the stage's job is done, acting every so often."""
        self.until(lambda: self.job(stage) == "done", act, **options)

    def work(self, act=None, *, size=None, **options):
        """Enqueue resolve and then download, and act every so often until each is done."""
        for stage in ("resolve", "download"):
            self.enqueue(stage, size)
            self.finish(stage, act, **options)

    def until(self, true, act=None, *, every_s=(0.1, 0.5), limit_s=None):
        """Act every so often until it is true; the limit only ends a run that has failed."""
        limit_s = limit_s or 240 + len(self.home.flickr.world.photos)
        until = time.monotonic() + limit_s
        next_act = time.monotonic() + self.random.uniform(*every_s)
        while not true():
            now = time.monotonic()
            if now > until:
                self.fail([f"not over after {limit_s} s"])
            died = [w for w in self.workers if not w.doomed and not w.alive()]
            if died:
                self.fail([f"{died[0].log.name} ended by itself: {died[0].process.returncode}"])
            if act is not None and now >= next_act:
                act()
                next_act = time.monotonic() + self.random.uniform(*every_s)
            time.sleep(0.05)

    # What came of it

    def check(self, undisturbed):
        """Fail if the run differs from the undisturbed one; return what was asked for again."""
        lines, again = self.differences(undisturbed)
        if lines:
            self.fail(lines)
        return again

    def differences(self, undisturbed):
        """Return how the run differs from the undisturbed one, and for how many photos a host
        was asked again.
        """
        expected, calls = undisturbed
        lines = differences(expected, outcome(self.home))
        again = asked_again(calls, asked(self.home))
        lost = self.log().count("lease lost")
        # Who loses a lease to another goes on until its next settle, so both take a window.
        # And before a corrupt photo ends, one that was served before is asked for: the newest then.
        bound = (self.losses + 2 * lost) * UNSETTLED + FATES.count(Fate.CORRUPT)
        if again > bound:
            lines.append(
                f"{again} photos were asked for again: more than {bound}, by {self.losses} threads"
                f" that died and {lost} lost leases"
            )
        return lines, again

    def log(self):
        return "".join(worker.log.read_text(errors="replace") for worker in self.workers)

    def fail(self, lines):
        """Fail with what is wrong and what the workers said last."""
        tails = []
        for worker in self.workers[-6:]:
            text = worker.log.read_text(errors="replace").splitlines()[-12:]
            tails += [f"--- {worker.log.name}", *(line[:300] for line in text)]
        pytest.fail("\n".join([*lines, f"kills: {self.kills}", *tails]), pytrace=False)
