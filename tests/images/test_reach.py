"""Whom a fetch may ask: no list, redirect or DNS answer leads into one's own network."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popq.errors import Misconfigured
from popq.images.reach import Reach, is_public

BASE = "http://127.0.0.1:8080"


def resolving(*addresses):
    def lookup(host, port, **_):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in addresses]

    return lookup


@pytest.mark.parametrize(
    "url",
    [
        "https://live.staticflickr.com/65535/1_a_z.jpg",
        "http://farm66.staticflickr.com/1.jpg",
        "http://c2.staticflickr.com:80/1.jpg",
        "https://LIVE.staticflickr.com/1.jpg",
        "http://farm5.static.flickr.com/1.jpg",
        "http://static.flickr.com/1.jpg",
        f"{BASE}/1.jpg",
    ],
)
def test_flickrs_hosts_and_the_operators_may_be_asked(url):
    assert Reach([BASE]).allows(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/1.jpg",
        "http://127.0.0.1:8081/1.jpg",
        "http://x@127.0.0.1:8080/1.jpg",
        "http://localhost:8080/1.jpg",
        "https://farm.staticflickr.com/1.jpg",
        f"https://farm{'1' * 70}.staticflickr.com/1.jpg",
        "https://farm\uff11.staticflickr.com/1.jpg",
        "https://farm\u0661.static.flickr.com/1.jpg",
        "https://live.staticflickr.com./1.jpg",
        "https://live-staticflickr.com/1.jpg",
        "https://evil.com/live.staticflickr.com/1.jpg",
        "https://live.staticflickr.com\\@evil.com/1.jpg",
        "https://live.staticflickr.com:8443/1.jpg",
        "gopher://live.staticflickr.com/1.jpg",
        "https:///1.jpg",
        "",
    ],
)
def test_nobody_else_may_be_asked(url):
    assert not Reach([BASE]).allows(url)


@pytest.mark.parametrize("base", ["", "live.staticflickr.com", "ftp://live.staticflickr.com"])
def test_a_base_url_must_be_a_web_address(base):
    with pytest.raises(Misconfigured, match="POPQ_FLICKR_IMAGE_URL"):
        Reach([base])


def test_a_base_url_with_a_login_is_refused_and_its_password_not_shown():
    with pytest.raises(Misconfigured, match="login") as caught:
        Reach(["http://me:hunter2@127.0.0.1:8080"])
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("address", ["13.224.0.1", "2600:9000:2000::1", "64:ff9b::8.8.8.8"])
def test_public_addresses(address):
    assert is_public(address)
    assert Reach([BASE], resolving(address)).addresses("live.staticflickr.com", 443) == [address]


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "192.168.1.1",
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "::7f00:1",
        "64:ff9b:1::7f00:1",
        "5f00::1",
        "2001:db8::1",
    ],
)
def test_addresses_of_no_public_network(address):
    assert not is_public(address)
    # One among public ones is enough: the name server is not to be trusted.
    reach = Reach([BASE], resolving("13.224.0.1", address))
    with pytest.raises(Misconfigured, match="no public address"):
        reach.addresses("live.staticflickr.com", 443)


@given(st.ip_addresses(v=4, network="10.0.0.0/8") | st.ip_addresses(v=4, network="127.0.0.0/8"))
def test_no_spelling_of_a_private_address_is_public(address):
    number = int(address)
    for mapped in (f"::ffff:{address}", f"64:ff9b::{number >> 16:x}:{number & 0xFFFF:x}"):
        assert not is_public(mapped)
    assert not is_public(str(address))


def test_the_operators_own_host_may_lie_anywhere():
    reach = Reach(["http://mirror.example:8080"], resolving("192.168.1.5"))
    assert reach.addresses("mirror.example", 8080) == ["192.168.1.5"]
    with pytest.raises(Misconfigured):
        reach.addresses("mirror.example", 80)
