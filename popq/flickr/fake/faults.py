"""What goes wrong at the fake Flickr, and when: by photo, by time, by rate, by key.

A `Rule` says which requests it is about, when it is in force and how it strikes; `Faults` holds the
rules of a run in their order, and what single photos have before them. Times of a rule count from
when it came into force: from the server's start, or from when it was added to a running server.
"""

from __future__ import annotations

import gzip
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple, Protocol

from popq.flickr.fake import reply
from popq.flickr.fake.reply import Fail, HangUp, Pause, Reply


class Host(StrEnum):
    """Which of Flickr's hosts a request is for."""

    API = "api"
    IMAGE = "image"
    #: www.flickr.com, of which only oEmbed is served.
    WWW = "www"


class Fault(StrEnum):
    """One way in which a request goes wrong; from `SLOW` on, the answer is kept and spoilt."""

    ERROR_500 = "500"
    ERROR_502 = "502"
    ERROR_504 = "504"
    RATE_LIMITED = "429"
    #: HTTP 200 for a code that means "later".
    CODE_105 = "code_105"
    CODE_201 = "code_201"
    CODE_0 = "code_0"
    #: Code 105 as text, as in older captures.
    CODE_STRING = "code_string"
    #: Code 100: Flickr has turned the key off.
    KEY_EXPIRED = "key_expired"
    #: Code 201 as JSON whatever was asked for, message first, with a comma too many: as recorded.
    TRAILING_COMMA = "trailing_comma"
    #: 200 with a web page.
    HTML_200 = "html_200"
    #: 200 with nothing.
    EMPTY = "empty"
    #: 403, as originals have for a few seconds after their upload.
    FORBIDDEN = "forbidden"
    #: The connection is reset, or closed, without an answer.
    RESET = "reset"
    CLOSE = "close"
    #: The answer starts late, stops before each header, stops once in its middle, or drips.
    SLOW = "slow"
    SLOW_HEADERS = "slow_headers"
    SLOW_BODY = "slow_body"
    DRIP = "drip"
    #: The answer promises its length and ends half-way; or is chunked and ends without an end.
    CUT = "cut"
    CUT_CHUNKED = "cut_chunked"
    #: The answer states half of its length, so that half of it is lost.
    SHORT_LENGTH = "short_length"
    #: The answer's gzip stream ends half-way.
    TRUNCATED_GZIP = "truncated_gzip"


_UNAVAILABLE = "Sorry, the Flickr API service is not currently available."
#: Messages of code 100.
EXPIRED_KEY = "Invalid API Key (Key has expired)"
_CODES = {
    Fault.CODE_105: Fail(105, "Service currently unavailable"),
    Fault.CODE_201: Fail(201, _UNAVAILABLE),
    Fault.CODE_0: Fail(0, _UNAVAILABLE),
    Fault.CODE_STRING: Fail("105", "Service currently unavailable"),
    Fault.KEY_EXPIRED: Fail(100, EXPIRED_KEY),
}
_TEXT = (("Content-Type", "text/plain"),)
_COMMA = f'{{"message":"{_UNAVAILABLE}","stat":"fail","code":201,}}'
_READY = {
    Fault.ERROR_500: reply.broken(500, "Internal Server Error"),
    Fault.ERROR_502: reply.broken(502, "Bad Gateway"),
    Fault.ERROR_504: reply.broken(504, "Gateway Time-out"),
    Fault.FORBIDDEN: reply.broken(403, "Forbidden"),
    Fault.TRAILING_COMMA: Reply(200, _TEXT, _COMMA.encode()),
    Fault.EMPTY: Reply(200, _TEXT, b""),
    Fault.HTML_200: reply.web_page(),
    Fault.RESET: Reply(0, (), b"", hang_up=HangUp.RESET),
    Fault.CLOSE: Reply(0, (), b"", hang_up=HangUp.CLOSE),
}
_PAUSES = {
    Fault.SLOW: Pause.FIRST,
    Fault.SLOW_HEADERS: Pause.HEADERS,
    Fault.SLOW_BODY: Pause.MIDDLE,
    Fault.DRIP: Pause.DRIP,
}


