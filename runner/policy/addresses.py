"""Which addresses a medium may be fetched from: public ones, and wherever the API itself is.

A result names the addresses of its files, and whoever answers there may redirect: neither may lead a
run to what only this computer or its network can reach.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address

# The part of IPv6 that is routed; all the rest is for special purposes. Source: RFC 4291, 2.4.
_ROUTED = IPv6Network("2000::/3")
# Where a network without IPv4 finds IPv4 hosts. Source: RFC 6052.
_TRANSLATED = IPv6Network("64:ff9b::/96")
# `127.1`, `0x7f.0.0.1` and `2130706433` are ways to write an IPv4 address that other programs
# understand; no name of the public DNS ends like that. Source: WHATWG URL, "ends in a number".
_ENDS_IN_NUMBER = re.compile(r"(.*\.)?(\d+|0x[0-9a-f]*)", re.DOTALL)


class AddressRules:
    """The rules for media of an API at `api_origin`."""

    def __init__(self, api_origin: str) -> None:
        parts = urlsplit(api_origin)
        self._plain_allowed = parts.scheme == "http"
        self._api_host = _plain(parts.hostname or "")
        self._api_address = _address(self._api_host)

    def objection(self, scheme: str, host: str | None) -> str | None:
        """Why nothing is fetched from a URL with this scheme and host, as far as they tell."""
        if scheme not in ("http", "https") or not host:
            return "no address of a file"
        plain = _plain(host)
        if plain == self._api_host:
            return None
        if _address(host) is None:
            numeric = _ENDS_IN_NUMBER.fullmatch(plain)
            return "a number in place of a host, which is not fetched from" if numeric else None
        if not self.allows(host, host):
            return "a private address, which is not fetched from"
        return None

    def redirect_objection(self, scheme: str) -> str | None:
        """Why a redirect to a URL with this scheme is not followed."""
        if scheme == "https" or (scheme == "http" and self._plain_allowed):
            return None
        return f"the media server redirects to {scheme or 'nowhere'}, not to https"

    def allows(self, host: str, address: str) -> bool:
        """Whether `address`, to which `host` leads, may be connected to."""
        found = _address(address)
        if found is None:
            return False
        if is_public(found) or _plain(host) == self._api_host or found == self._api_address:
            return True
        return found.is_loopback and self._api_is_loopback()

    def _api_is_loopback(self) -> bool:
        if self._api_address is not None:
            return self._api_address.is_loopback
        return self._api_host == "localhost" or self._api_host.endswith(".localhost")


def is_loopback(origin: str) -> bool:
    """Whether an origin is on this machine."""
    return AddressRules(origin)._api_is_loopback()


def is_public(address: Address) -> bool:
    """Whether everybody on the internet means the same host by this address."""
    if isinstance(address, IPv6Address):
        if address.sixtofour is not None:
            return is_public(address.sixtofour)
        if address not in _ROUTED:
            return False
    # Python's `is_global` holds multicast for global.
    return address.is_global and not address.is_multicast


def _address(text: str) -> Address | None:
    """The address that is written there; the IPv4 address where an IPv6 one only wraps it."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if not isinstance(address, IPv6Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _TRANSLATED:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _plain(host: str) -> str:
    return host.lower().rstrip(".")
