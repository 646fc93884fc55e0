"""Whom a fetch may ask: Flickr's image hosts outside of one's own network, and the operator's host.

A list, a redirect or a DNS answer could otherwise lead popq to an address that only this machine
can reach (a router, a cloud's metadata service, a database). So a host's name must be one of
Flickr's, and every address that it resolves to must be public. The connection is made to exactly
the address that was checked: a name that is resolved a second time may give another one. Exempt
is what the operator configured: the image host's base URL, and a proxy.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Collection
from typing import Any
from urllib.parse import urlsplit

from popq.errors import Misconfigured, without_password

#: ASCII digits only: libcurl writes others in its own way, and would look for an address by itself.
#: A few: no name server can be asked for a name with a part of over 63 characters.
_FLICKR_HOST = re.compile(
    r"(live|(farm|c)[0-9]{1,4})\.staticflickr\.com|(farm[0-9]{1,4}\.)?static\.flickr\.com"
)
PORTS = {"http": 80, "https": 443}
#: IPv6 addresses that carry an IPv4 address in their last four bytes (NAT64).
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
#: All that is public of IPv6; what lies outside is unassigned, or of one's own (another NAT64's,
#: addresses of a site, IPv4 addresses in an old spelling).
_UNICAST = ipaddress.ip_network("2000::/3")

#: Resolves a name, as `socket.getaddrinfo` does.
Lookup = Callable[..., list[Any]]


class Reach:
    """The hosts that may be asked: Flickr's, and those of `own`, the operator's base URLs."""

    def __init__(self, own: Collection[str], lookup: Lookup = socket.getaddrinfo) -> None:
        """Raise `Misconfigured` for a base URL that is no address of the web, or has a login."""
        self._lookup = lookup
        self._own = set()
        for url in own:
            found = _host_and_port(url)
            if found is None or "@" in urlsplit(url).netloc:
                shown = without_password(url)
                what = "is no web address" if found is None else "has a login, which is not sent"
                raise Misconfigured(f"{shown!r} {what}; correct POPQ_FLICKR_IMAGE_URL.")
            self._own.add(found)

    def allows(self, url: str) -> bool:
        """Return whether the URL's scheme, host and port may be asked; no name is resolved."""
        found = _host_and_port(url)
        if found is None or "@" in urlsplit(url).netloc:
            return False
        host, port = found
        return found in self._own or (
            _FLICKR_HOST.fullmatch(host) is not None and port in PORTS.values()
        )

    def addresses(self, host: str, port: int) -> list[str]:
        """Resolve the host to addresses that may be connected to.

        Raises `Misconfigured` when one of them belongs to no public network, and `OSError` when
        the name cannot be resolved.
        """
        answers = self._lookup(host, port, type=socket.SOCK_STREAM)
        found = list(dict.fromkeys(str(answer[4][0]) for answer in answers))
        if (host.lower(), port) not in self._own:
            for address in found:
                if not is_public(address):
                    message = f"{host} resolves to {address}, which is no public address"
                    raise Misconfigured(
                        f"{message}, so it is not asked. Set the name server right, or name a "
                        "mirror of your own in POPQ_FLICKR_IMAGE_URL."
                    )
        return found


def is_public(address: str) -> bool:
    """Return whether an IP address belongs to the public Internet."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            ip = inner
        elif ip.teredo is not None or ip not in _UNICAST:
            return False
    return ip.is_global and not ip.is_multicast


def _host_and_port(url: str) -> tuple[str, int] | None:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # what urllib says to brackets that hold no address, or to port 99999
        return None
    if parts.scheme not in PORTS or not host:
        return None
    return host, port or PORTS[parts.scheme]
