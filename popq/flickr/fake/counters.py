"""What clients did to the fake Flickr, counted, so that a test can assert good manners.

Memory is bounded by `Limits`, about 300 MB if all are reached; totals stay right beyond them.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypedDict

from popq.flickr.fake.faults import Host, Request

OTHERS = "(others)"


class Limits(NamedTuple):
    """How much is remembered.

    `times` of each key or address, the oldest forgotten; `pairs` of photo and kind, later ones not
    counted one by one; `nonces`, the oldest forgotten; `names` of keys and addresses, of kinds and
    of User-Agents, later ones counted as "(others)".
    """

    times: int = 500_000
    pairs: int = 1_000_000
    nonces: int = 250_000
    names: int = 1_000


class Kind(TypedDict):
    """What was asked for in one way: requests, different photos, and the most for one photo."""

    requests: int
    photos: int
    most_per_photo: int


class Counts(TypedDict):
    """All counts since the start or the last reset; every key is text as JSON has it.

    Seconds are Unix seconds. `statuses` counts answers by host and HTTP status ("0" for a
    connection hung up on purpose). Kinds are the API's methods, `size z` and so on, and `oembed`.
    `most_in_window` is the most requests of one key or address in any `window_s` seconds, and
    `bytes` are those of bodies.
    """

    seconds: float
    window_s: float
    most_in_window: dict[str, dict[str, int]]
    requests: dict[str, int]
    bytes: dict[str, int]
    statuses: dict[str, dict[str, int]]
    max_concurrency: dict[str, int]
    duplicate_nonces: int
    user_agents: dict[str, int]
    kinds: dict[str, Kind]
    calls_per_key_and_second: dict[str, dict[str, int]]
    images_per_second: dict[str, int]
    api_calls_per_photo: dict[str, int]
    image_calls_per_photo: dict[str, int]
    calls_per_photo: dict[str, dict[str, int]]


class Counters:
    """Thread-safe counts; lives as long as its server."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = Limits() if limits is None else limits
        self._lock = threading.Lock()
        self._running: Counter[Host] = Counter()
        self._clear()

    def _clear(self) -> None:
        self._began = time.monotonic()
        self._began_at = time.time()
        self._times: dict[tuple[Host, str], array[float]] = {}
        self._photos: dict[str, Counter[int]] = {}
        self._pairs = 0
        self._per_photo: dict[Host, Counter[int]] = {host: Counter() for host in Host}
        self._kinds: Counter[str] = Counter()
        self._requests: Counter[Host] = Counter()
        self._statuses: dict[Host, Counter[int]] = {host: Counter() for host in Host}
        self._bytes: Counter[Host] = Counter()
        self._peak: Counter[Host] = Counter(self._running)
        self._nonces: OrderedDict[str, None] = OrderedDict()
        self._duplicate_nonces = 0
        self._user_agents: Counter[str] = Counter()

    def reset(self) -> None:
        """Forget all but the requests that are under way."""
        with self._lock:
            self._clear()

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

    def request(self, request: Request, user_agent: str, nonce: str | None) -> bool:
        """Count one request as it comes in; True if its nonce was seen before."""
        with self._lock:
            # One clock that never jumps, so that windows are right.
            now = self._began_at + time.monotonic() - self._began
            self._requests[request.host] += 1
            who = (request.host, request.who)
            if who not in self._times and len(self._times) >= self._limits.names:
                who = (request.host, OTHERS)
            times = self._times.setdefault(who, array("d"))
            times.append(now)
            if len(times) > self._limits.times:
                del times[: self._limits.times // 10 + 1]
            self._kinds[self._name(self._kinds, request.kind)] += 1
            self._user_agents[self._name(self._user_agents, user_agent)] += 1
            if request.flickr_id is not None:
                self._count_photo(request, request.flickr_id)
            return nonce is not None and self._seen_before(nonce)

    def _count_photo(self, request: Request, flickr_id: int) -> None:
        kind = request.kind if request.kind in self._kinds else OTHERS
        photos = self._photos.setdefault(kind, Counter())
        if flickr_id not in photos:
            if self._pairs >= self._limits.pairs:
                return
            self._pairs += 1
        photos[flickr_id] += 1
        self._per_photo[request.host][flickr_id] += 1

    def _name(self, known: Counter[str], name: str) -> str:
        return name if name in known or len(known) < self._limits.names else OTHERS

    def _seen_before(self, nonce: str) -> bool:
        seen = nonce in self._nonces
        self._duplicate_nonces += seen
        self._nonces[nonce] = None
        if len(self._nonces) > self._limits.nonces:
            self._nonces.popitem(last=False)
        return seen

    def answered(self, host: Host, status: int, size: int) -> None:
        """Count one answer by its HTTP status and the bytes of its body."""
        with self._lock:
            self._statuses[host][status] += 1
            self._bytes[host] += size

    def snapshot(self, window_s: float = 3600.0) -> Counts:
        """Return all counts so far; `window_s` is the length of `most_in_window`, in seconds."""
        with self._lock:
            images: Counter[int] = Counter()
            for (host, _), times in self._times.items():
                if host is Host.IMAGE:
                    images.update(map(int, times))
            return {
                "seconds": round(time.monotonic() - self._began, 3),
                "window_s": window_s,
                "most_in_window": {
                    host.value: {
                        who: most_in_window(times, window_s)
                        for (its, who), times in self._times.items()
                        if its is host
                    }
                    for host in Host
                },
                "requests": _by_host(self._requests),
                "bytes": _by_host(self._bytes),
                "statuses": {host.value: _texts(self._statuses[host]) for host in Host},
                "max_concurrency": _by_host(self._peak),
                "duplicate_nonces": self._duplicate_nonces,
                "user_agents": dict(self._user_agents),
                "kinds": {
                    kind: _kind(requests, self._photos.get(kind, Counter()))
                    for kind, requests in self._kinds.items()
                },
                "calls_per_key_and_second": {
                    who: _texts(Counter(map(int, times)))
                    for (host, who), times in self._times.items()
                    if host is Host.API
                },
                "images_per_second": _texts(images),
                "api_calls_per_photo": _texts(self._per_photo[Host.API]),
                "image_calls_per_photo": _texts(self._per_photo[Host.IMAGE]),
                "calls_per_photo": {kind: _texts(photos) for kind, photos in self._photos.items()},
            }


def most_in_window(times: Sequence[float], window_s: float) -> int:
    """Return the most of these ascending times that any half-open window of that length holds."""
    most = first = 0
    for last, moment in enumerate(times):
        while moment - times[first] >= window_s:
            first += 1
        most = max(most, last - first + 1)
    return most


def _kind(requests: int, photos: Counter[int]) -> Kind:
    most = max(photos.values(), default=0)
    return {"requests": requests, "photos": len(photos), "most_per_photo": most}


def _by_host(counter: Counter[Host]) -> dict[str, int]:
    return {host.value: counter[host] for host in Host}


def _texts(counter: Counter[int]) -> dict[str, int]:
    return {str(key): count for key, count in counter.items()}
