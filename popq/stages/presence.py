"""Presence: a worker says that it is there, and that it leaves."""

from __future__ import annotations

import threading
from typing import Self

import structlog

from popq.catalogue import workers
from popq.catalogue.db import Catalogue
from popq.errors import PopqError

log = structlog.get_logger()


class Presence:
    """Keeps the worker's row in the catalogue fresh for the length of the block.

    In a thread of its own, since those that work are busy for minutes. A database that is away
    stops nobody: the row grows old, and that is the truth.
    """

    def __init__(self, catalogue: Catalogue, name: str, queue: str, threads: int) -> None:
        self._catalogue = catalogue
        self._row = (name, queue, threads)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="presence", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        try:
            with self._catalogue.begin() as tx:
                workers.leave(tx, self._row[0])
        except PopqError as error:
            log.warning("the worker's row stays behind", why=str(error))

    def _beat(self) -> None:
        while True:
            try:
                with self._catalogue.begin() as tx:
                    workers.beat(tx, *self._row)
                    workers.forget(tx, workers.FORGET_S)
            except PopqError as error:
                log.warning("the worker cannot say that it is there", why=str(error))
            if self._over.wait(workers.BEAT_S):
                return
