"""An image host behind a real socket."""

from __future__ import annotations

import threading

import pytest
from odd_host import Server, client_of


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def client(server):
    with client_of(server) as client:
        yield client
