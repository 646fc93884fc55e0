"""Verdicts on photos of a host that may itself be at fault: held back until it proves itself.

The host does so by what it gives of another photo, or when a stage asks a witness (see
`images/doubt`); a witness that it refuses, too, ends the work with nothing marked.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator

from popq.catalogue.batches import Move
from popq.errors import Throttled
from popq.images.doubt import Doubt
from popq.stages.ledger import Result
from popq.stages.permits import OutOfPermits, Permits


def hold(
    results: Iterator[Result],
    doubtful: Callable[[Move], bool],
    doubt: Doubt,
    permits: Permits,
    ask: Callable[[str], None],
    *,
    drop_if_throttled: bool,
) -> Generator[Result]:
    """Yield the results; moves that are `doubtful` only once `doubt` counts no refusals.

    `ask` is given what the host said last. It is called when the host has refused too many in a
    row, and before what is held is let go in the end: it raises what must be done if the host is
    not to be believed. With `drop_if_throttled` moves that are held when the host wants a rest are
    dropped, so that their photos are asked for again; without, only if they are too many.
    """
    held: list[Move] = []
    try:
        for result in results:
            if isinstance(result, Move) and doubtful(result):
                held.append(result)
                permits.heard = True  # a host that says no is not down
                if doubt.refused():
                    ask(_said(result))
            else:
                yield result
            if not doubt.refusals:
                yield from held
                held.clear()
    except OutOfPermits:
        # A stretch of dead photos must end at any rate.
        if held:
            ask(_said(held[-1]))
        yield from held
        raise
    except Throttled:
        if not drop_if_throttled and not doubt.too_many:
            yield from held
        raise
    if held:
        ask(_said(held[-1]))
    yield from held


def _said(move: Move) -> str:
    return move.note.message if move.note is not None else "no answer"
