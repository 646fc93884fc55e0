"""Whom a fetch asks, over real sockets: redirects, proxies, DNS answers, certificates."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess

import pytest
from odd_host import BODY, Handler, client_of

from popq.errors import Misconfigured, Outcome, Transient


@pytest.mark.parametrize("where", ["hops/3", "moved//photo.jpg"])
def test_redirects_at_home_are_followed(client, server, where):
    assert client.fetch(f"{server.url}/{where}").data == BODY


@pytest.mark.parametrize("name", ["live", "farm5", "c2"])
def test_redirects_to_flickrs_hosts_are_followed(server, name, monkeypatch):
    # Flickr's hosts are reached through a proxy, which is the server of this test.
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setattr(Handler, "do_GET", answer_as_proxy)
    with client_of(server) as client:
        target = f"http://{name}.staticflickr.com/photo.jpg"
        assert client.fetch(f"{server.url}/moved/{target}").data == BODY


def answer_as_proxy(handler):
    if handler.path.startswith("http://"):
        handler.answer_photo("")
    else:
        handler.answer_moved(handler.path.removeprefix("/moved/"))


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_proxy_that_refuses_a_tunnel_says_nothing_of_the_photo(server, monkeypatch, status):
    def refuse(handler):
        handler.begin(status=status, Content_Type="text/html")
        handler.wfile.write(b"blocked")

    monkeypatch.setenv("https_proxy", server.url)
    monkeypatch.setattr(Handler, "do_CONNECT", refuse, raising=False)
    base = "https://live.staticflickr.com"
    with (
        client_of(server, base_url=base) as client,
        pytest.raises(Transient, match=f"tunnel failed, response {status}"),
    ):
        client.fetch(f"{base}/65535/1_a_z.jpg")


@pytest.mark.parametrize(
    "url",
    [
        "photo.jpg",
        "ftp://live.staticflickr.com/photo.jpg",
        "http:///photo.jpg",
        "http://[oops/photo.jpg",
        "http://live.staticflickr.com:99999/photo.jpg",
        "http://live.staticflickr.com:6379/photo.jpg",
        "http://live.staticflickr.com@example.invalid/photo.jpg",
        "http://user@live.staticflickr.com/photo.jpg",
        "http://live.staticflickr.com.example.invalid/photo.jpg",
        "http://example.invalid/live.staticflickr.com/photo.jpg",
        "http://127.0.0.1/photo.jpg",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/photo.jpg",
        "http://2130706433/photo.jpg",
    ],
)
def test_a_host_that_is_not_flickrs_is_not_asked(client, server, url):
    """Counted, not final: it says something about the row, not about the photo."""
    with pytest.raises(Transient) as caught:
        client.fetch(url)
    assert caught.value.outcome == Outcome.NOT_FLICKR
    assert not server.seen


def test_a_flickr_host_with_an_address_of_ones_own_network_is_not_asked(server):
    """By DNS: the name server says that Flickr's host is this machine."""

    def lookup(host, port, **_):
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.server_port))]

    asked = []
    with client_of(server, lookup=lookup) as client:
        for url in (
            "http://live.staticflickr.com/65535/1_a_z.jpg",
            "https://farm5.static.flickr.com/65535/1_a_z.jpg",
            f"{server.url}/moved/http://live.staticflickr.com/photo.jpg",
        ):
            with pytest.raises(Misconfigured, match=r"resolves to 127\.0\.0\.1"):
                client.fetch(url)
    assert asked == [
        "live.staticflickr.com",
        "farm5.static.flickr.com",
        "127.0.0.1",
        "live.staticflickr.com",
    ]
    assert [path for path, _, _ in server.seen] == ["/moved/http://live.staticflickr.com/photo.jpg"]


def test_a_name_is_resolved_once_for_what_is_checked_and_connected_to(server):
    """DNS rebinding: there is no second answer that could lead elsewhere."""
    answers = iter(["127.0.0.1"])

    def lookup(host, port, **_):
        assert host == "mirror.test"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    base = f"http://mirror.test:{server.server_port}"
    with client_of(server, base_url=base, lookup=lookup) as client:
        assert client.fetch(f"{base}/photo.jpg").data == BODY
    assert next(answers, None) is None


def test_of_several_addresses_one_that_answers_will_do(server):
    def lookup(host, port, **_):
        found = ("127.0.0.2", "127.0.0.1")  # the server listens at the second only
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in found]

    base = f"http://mirror.test:{server.server_port}"
    with client_of(server, base_url=base, lookup=lookup) as client:
        assert client.fetch(f"{base}/photo.jpg").data == BODY


def test_a_path_is_quoted_where_it_must_be(client, server):
    assert client.fetch(f"{server.url}/photo.jpg/a b\u00e9%20?c=d e").data == BODY
    assert [path for path, _, _ in server.seen] == ["/photo.jpg/a%20b%C3%A9%20?c=d%20e"]


@pytest.fixture
def certificate(tmp_path, monkeypatch):
    """A certificate for mirror.test that the environment trusts."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl")
    both = tmp_path / "both.pem"
    names = "-subj /CN=mirror.test -addext subjectAltName=DNS:mirror.test"
    command = f"req -x509 -newkey rsa:2048 -nodes -days 2 {names} -keyout key -out certificate"
    subprocess.run([openssl, *command.split()], cwd=tmp_path, check=True, capture_output=True)
    both.write_text((tmp_path / "key").read_text() + (tmp_path / "certificate").read_text())
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "certificate"))
    return both


def test_over_tls_the_certificate_must_be_the_names(server, certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)

    def lookup(host, port, **_):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    for name in ("mirror.test", "other.test"):
        base = f"https://{name}:{server.server_port}"
        with client_of(server, base_url=base, lookup=lookup) as client:
            if name == "mirror.test":
                assert client.fetch(f"{base}/photo.jpg").data == BODY
            else:
                with pytest.raises(Transient, match="certificate"):
                    client.fetch(f"{base}/photo.jpg")
