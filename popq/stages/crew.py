"""A crew: what the threads of one process share while they work batches."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, field
from typing import Final

from popq.stages.alone import Alone
from popq.stages.hands import Hands
from popq.stages.lookout import Lookout
from popq.stages.streak import Streak

#: For so long at most a process goes on from batch to batch without a look at all of a job's.
SEARCH_S: Final = 2.0


@dataclass
class Crew:
    """One worker process: its name, its signal to stop, and what its threads hold together."""

    worker: str
    stop: threading.Event = field(default_factory=threading.Event)
    hands: Hands = field(default_factory=Hands)
    alone: Alone = field(default_factory=Alone)
    lookout: Lookout = field(default_factory=Lookout)
    _streaks: dict[str, Streak] = field(default_factory=dict)
    #: Of each job: the batch that was claimed last, and when all were last looked through.
    _reached: dict[int, tuple[int, float]] = field(default_factory=dict)

    def streak(self, stage: str) -> Streak:
        """Return the streak of photos that failed in the stage."""
        return self._streaks.setdefault(stage, Streak())

    def behind(self, job: int) -> int | None:
        """Return the batch of the job to look behind first, None when it is time to look at all.

        Of all, the one that has been due for longest is the first: lost leases and retries are
        not put off by what turns up behind.
        """
        batch, since = self._reached.get(job, (0, -math.inf))
        return batch if time.monotonic() - since < SEARCH_S else None

    def reached(self, job: int, batch: int | None) -> None:
        """Note the batch of the job that was claimed, or that there was none."""
        now = time.monotonic()
        if batch is None:
            self._reached.pop(job, None)
        elif self.behind(job) is None:
            self._reached[job] = batch, now
        else:
            self._reached[job] = batch, self._reached[job][1]
