"""Who may look at a served gallery: hosts that are not someone else's trick, and bearers of the token."""

from __future__ import annotations

import hmac
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from aiohttp import web

TOKEN_FIELD = "token"  # noqa: S105  the name of a field


def is_loopback(host: str) -> bool:
    """Whether an address can only be reached from this machine."""
    if host == "localhost":
        return True
    address = _address(host)
    return address is not None and address.is_loopback


@dataclass(frozen=True, slots=True)
class Visitors:
    """Decides about requests. `token` None: whoever reaches the loopback address is welcome.

    A page of someone else's can lead its own name to this machine (DNS rebinding) and then read what is
    served under it; its name is in the Host header, and a name that was not asked for is refused.
    """

    host: str
    port: int
    token: str | None = None

    @property
    def cookie(self) -> str:
        """The cookie that stands for the token; cookies do not tell ports apart, so its name does."""
        return f"gallery-{self.port}"

    def knows_host(self, header: str) -> bool:
        """Whether a Host header names this server: an address, or a name that was asked for."""
        try:
            name = urlsplit(f"//{header}").hostname or ""
        except ValueError:
            return False
        if self.token is None:
            return is_loopback(name)
        own = {"localhost", self.host.lower(), socket.gethostname().lower()}
        return _address(name) is not None or name in own

    def holds_token(self, given: str | None) -> bool:
        """Whether this is the token, in a time that tells nothing of it."""
        if self.token is None:
            return True
        return hmac.compare_digest((given or "").encode(), self.token.encode())

    def check(self, request: web.Request) -> None:
        """Raises the HTTP answer for a visitor who may not go on.

        A token in the address becomes a cookie, so that it is not passed on with the address.
        """
        if not self.knows_host(request.host):
            raise web.HTTPForbidden(text="this host name is not served here")
        if self.token is None:
            return
        if TOKEN_FIELD in request.query and self.holds_token(request.query[TOKEN_FIELD]):
            found = web.HTTPFound("/")
            found.set_cookie(self.cookie, self.token, httponly=True, samesite="Lax", path="/")
            raise found
        if not self.holds_token(request.cookies.get(self.cookie)):
            text = "a token is needed: open the address that `runner gallery --serve` printed"
            raise web.HTTPUnauthorized(text=text)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host.split("%")[0])
    except ValueError:
        return None
