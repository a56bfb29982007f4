from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from gateway.errors import InvalidInput
from gateway.server.outbound import check_url, is_allowed, pin

pytestmark = pytest.mark.anyio

PRIVATE = [
    *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
    *("224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.7", "203.0.113.9"),
    *("::", "::1", "fe80::1", "fc00::1", "fd12::1", "ff02::1", "2001:db8::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1"),
    *("192.0.0.192", "::ffff:192.0.0.192", "64:ff9b::c000:c0", "fec0::1"),
    *("2002:7f00:1::", "2002:a00:1::", "2001:0:4136:e378:8000:63bf:f5ff:fffe"),
]
PUBLIC = ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "64:ff9b::101:101"]


@pytest.mark.parametrize("text", PRIVATE)
def test_what_is_not_public_is_refused(text: str) -> None:
    assert not is_allowed(ip_address(text))


@pytest.mark.parametrize("text", PUBLIC)
def test_what_is_public_is_allowed(text: str) -> None:
    assert is_allowed(ip_address(text))


def test_a_network_is_allowed_by_name() -> None:
    networks = [ip_network("10.1.0.0/16"), ip_network("fd00::/8")]
    assert is_allowed(ip_address("10.1.2.3"), networks)
    assert is_allowed(ip_address("::ffff:10.1.2.3"), networks)
    assert is_allowed(ip_address("fd00::5"), networks)
    assert not is_allowed(ip_address("10.2.0.1"), networks)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "ftp://example.com/",
            "//example.com",
            "https://",
            "https://user:pass@example.com/",
            "file:///etc/passwd",
        ),
        *(
            "http://127.0.0.1/",
            "http://[::1]:80/",
            "http://localhost/",
            "http://a.localhost./",
            "http://[::ffff:a00:1]/",
        ),
        *("http://example.com:99999/", "http://[bad/"),
        *("http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/", "http://127.1/", "http://0/"),
    ],
)
def test_a_url_that_leads_nowhere_good_is_refused_unasked(url: str) -> None:
    with pytest.raises(InvalidInput):
        check_url(url)


async def test_a_name_is_looked_up_once_and_pinned() -> None:
    asked = []

    async def look_up(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return ["93.184.216.34"]

    pinned = await pin("https://hooks.example:8443/a?b=c#d", (), look_up)
    assert pinned.url == "https://93.184.216.34:8443/a?b=c"
    assert (pinned.host, pinned.name) == ("hooks.example:8443", "hooks.example")
    assert asked == [("hooks.example", 8443)]


@pytest.mark.parametrize("addresses", [["10.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["::ffff:127.0.0.1"]])
async def test_a_name_with_any_private_address_is_refused(addresses: list[str]) -> None:
    async def look_up(_host: str, _port: int) -> list[str]:
        return addresses

    with pytest.raises(InvalidInput, match="not public"):
        await pin("http://rebound.example/", (), look_up)


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "127.1", "017700000001"])
async def test_an_address_in_disguise_is_seen_through(host: str) -> None:
    with pytest.raises((InvalidInput, OSError)):  # as the system reads it: loopback, or no name at all
        await pin(f"http://{host}/")


async def test_no_address_is_no_address() -> None:
    async def look_up(_host: str, _port: int) -> list[str]:
        return []

    with pytest.raises(OSError, match="no address"):
        await pin("http://nowhere.example/", (), look_up)
    assert (await pin("http://[2606:4700::1111]/", ())).url == "http://[2606:4700::1111]:80/"
