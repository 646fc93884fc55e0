"""Keys and signatures at the fake Flickr: who calls, and whether the call may pass.

A call names its key in the parameter `api_key` or in an OAuth 1.0 header signed with HMAC-SHA1.
A wrong signature is HTTP 401 with the base string in the body; a key that is missing, unknown or
disabled is code 100 (all recorded, FLICKR.md 1.5 and 1.6).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from types import SimpleNamespace
from typing import NamedTuple

from oauthlib.oauth1.rfc5849 import signature

from popq.flickr.fake.faults import EXPIRED_KEY, Faults
from popq.flickr.fake.reply import Reply

NO_KEY = "(none)"
#: Message of code 100.
BAD_KEY = "Invalid API Key (Key has invalid format)"


class Call(NamedTuple):
    """One API request as it came in: `url` without query, `form` as it stood in the body."""

    method: str
    url: str
    query: str
    form: str
    authorization: str | None


class Caller(NamedTuple):
    """Who calls: the key as given, and the nonce of a signed call."""

    key: str
    nonce: str | None
    signed: Mapping[str, str]


def identify(call: Call, params: Mapping[str, str]) -> Caller:
    """Read who calls, without a check."""
    signed: dict[str, str] = {}
    if call.authorization is not None and call.authorization.startswith("OAuth "):
        with suppress(ValueError):  # a header that cannot be read names nobody
            pairs = signature.collect_parameters(
                headers={"Authorization": call.authorization}, exclude_oauth_signature=False
            )
            signed = dict(pairs)
    key = signed.get("oauth_consumer_key") or params.get("api_key") or NO_KEY
    return Caller(key, signed.get("oauth_nonce"), signed)


def refuse_signature(call: Call, caller: Caller, keys: Mapping[str, str]) -> Reply | None:
    """401 for a signed call of a known key whose signature is wrong; None for all others."""
    secret = keys.get(caller.key)
    if not caller.signed or secret is None:
        return None
    params = signature.collect_parameters(
        uri_query=call.query,
        body=call.form,
        headers={"Authorization": call.authorization},
    )
    request = SimpleNamespace(
        http_method=call.method,
        uri=call.url,
        params=params,
        signature=caller.signed.get("oauth_signature", ""),
    )
    if signature.verify_hmac_sha1(request, secret, ""):
        return None
    base = signature.signature_base_string(
        call.method,
        signature.base_string_uri(call.url),
        signature.normalize_parameters(params),
    )
    return _refused(f"oauth_problem=signature_invalid&debug_sbs={base}")


def refuse_nonce() -> Reply:
    """401 for a nonce that was used before."""
    return _refused("oauth_problem=nonce_used")


def _refused(body: str) -> Reply:
    return Reply(401, (("Content-Type", "text/plain;charset=UTF-8"),), body.encode())


def key_trouble(caller: Caller, keys: Mapping[str, str], faults: Faults) -> str | None:
    """Message of code 100 for a key that may not call; None for one that may."""
    if caller.key not in keys:
        return BAD_KEY
    return EXPIRED_KEY if faults.is_disabled(caller.key) else None
