"""Progress on stderr: how far it is, how fast, how long it has taken and how long it will.

Every command that may last over two seconds does its work in a `progress` block. What it can count
is told as `resolve: 40 of 300, 2.1/s, 2 min left`, what it cannot as `Exporting: 7 s`. On a
terminal that is one line, written over; elsewhere a line every few seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from popq import logs
from popq.cli.show import duration
from popq.cli.voice import LINE, VOICE

#: What takes longer than so many seconds says that it is still at work.
PATIENCE_S: Final = 2.0
#: Seconds between two lines where they are written over, and where they are not.
OVER_S: Final = 0.1
QUIET_S: Final = 5.0
#: Seconds between two looks whether it is time to say that it is still at work.
BEAT_S: Final = 0.5
#: A rate is not told before so many seconds.
RATE_S: Final = 1.0


class Ticker:
    """Is told how far a command is, and says so; `what` it does, where it is told nothing."""

    def __init__(self, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self._what = what
        self._clock = clock
        self._lock = threading.Lock()
        self._finished: str | None = None
        self._told = self._counted = False
        self._turn_to(what, 0)

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Tell that `done` of `total` is done in a phase; total 0 when that is not known."""
        over = 0 < total <= done
        if VOICE.quiet or (over and phase == self._finished):
            return
        with self._lock:
            if phase != self._phase or not self._told:
                LINE.keep()
                self._turn_to(phase, done)
                self._told = True
            self._counted = bool(done or total)
            # That it is whole is said at once, and once.
            if over or not self._is_early():
                self._say(self._line(done, total))
            self._finished = phase if over else None

    def beat(self) -> None:
        """Say for how long something without parts to count goes on, if it is time to."""
        with self._lock:
            now = self._clock()
            if self._phase == self._finished and now - self._spoke >= PATIENCE_S:
                LINE.keep()
                self._turn_to(self._what, 0)
            patient = self._counted or now - self._began < PATIENCE_S
            if not (VOICE.quiet or patient or self._is_early()):
                self._say(self._line(0, 0))

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Say nothing in this block, in which a person is asked something."""
        with self._lock:
            LINE.wipe()
            yield
            self._turn_to(self._what, 0)

    def _turn_to(self, phase: str, done: int) -> None:
        """Begin a phase, of which `done` was done before (by an earlier command, say)."""
        self._phase, self._before = phase, done
        self._began, self._spoke = self._clock(), float("-inf")
        self._told = self._counted = False

    def _is_early(self) -> bool:
        return self._clock() - self._spoke < (OVER_S if LINE.over else QUIET_S)

    def _line(self, done: int, total: int) -> str:
        since, seconds = done - self._before, self._clock() - self._began
        if not self._counted:
            return self._phase + (f": {duration(seconds)}" if seconds >= PATIENCE_S else "")
        line = f"{self._phase}: {done:,}" + (f" of {total:,}" if total else "")
        if since > 0 and seconds > RATE_S and (not total or done < total):
            line += f", {since / seconds:,.1f}/s"
            line += f", {duration((total - done) * seconds / since)} left" if total else ""
        return line

    def _say(self, line: str) -> None:
        self._spoke = self._clock()
        LINE.put(line)


@contextmanager
def progress(what: str) -> Iterator[Ticker]:
    """Give a block that may last a ticker, and let it say that it is still at work."""
    ended, ticker = threading.Event(), Ticker(what)

    def beat() -> None:
        while not ended.wait(BEAT_S):
            ticker.beat()

    teller = threading.Thread(target=beat, name="progress", daemon=True)
    teller.start()
    try:
        with logs.wiping(LINE.wipe):
            yield ticker
    finally:
        ended.set()
        teller.join()
        LINE.keep()
