"""What clients did to the fake Flickr, counted, so that a test can assert good manners."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypedDict

from popq.flickr.fake.faults import Host


class Counts(TypedDict):
    """All counts so far; seconds are Unix seconds, and every key is text as JSON has it.

    `statuses` counts answers by host and HTTP status ("0" for a connection hung up on purpose).
    """

    calls_per_key_and_second: dict[str, dict[str, int]]
    images_per_second: dict[str, int]
    api_calls_per_photo: dict[str, int]
    image_calls_per_photo: dict[str, int]
    statuses: dict[str, dict[str, int]]
    max_concurrency: dict[str, int]
    duplicate_nonces: int
    user_agents: dict[str, int]


class Counters:
    """Thread-safe counts; lives as long as its server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key_seconds: dict[str, Counter[int]] = {}
        self._image_seconds: Counter[int] = Counter()
        self._photos: dict[Host, Counter[int]] = {host: Counter() for host in Host}
        self._statuses: dict[Host, Counter[int]] = {host: Counter() for host in Host}
        self._running: Counter[Host] = Counter()
        self._peak: Counter[Host] = Counter()
        self._nonces: set[str] = set()
        self._duplicate_nonces = 0
        self._user_agents: Counter[str] = Counter()

    @contextmanager
    def running(self, host: Host) -> Iterator[None]:
        """Count one request as under way."""
        with self._lock:
            self._running[host] += 1
            self._peak[host] = max(self._peak[host], self._running[host])
        try:
            yield
        finally:
            with self._lock:
                self._running[host] -= 1

    def request(
        self, host: Host, who: str, flickr_id: int | None, user_agent: str, nonce: str | None
    ) -> None:
        """Count one request as it comes in; `who` is the API key."""
        second = int(time.time())
        with self._lock:
            if host is Host.API:
                self._key_seconds.setdefault(who, Counter())[second] += 1
            else:
                self._image_seconds[second] += 1
            if flickr_id is not None:
                self._photos[host][flickr_id] += 1
            self._user_agents[user_agent] += 1
            if nonce is not None:
                self._duplicate_nonces += nonce in self._nonces
                self._nonces.add(nonce)

    def answered(self, host: Host, status: int) -> None:
        """Count one answer by its HTTP status."""
        with self._lock:
            self._statuses[host][status] += 1

    def snapshot(self) -> Counts:
        """Return all counts so far."""
        with self._lock:
            return {
                "calls_per_key_and_second": {
                    key: _texts(seconds) for key, seconds in self._key_seconds.items()
                },
                "images_per_second": _texts(self._image_seconds),
                "api_calls_per_photo": _texts(self._photos[Host.API]),
                "image_calls_per_photo": _texts(self._photos[Host.IMAGE]),
                "statuses": {host.value: _texts(self._statuses[host]) for host in Host},
                "max_concurrency": {host.value: self._peak[host] for host in Host},
                "duplicate_nonces": self._duplicate_nonces,
                "user_agents": dict(self._user_agents),
            }


def _texts(counter: Counter[int]) -> dict[str, int]:
    return {str(key): count for key, count in counter.items()}
