"""A crew: what the threads of one process share while they work batches."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from popq.stages.alone import Alone
from popq.stages.hands import Hands


@dataclass
class Crew:
    """One worker process: its name, its signal to stop, and what its threads hold together."""

    worker: str
    stop: threading.Event = field(default_factory=threading.Event)
    hands: Hands = field(default_factory=Hands)
    alone: Alone = field(default_factory=Alone)
