"""Answers whose head never ends."""

from __future__ import annotations

import threading

import pytest
from odd_host import Server

from popq.errors import Transient
from popq.flickr.client import FlickrClient
from popq.flickr.oembed import OEmbedClient

TIMES = {"connect_timeout_s": 30, "read_timeout_s": 30, "total_timeout_s": 0.3}


@pytest.fixture(scope="module")
def dripping():
    """The address of a server that drips its headers, each byte well within the read time-out."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    # A client that waits for the end meets it, and fails the test, rather than wait for ever.
    rescue = threading.Timer(20, server.closing.set)
    rescue.start()
    yield f"{server.url}/dripping/"
    rescue.cancel()
    server.closing.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("secret", ["", "s"])
def test_a_head_that_drips_ends_with_the_time_of_the_call(dripping, secret, caplog):
    client = FlickrClient("k", secret, api_url=dripping, **TIMES)
    with client, pytest.raises(Transient, match="did not answer in time"):
        client.check_key()
    assert not caplog.records  # the cut head is ours


def test_so_it_does_without_a_key(dripping):
    client = OEmbedClient(dripping, **TIMES)
    with client, pytest.raises(Transient, match="ReadTimeout"):
        client.photo_info(52000000001)
