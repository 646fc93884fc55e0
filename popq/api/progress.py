"""How callers of the long calls are told of progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

#: Told of progress: the stage or phase, how much is done, and of how much.
OnProgress = Callable[[str, int, int], None]
#: Seconds between two looks at what is followed.
FOLLOW_S: Final = 0.5
