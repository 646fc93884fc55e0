"""Each failure of Flickr becomes the error that says what to do next."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popq.errors import Misconfigured, Outcome, Permanent, PopqError, Throttled, Transient
from popq.flickr.outcomes import error_for_code, error_for_status


@pytest.mark.parametrize(
    ("code", "outcome"), [(1, Outcome.NOT_FOUND), (2, Outcome.PRIVATE), (5, Outcome.GONE)]
)
def test_codes_about_the_photo_are_permanent(code, outcome):
    error = error_for_code(code, "said")
    assert isinstance(error, Permanent)
    assert error.outcome is outcome


@pytest.mark.parametrize("code", [95, 96, 97, 98, 99, 100, 111, 112, 114, 115, 116])
def test_codes_about_the_set_up_stop_the_stage(code):
    error = error_for_code(code, "said")
    assert isinstance(error, Misconfigured)
    assert "said" in str(error)
    assert error.exit_code == 3


@pytest.mark.parametrize("code", [0, 10, 105, 106, 201, 4711, None])
def test_other_codes_pass(code):
    error = error_for_code(code, "Sorry")
    assert isinstance(error, Transient)
    assert error.outcome is Outcome.TRANSIENT


@pytest.mark.parametrize("status", [401, 403])
def test_refused_calls_stop_the_stage(status):
    assert isinstance(error_for_status(status, host="h", retry_after_s=None), Misconfigured)


@pytest.mark.parametrize("wait", [None, 7.0])
def test_429_throttles_the_host(wait):
    error = error_for_status(429, host="flickr-api-1a2b3c4d", retry_after_s=wait)
    assert isinstance(error, Throttled)
    assert (error.host, error.retry_after_s) == ("flickr-api-1a2b3c4d", wait)
    assert ("7 s" in str(error)) == (wait is not None)


@pytest.mark.parametrize("status", [301, 404, 408, 418, 500, 502, 503, 504])
def test_other_statuses_pass(status):
    error = error_for_status(status, host="h", retry_after_s=None)
    assert isinstance(error, Transient)
    assert error.http_status == status


@given(code=st.none() | st.integers(), message=st.text())
def test_every_code_has_an_error_with_a_message(code, message):
    error = error_for_code(code, message)
    assert isinstance(error, PopqError)
    assert "Flickr" in str(error)