class Answerer(Protocol):
    """Works out the good answer to a request, or the host's way to say what failed."""

    def __call__(self, fail: Fail | None = None) -> Reply:
        """Answer; with `fail` as the host says that."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """One fault as it strikes one request; `retry_after_s` goes with 429, `slow_s` with slow."""

    fault: Fault
    slow_s: float = 1.0
    retry_after_s: int | None = None

    def spoil(self, answer: Answerer) -> Reply:
        """Return what goes out instead of `answer()`, which is worked out only if needed."""
        if self.fault in _READY:
            return _READY[self.fault]
        if self.fault in _CODES:
            return answer(_CODES[self.fault])
        if self.fault is Fault.RATE_LIMITED:
            return reply.throttled(self.retry_after_s)
        return self._spoil_way(answer())

    def _spoil_way(self, good: Reply) -> Reply:
        half = len(good.body) // 2
        match self.fault:
            case Fault.CUT:
                return replace(good, chunked=False, cut_at=half)
            case Fault.CUT_CHUNKED:
                return replace(good, chunked=True, cut_at=half)
            case Fault.SHORT_LENGTH:
                return replace(good, chunked=False, stated_length=half)
            case Fault.TRUNCATED_GZIP:
                packed = gzip.compress(good.body)
                headers = (*good.headers, ("Content-Encoding", "gzip"))
                return replace(good, headers=headers, body=packed[: len(packed) // 2])
        return replace(good, pause_s=self.slow_s, pause=_PAUSES[self.fault])


class Request(NamedTuple):
    """What a rule knows of a request.

    `who` is the API key, or the client's address at the other hosts; `kind` the API's method, or
    `size z`, or `oembed`.
    """

    host: Host
    who: str
    kind: str
    flickr_id: int | None


@dataclass(slots=True, kw_only=True)
class Rule:
    """Which requests go wrong, when and how; what is left out does not limit.

    Which: of `host`, for one of `photos`, by one of `keys` (or addresses), of one of `kinds`.
    When: `from_s` to `to_s` seconds after it came into force; from the `from_call`-th to the
    `to_call`-th of those requests, counted from 1; `lasts_s` seconds after its first strike. How
    often: every `every`-th of them, `times` altogether. With `budget`, only the requests of one
    key (or address) beyond `budget` served in `window_s`, and all of its requests for `lasts_s`
    once that happened. Faults strike in turn.
    """

    faults: tuple[Fault, ...]
    name: str = ""
    host: Host = Host.API
    photos: frozenset[int] | None = None
    keys: frozenset[str] | None = None
    kinds: frozenset[str] | None = None
    from_s: float = 0.0
    to_s: float | None = None
    from_call: int = 1
    to_call: int | None = None
    every: int = 1
    times: int | None = None
    budget: int | None = None
    window_s: float = 3600.0
    lasts_s: float | None = None
    slow_s: float = 1.0
    retry_after_s: int | None = None
    since: float = 0.0
    calls: int = 0
    strikes: int = 0
    _until: dict[str, float] = field(default_factory=dict)
    _served: dict[str, deque[float]] = field(default_factory=dict)

    def begin(self, now: float) -> None:
        """Come into force anew."""
        self.since, self.calls, self.strikes = now, 0, 0
        self._until.clear()
        self._served.clear()

    def strike(self, request: Request, now: float, *, struck: bool) -> Trouble | None:
        """Count a request, and return what it meets; `struck` if another rule was first."""
        if not self._is_about(request):
            return None
        self.calls += 1
        if struck or not self._in_force(request, now):
            return None
        fault = self.faults[self.strikes % len(self.faults)]
        self.strikes += 1
        return Trouble(fault, slow_s=self.slow_s, retry_after_s=self.retry_after_s)

    def _is_about(self, request: Request) -> bool:
        return (
            request.host is self.host
            and (self.photos is None or request.flickr_id in self.photos)
            and (self.keys is None or request.who in self.keys)
            and (self.kinds is None or request.kind in self.kinds)
        )

    def _in_force(self, request: Request, now: float) -> bool:
        since_s = now - self.since
        if (
            since_s < self.from_s
            or (self.to_s is not None and since_s >= self.to_s)
            or self.calls < self.from_call
            or (self.to_call is not None and self.calls > self.to_call)
            or (self.calls - self.from_call + 1) % self.every
            or (self.times is not None and self.strikes >= self.times)
        ):
            return False
        if self.budget is not None:
            return self._over_budget(request.who, now, self.budget)
        return self.lasts_s is None or now < self._until.setdefault("", now + self.lasts_s)

    def _over_budget(self, who: str, now: float, budget: int) -> bool:
        if now < self._until.get(who, now):
            return True
        served = self._served.setdefault(who, deque())
        while served and served[0] <= now - self.window_s:
            served.popleft()
        if len(served) < budget:
            served.append(now)
            return False
        if self.lasts_s is not None:
            self._until[who] = now + self.lasts_s
            served.clear()
        return True


class Faults:
    """The script of a run; every method may be called while the server works.

    `clock` gives seconds that never jump.
    """

    def __init__(
        self, rules: Iterable[Rule] = (), *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._rules: dict[str, Rule] = {}
        self._by_photo: dict[tuple[Host, int], deque[Trouble]] = {}
        self._disabled: set[str] = set()
        for rule in rules:
            self.add(rule)

    def add(self, rule: Rule) -> None:
        """Put a rule in force, after those there; it replaces one of its name."""
        with self._lock:
            rule.name = rule.name or f"rule {next(self._numbers)}"
            rule.begin(self._clock())
            self._rules[rule.name] = rule

    def remove(self, name: str) -> bool:
        """Take a rule out of force; False if there is none of that name."""
        with self._lock:
            return self._rules.pop(name, None) is not None

    def clear(self) -> None:
        """Let nothing go wrong any more."""
        with self._lock:
            self._rules.clear()
            self._by_photo.clear()
            self._disabled.clear()

    def begin(self) -> None:
        """Let the times of all rules count from now; the server does that when it starts."""
        with self._lock:
            now = self._clock()
            for rule in self._rules.values():
                rule.begin(now)

    def rule(self, name: str) -> Rule | None:
        """Return the rule of a name."""
        with self._lock:
            return self._rules.get(name)

    def rules(self) -> list[tuple[str, int, int]]:
        """Name of each rule in their order, the requests that it saw and those that it struck."""
        with self._lock:
            return [(rule.name, rule.calls, rule.strikes) for rule in self._rules.values()]

    def fail_photo(
        self,
        flickr_id: int,
        fault: Fault,
        *,
        times: int = 1,
        host: Host = Host.API,
        slow_s: float = 1.0,
    ) -> None:
        """Let the next `times` requests for a photo go wrong, after those already scripted.

        `slow_s` is the pause in seconds of the slow faults.
        """
        with self._lock:
            script = self._by_photo.setdefault((host, flickr_id), deque())
            script.extend([Trouble(fault, slow_s=slow_s)] * times)

    def budget(
        self,
        calls: int,
        *,
        window_s: float,
        host: Host = Host.API,
        retry_after_s: int | None = None,
    ) -> None:
        """Answer 429 to a key (API) or address (images) with `calls` served in `window_s`."""
        self.add(
            Rule(
                faults=(Fault.RATE_LIMITED,),
                name=f"budget of {host}",
                host=host,
                budget=calls,
                window_s=window_s,
                retry_after_s=retry_after_s,
            )
        )

    def throttle_for(
        self,
        seconds: float,
        *,
        host: Host = Host.API,
        after_calls: int = 0,
        retry_after_s: int | None = None,
    ) -> None:
        """Answer 429 to everyone for `seconds`, from now or after `after_calls` more requests."""
        self.add(
            Rule(
                faults=(Fault.RATE_LIMITED,),
                name=f"throttle of {host}",
                host=host,
                from_call=after_calls + 1,
                to_s=None if after_calls else seconds,
                lasts_s=seconds if after_calls else None,
                retry_after_s=retry_after_s,
            )
        )

    def disable_key(self, key: str) -> None:
        """Let every call with `key` fail with code 100, "Key has expired"."""
        with self._lock:
            self._disabled.add(key)

    def enable_key(self, key: str) -> None:
        """Take `disable_key` back."""
        with self._lock:
            self._disabled.discard(key)

    def is_disabled(self, key: str) -> bool:
        """Whether `disable_key` was called for `key`."""
        with self._lock:
            return key in self._disabled

    def strike(self, request: Request) -> Trouble | None:
        """Return what goes wrong with the request that has just come in; None for nothing."""
        with self._lock:
            now = self._clock()
            trouble: Trouble | None = None
            for rule in self._rules.values():
                met = rule.strike(request, now, struck=trouble is not None)
                trouble = trouble or met
            if trouble is not None:
                return trouble
            script = self._by_photo.get(
                (request.host, -1 if request.flickr_id is None else request.flickr_id)
            )
            return script.popleft() if script else None
