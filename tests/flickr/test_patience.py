"""Answers that never end, or end too soon."""

from __future__ import annotations

import threading

import pytest
from odd_host import Server

from popq.errors import Throttled, Transient
from popq.flickr.client import FlickrClient
from popq.flickr.oembed import OEmbedClient

TIMES = {"connect_timeout_s": 30, "read_timeout_s": 30, "total_timeout_s": 0.3}


@pytest.fixture(scope="module")
def odd():
    """A server that drips on request, each byte well within the read time-out."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    # A client that waits for the end meets it, and fails the test, rather than wait for ever.
    rescue = threading.Timer(20, server.closing.set)
    rescue.start()
    yield server
    rescue.cancel()
    server.closing.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("secret", ["", "s"])
def test_a_head_that_drips_ends_with_the_time_of_the_call(odd, secret, caplog):
    client = FlickrClient("k", secret, api_url=f"{odd.url}/dripping/", **TIMES)
    with client, pytest.raises(Transient, match="did not answer in time"):
        client.check_key()
    assert not caplog.records  # the cut head is ours


def test_so_it_does_without_a_key(odd):
    client = OEmbedClient(f"{odd.url}/dripping/", **TIMES)
    with client, pytest.raises(Transient, match="ReadTimeout"):
        client.photo_info(52000000001)


@pytest.mark.parametrize(("what", "said"), [("length", "in time"), ("trailer", "no JSON")])
def test_what_stands_between_chunks_ends_with_the_time_of_the_call(odd, what, said):
    client = FlickrClient("k", "", api_url=f"{odd.url}/chunks/{what}", **TIMES)
    with client, pytest.raises(Transient, match=said):
        client.check_key()
    assert not odd.closing.is_set()


def test_a_429_that_is_cut_short_throttles_all_the_same(odd):
    """Else a host in trouble would cost each photo a try."""
    times = TIMES | {"total_timeout_s": 30}
    with (
        FlickrClient("k", "", api_url=f"{odd.url}/busy/", **times) as client,
        pytest.raises(Throttled) as caught,
    ):
        client.check_key()
    assert caught.value.retry_after_s == 7
    with OEmbedClient(f"{odd.url}/busy/", **times) as client, pytest.raises(Throttled):
        client.photo_info(52000000001)


def test_a_socks_proxy_is_asked(odd, monkeypatch):
    pytest.importorskip("socks", reason="requests needs PySocks for it")
    monkeypatch.setenv("http_proxy", "socks5h://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    client = FlickrClient("k", "", api_url=f"{odd.url}/html/", **TIMES)
    with client, pytest.raises(Transient, match="no whole answer"):
        client.check_key()
