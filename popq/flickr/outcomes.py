"""What Flickr's failures mean: one table from API codes and HTTP statuses to popq's errors.

Sources: flickr.com/services/api (each method's error codes) and recorded answers, collected in
FLICKR.md 1.5 and 1.6. Flickr reports its failures with HTTP 200 and `stat="fail"`; only a bad
signature, a rate limit and a broken server have another status.
"""

from __future__ import annotations

from http import HTTPStatus

from popq.errors import Misconfigured, Outcome, Permanent, PopqError, Throttled, Transient

_HERE = "Flickr's API answered with code"

#: Codes that are facts about the photo.
_PERMANENT = {
    1: (Outcome.NOT_FOUND, "no such photo (deleted, private or never there)"),
    2: (Outcome.PRIVATE, "its owner shows this photo to nobody"),
    5: (Outcome.GONE, "the owner's account was deleted"),
}

#: Codes that a person must act on, with what to do.
_MISCONFIGURED = {
    95: "POPQ_FLICKR_API_URL must start with https://",
    96: "check the secret that belongs to the key (POPQ_FLICKR_KEYS)",
    97: "check the API key and its secret (POPQ_FLICKR_KEYS)",
    98: "check the API key and its secret (POPQ_FLICKR_KEYS)",
    99: "this key may not read what popq asks for; check its permissions",
    100: "check the key in POPQ_FLICKR_KEYS; Flickr may have disabled it (see your e-mail)",
    111: "this is a bug of popq: it asked for an unknown format; please report it",
    112: "this is a bug of popq: it asked for an unknown method; please report it",
    114: "this is a bug of popq: it sent a bad SOAP envelope; please report it",
    115: "this is a bug of popq: it sent a bad XML-RPC call; please report it",
    116: "this is a bug of popq: Flickr calls the URL it sent abusive; please report it",
}


def error_for_code(code: int | None, message: str) -> PopqError:
    """Error for an answer with `stat="fail"`, to be raised by the caller.

    `code` and `message` as Flickr sent them; None where it sent no usable code. Codes that mean a
    pause of the service (0, 10, 105, 106, 201) and codes nobody documented pass with time.
    """
    said = f"{_HERE} {'(none)' if code is None else code}: {message or '(no message)'}"
    if code in _PERMANENT:
        outcome, meaning = _PERMANENT[code]
        return Permanent(f"{said}; {meaning}", outcome=outcome, http_status=HTTPStatus.OK)
    if code in _MISCONFIGURED:
        return Misconfigured(f"{said}; {_MISCONFIGURED[code]}")
    return Transient(f"{said}; it is tried again later", http_status=HTTPStatus.OK)


def error_for_status(status: int, *, host: str, retry_after_s: float | None) -> PopqError:
    """Error for an API answer whose HTTP `status` is not 200, to be raised by the caller.

    `host` is the name of the key's row in `hosts`, `retry_after_s` the seconds that the server
    asked to wait, if it did.
    """
    said = f"Flickr's API ({host}) answered with HTTP {status}"
    match status:
        case HTTPStatus.UNAUTHORIZED:
            return Misconfigured(
                f"{said}: it rejects the signature; check the API key, the secret that belongs to "
                "it and this computer's clock"
            )
        case HTTPStatus.FORBIDDEN:
            return Misconfigured(
                f"{said}: it refuses the call; the API URL must start with https:// and no proxy "
                "may stand in between"
            )
        case HTTPStatus.TOO_MANY_REQUESTS:
            wait = "" if retry_after_s is None else f" and asks to wait {retry_after_s:g} s"
            return Throttled(
                f"{said}: too many requests{wait}; all calls to the API pause",
                host=host,
                retry_after_s=retry_after_s,
            )
    return Transient(f"{said}; it is tried again later", http_status=status)
