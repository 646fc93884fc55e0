"""A crew: what the threads of one process share while they work batches."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from popq.stages.alone import Alone
from popq.stages.hands import Hands
from popq.stages.lookout import Lookout
from popq.stages.streak import Streak


@dataclass
class Crew:
    """One worker process: its name, its signal to stop, and what its threads hold together."""

    worker: str
    stop: threading.Event = field(default_factory=threading.Event)
    hands: Hands = field(default_factory=Hands)
    alone: Alone = field(default_factory=Alone)
    lookout: Lookout = field(default_factory=Lookout)
    _streaks: dict[str, Streak] = field(default_factory=dict)

    def streak(self, stage: str) -> Streak:
        """Return the streak of photos that failed in the stage."""
        return self._streaks.setdefault(stage, Streak())
