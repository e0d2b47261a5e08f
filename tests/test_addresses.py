"""Media are fetched from public addresses and from where the API is, however those are written."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from runner.policy.addresses import AddressRules, is_public

PUBLIC_API = AddressRules("https://api.segmind.com")
LOOPBACK_API = AddressRules("http://127.0.0.1:8787")

PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "172.15.0.1",
    "172.32.0.1",
    "2606:4700:4700::1111",
    "2a00:1450:4001::1",
    "2002:0808:0808::1",  # 8.8.8.8 by 6to4
]
INSIDE = {
    "loopback": ["127.0.0.1", "127.255.255.254", "::1"],
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fd00::1", "fc00::1"],
    "this host": ["0.0.0.0", "0.1.2.3", "::"],  # noqa: S104
    "link-local": ["169.254.169.254", "fe80::1", "fe80::1%eth0", "fec0::1"],
    "shared by a provider": ["100.64.0.1", "100.127.255.255"],
    "multicast and broadcast": ["224.0.0.1", "239.1.2.3", "255.255.255.255", "ff02::1"],
    "reserved": ["240.0.0.1", "192.0.2.1", "198.18.0.1", "2001:db8::1", "100::1", "2001::1"],
    "wrapped in IPv6": [
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:7f00:1",
        "::ffff:169.254.169.254",
        "::ffff:0.0.0.0",
        "::127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::1",
        "2002:7f00:1::1",
        "2002:a00:1::1",
    ],
}
ALL_INSIDE = [address for group in INSIDE.values() for address in group]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address: str) -> None:
    assert PUBLIC_API.objection("https", address) is None
    assert PUBLIC_API.allows("cdn.example.com", address)
    assert LOOPBACK_API.allows("cdn.example.com", address)


@pytest.mark.parametrize("address", ["::ffff:8.8.8.8", "64:ff9b::8.8.8.8"])
def test_a_public_ipv4_address_in_ipv6_is_as_public(address: str) -> None:
    # A network without IPv4 resolves every name to the second of these.
    assert PUBLIC_API.allows("cdn.example.com", address)


@pytest.mark.parametrize("address", ALL_INSIDE)
def test_addresses_inside_are_refused_written_and_resolved(address: str) -> None:
    assert PUBLIC_API.objection("https", address) is not None
    assert not PUBLIC_API.allows("cdn.example.com", address)


@pytest.mark.parametrize("address", ["224.0.0.1", "ff02::1", "fec0::1", "64:ff9b::1", "::1"])
def test_what_python_calls_global_is_not_always_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "host",
    ["2130706433", "0177.0.0.1", "017700000001", "0x7f.0.0.1", "0x7f000001", "127.1", "127.0.0.1.",
     "1.2.3", "4294967295", "127.0.0.0x1", "a.0x", "a.1", "10.0.0.1.."],
)  # fmt: skip
def test_numbers_in_place_of_a_host_are_refused(host: str) -> None:
    assert PUBLIC_API.objection("https", host) is not None
    assert LOOPBACK_API.objection("http", host.replace("127.0.0.1.", "10.1")) is not None


@pytest.mark.parametrize(
    "host",
    ["images.segmind.com", "a1.b2.c3d", "1e100.net", "0x7f.example", "xn--nxasmq6b.gr", "x."],
)
def test_names_are_left_to_the_resolver(host: str) -> None:
    assert PUBLIC_API.objection("https", host) is None


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("api", ["http://127.0.0.1:8787", "http://localhost:8787", "http://[::1]"])
def test_loopback_is_allowed_where_the_api_is_there(api: str, address: str) -> None:
    rules = AddressRules(api)
    assert rules.objection("http", address) is None
    assert rules.allows("localhost", address)
    others = set(ALL_INSIDE) - set(INSIDE["loopback"]) - {"::ffff:127.0.0.1", "::ffff:7f00:1"}
    assert not any(rules.allows("x.example", other) for other in others)


def test_a_private_api_may_serve_its_own_media_and_nobody_elses() -> None:
    rules = AddressRules("https://10.0.0.5:8443")
    assert rules.objection("https", "10.0.0.5") is None
    assert rules.allows("media.internal", "10.0.0.5")
    assert not rules.allows("media.internal", "10.0.0.6")
    assert not rules.allows("localhost", "127.0.0.1")
    named = AddressRules("https://API.internal.")
    assert named.objection("https", "api.INTERNAL") is None
    assert named.allows("api.internal", "10.0.0.5")
    assert not named.allows("other.internal", "10.0.0.5")


@pytest.mark.parametrize("scheme", ["file", "ftp", "data", "javascript", "", "ws"])
def test_only_http_is_fetched(scheme: str) -> None:
    assert PUBLIC_API.objection(scheme, "example.com")
    assert PUBLIC_API.redirect_objection(scheme)
    assert LOOPBACK_API.redirect_objection(scheme)


def test_redirects_to_plain_http_are_followed_only_where_the_api_is_plain() -> None:
    assert PUBLIC_API.redirect_objection("https") is None
    assert "not to https" in str(PUBLIC_API.redirect_objection("http"))
    assert LOOPBACK_API.redirect_objection("http") is None


@pytest.mark.parametrize("host", [None, ""])
def test_a_url_without_a_host_is_refused(host: str | None) -> None:
    assert "no address" in str(PUBLIC_API.objection("https", host))
