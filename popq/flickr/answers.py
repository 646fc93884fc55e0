"""Reading an answer of Flickr's services within bounds, of time and of bytes.

requests has a time-out for each read alone, so that an answer that drips a byte at a time would
hold its thread for ever, and it reads whatever comes into memory.
"""

from __future__ import annotations

import time
import zlib
from http import HTTPStatus
from typing import Any, Final

import requests
import urllib3

from popq.errors import Transient

#: Seconds for one call, from its start to the end of its answer.
TOTAL_S: Final = 60.0
#: What an answer may hold, packed or not; the longest known, a page of 500 photos, has under 2 MB.
MAX_BYTES: Final = 8_000_000
#: What is asked for of the packings that HTTP knows: what `read` unpacks.
ENCODINGS: Final = "gzip"
_AT_ONCE = 64 * 1024


def read(answer: requests.Response, deadline: float) -> bytes:
    """Return the body of an answer that is streamed, and leave its connection to others.

    It came by a `PatientAdapter`, whose clock ends here; `deadline` is on the monotonic clock, in
    seconds. Raises requests' own errors for a body that is late, cut short or damaged, and
    `Transient` for one of more than `MAX_BYTES`. An answer that is not 200 has said all by its
    status: of a body that cannot be read nothing is returned, so that a host in trouble which asks
    for a pause is given one.
    """
    raw: Any = answer.raw
    try:
        return _body(answer, deadline)
    except (requests.RequestException, Transient):
        if answer.status_code == HTTPStatus.OK:
            raise
        return b""
    finally:
        raw.clock.cancel()


def _body(answer: requests.Response, deadline: float) -> bytes:
    with answer:
        packed = _read(answer, deadline)
        encoding = answer.headers.get("Content-Encoding", "identity").lower()
    if encoding == "identity":
        return packed
    if encoding not in {"gzip", "x-gzip"}:
        raise requests.exceptions.ContentDecodingError(encoding)
    gunzip = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        body = gunzip.decompress(packed, MAX_BYTES + 1)
    except zlib.error as error:
        raise requests.exceptions.ContentDecodingError(str(error)) from error
    _check_size(body)
    if not gunzip.eof:
        raise requests.exceptions.ContentDecodingError("cut short")
    return body


def _read(answer: requests.Response, deadline: float) -> bytes:
    body = bytearray()
    if time.monotonic() > deadline:  # what there is of its head may have been cut short for that
        raise requests.ReadTimeout("its time is up before its head is whole")
    try:
        # What has arrived, however little: iter_content would wait until a piece is full.
        while part := answer.raw.read1(_AT_ONCE, decode_content=False):
            body += part
            _check_size(body)
            if time.monotonic() > deadline:
                raise requests.ReadTimeout("its time is up before the answer is whole")
    except urllib3.exceptions.ReadTimeoutError as error:
        raise requests.ReadTimeout(str(error)) from error
    except urllib3.exceptions.HTTPError as error:
        if time.monotonic() > deadline:  # the connection's clock hung up
            raise requests.ReadTimeout(str(error)) from error
        raise requests.exceptions.ChunkedEncodingError(str(error)) from error
    return bytes(body)


def _check_size(body: bytes | bytearray) -> None:
    if len(body) > MAX_BYTES:
        message = f"an answer of Flickr's has more than {MAX_BYTES:,} bytes"
        raise Transient(f"{message}; it is tried again later")
