"""What goes wrong at the fake Flickr, and when: by photo, by rate, by time, by key."""

from __future__ import annotations

import gzip
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from popq.flickr.fake import reply
from popq.flickr.fake.reply import HangUp, Reply


class Host(StrEnum):
    """Which of Flickr's two hosts a request is for."""

    API = "api"
    IMAGE = "image"


class Fault(StrEnum):
    """One way in which a request goes wrong; the last four keep the answer and spoil its way."""

    ERROR_500 = "500"
    ERROR_502 = "502"
    ERROR_504 = "504"
    RATE_LIMITED = "429"
    #: 200 for a code that means "later", as JSON whatever was asked for.
    CODE_105 = "code_105"
    CODE_201 = "code_201"
    CODE_0 = "code_0"
    #: Code 105 as text, as in older captures.
    CODE_STRING = "code_string"
    #: Code 201 in JSON with a comma too many, as recorded.
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
    #: The answer starts late, or stops for a while in its middle.
    SLOW = "slow"
    SLOW_BODY = "slow_body"
    #: The answer promises its length and ends half-way.
    CUT = "cut"
    #: The answer's gzip stream ends half-way.
    TRUNCATED_GZIP = "truncated_gzip"


_UNAVAILABLE = "Sorry, the Flickr API service is not currently available."
_BODIES = {
    Fault.CODE_105: '{"stat":"fail","code":105,"message":"Service currently unavailable"}',
    Fault.CODE_201: f'{{"stat":"fail","code":201,"message":"{_UNAVAILABLE}"}}',
    Fault.CODE_0: f'{{"stat":"fail","code":0,"message":"{_UNAVAILABLE}"}}',
    Fault.CODE_STRING: '{"stat":"fail","code":"105","message":"Service currently unavailable"}',
    Fault.TRAILING_COMMA: f'{{"stat":"fail","message":"{_UNAVAILABLE}","code":201,}}',
    Fault.EMPTY: "",
}
_HANG_UPS = {Fault.RESET: HangUp.RESET, Fault.CLOSE: HangUp.CLOSE}
_PAGES = {
    Fault.ERROR_500: (500, "Internal Server Error"),
    Fault.ERROR_502: (502, "Bad Gateway"),
    Fault.ERROR_504: (504, "Gateway Time-out"),
    Fault.FORBIDDEN: (403, "Forbidden"),
}


@dataclass(frozen=True, slots=True)
class Trouble:
    """One fault as it strikes one request; `retry_after_s` goes with 429, `slow_s` with slow."""

    fault: Fault
    slow_s: float = 0.0
    retry_after_s: int | None = None

    def spoil(self, answer: Callable[[], Reply]) -> Reply:
        """Return what goes out instead of `answer`, which is worked out only if needed."""
        if self.fault in _HANG_UPS:
            return Reply(0, (), b"", hang_up=_HANG_UPS[self.fault])
        if self.fault in _PAGES:
            return reply.broken(*_PAGES[self.fault])
        if self.fault in _BODIES:
            return Reply(200, (("Content-Type", "text/plain"),), _BODIES[self.fault].encode())
        if self.fault is Fault.RATE_LIMITED:
            return reply.throttled(self.retry_after_s)
        if self.fault is Fault.HTML_200:
            return reply.web_page()
        return self._spoil_way(answer())

    def _spoil_way(self, good: Reply) -> Reply:
        match self.fault:
            case Fault.CUT:
                return replace(good, chunked=False, cut_at=len(good.body) // 2)
            case Fault.TRUNCATED_GZIP:
                packed = gzip.compress(good.body)
                headers = (*good.headers, ("Content-Encoding", "gzip"))
                return replace(good, headers=headers, body=packed[: len(packed) // 2])
        return replace(good, pause_s=self.slow_s, pause_inside=self.fault is Fault.SLOW_BODY)


@dataclass(frozen=True, slots=True)
class _Budget:
    calls: int
    window_s: float
    retry_after_s: int | None


@dataclass(slots=True)
class _Throttle:
    seconds: float
    calls_left: int  # requests still served before it begins
    retry_after_s: int | None
    until: float | None = None  # monotonic; None before it begins


class Faults:
    """The script of a run; every method may be called while the server works."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_photo: dict[tuple[Host, int], deque[Trouble]] = {}
        self._budgets: dict[Host, _Budget] = {}
        self._spent: dict[tuple[Host, str], deque[float]] = {}
        self._throttles: dict[Host, _Throttle] = {}
        self._disabled: set[str] = set()

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

        `slow_s` is the pause in seconds of `Fault.SLOW` and `Fault.SLOW_BODY`.
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
        with self._lock:
            self._budgets[host] = _Budget(calls, window_s, retry_after_s)

    def throttle_for(
        self,
        seconds: float,
        *,
        host: Host = Host.API,
        after_calls: int = 0,
        retry_after_s: int | None = None,
    ) -> None:
        """Answer 429 to everyone for `seconds`, from now or after `after_calls` more requests."""
        with self._lock:
            self._throttles[host] = _Throttle(
                seconds,
                after_calls,
                retry_after_s,
                until=None if after_calls else time.monotonic() + seconds,
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

    def strike(self, host: Host, who: str, flickr_id: int | None) -> Trouble | None:
        """Return what goes wrong with the request that has just come in; None for nothing.

        `who` is the key at the API, the client's address at the image host.
        """
        with self._lock:
            now = time.monotonic()
            limited = self._throttled(host, now) or self._over_budget(host, who, now)
            if limited is not None:
                return limited
            script = self._by_photo.get((host, -1 if flickr_id is None else flickr_id))
            return script.popleft() if script else None

    def _throttled(self, host: Host, now: float) -> Trouble | None:
        throttle = self._throttles.get(host)
        if throttle is None:
            return None
        if throttle.until is None:
            throttle.calls_left -= 1
            if throttle.calls_left >= 0:
                return None
            throttle.until = now + throttle.seconds
        if now >= throttle.until:
            del self._throttles[host]
            return None
        return Trouble(Fault.RATE_LIMITED, retry_after_s=throttle.retry_after_s)

    def _over_budget(self, host: Host, who: str, now: float) -> Trouble | None:
        budget = self._budgets.get(host)
        if budget is None:
            return None
        spent = self._spent.setdefault((host, who), deque())
        while spent and spent[0] <= now - budget.window_s:
            spent.popleft()
        if len(spent) >= budget.calls:
            return Trouble(Fault.RATE_LIMITED, retry_after_s=budget.retry_after_s)
        spent.append(now)
        return None
