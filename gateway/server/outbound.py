"""Where the server may send what callers ask it to send: public addresses, and networks that are allowed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from urllib.parse import urlsplit

from gateway.errors import InvalidInput

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Awaitable[list[str]]]

_NAT64 = ip_network("64:ff9b::/96")
_NOT_GLOBAL = (ip_network("192.0.0.0/24"), ip_network("fec0::/10"))
"""A cloud's metadata are in the first, old private networks in the second: not every Python knows them."""
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Pinned:
    """A URL with the one address that it is sent to: the name is not looked up again.

    Attributes:
        url: with the address in the place of the name.
        host: for the header Host, and `name`, for TLS.
    """

    url: str
    host: str
    name: str


async def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a name, as the system resolves it. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def unwrap(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address stands for, if it stands for one."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped or address.sixtofour:
            return address.ipv4_mapped or address.sixtofour or address
        if address.teredo:
            return address.teredo[1]
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def is_allowed(address: Address, networks: Sequence[Network] = ()) -> bool:
    """Say whether something may be sent there: it is public, or in a network that is allowed."""
    real = unwrap(address)
    if any(real.version == network.version and real in network for network in networks):
        return True
    if any(real.version == network.version and real in network for network in _NOT_GLOBAL):
        return False
    return real.is_global and not real.is_multicast and not real.is_reserved


def check_url(url: str, networks: Sequence[Network] = ()) -> None:
    """Refuse a URL that can be refused without looking its name up. Raises InvalidInput."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidInput(f"the URL is none: {error}") from None
    if parts.scheme not in _PORTS or not host:
        raise InvalidInput("the URL must begin with http:// or https:// and name a host")
    if parts.username or parts.password:
        raise InvalidInput("the URL must hold no name and no password")
    literal = _parse_address(host)
    if literal is not None and not is_allowed(literal, networks):
        raise InvalidInput(f"{host} is not a public address, and not in a network that is allowed")
    if literal is None and host.rstrip(".").rpartition(".")[2].lower() == "localhost":
        _require_loopback(networks)


def _require_loopback(networks: Sequence[Network]) -> None:
    if not any(ip_address(one) in network for network in networks for one in ("127.0.0.1", "::1")):
        raise InvalidInput("localhost is not a public address, and not in a network that is allowed")


async def pin(url: str, networks: Sequence[Network] = (), look_up: Resolve = resolve) -> Pinned:
    """Look a URL's name up once and return it with an allowed address in the place of the name.

    Raises:
        InvalidInput: the URL is none, or one of its name's addresses is not allowed.
        OSError: the name can't be looked up.
    """
    check_url(url, networks)
    parts = urlsplit(url)
    name, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    literal = _parse_address(name)
    addresses = [literal] if literal else [ip_address(found) for found in await look_up(name, port)]
    for address in addresses:
        if not is_allowed(address, networks):
            raise InvalidInput(f"{name} has the address {address}, which is not public and not allowed")
    if not addresses:
        raise OSError(f"{name} has no address")
    shown = f"[{addresses[0]}]" if addresses[0].version == 6 else str(addresses[0])
    return Pinned(parts._replace(netloc=f"{shown}:{port}", fragment="").geturl(), parts.netloc, name)


def _parse_address(host: str) -> Address | None:
    """Return the address that a host is written as; also as the system reads it: "127.1", "0x7f000001"."""
    with suppress(ValueError):
        return ip_address(host)
    with suppress(OSError, ValueError):
        return IPv4Address(socket.inet_aton(host))
    return None
