"""Fetches media: a session of its own that never sees the key and goes nowhere private."""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
import anyio.to_thread
from aiohttp.abc import AbstractResolver, ResolveResult

from runner import __version__

REDIRECT_LIMIT = 5
CONNECT_TIMEOUT_S = 15.0
READ_TIMEOUT_S = 60.0
WRITE_BYTES = 1 << 20
CONNECTIONS = 32
GONE = frozenset({403, 404, 410})


class FetchFailed(Exception):
    """A medium did not come whole; `gone` when the server says that it has it no more."""

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.gone = status in GONE


class Fetcher:
    """Fetches media on behalf of an API at `api_origin`; use as `async with`."""

    def __init__(self, api_origin: str) -> None:
        self._rules = _Rules(api_origin)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Fetcher:
        connector = aiohttp.TCPConnector(limit=CONNECTIONS, resolver=_PublicResolver(self._rules))
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            # Compressed on the way, its length would say nothing about the file's.
            headers={"User-Agent": f"segmind-runner/{__version__}", "Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=READ_TIMEOUT_S
            ),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def fetch(self, url: str, part: Path) -> str | None:
        """Writes what is at `url` to `part`, durably; returns the declared content type.

        Raises FetchFailed when it does not come whole, OSError when it cannot be written.
        """
        if self._session is None:
            raise RuntimeError("the fetcher is used outside `async with`")
        for _ in range(REDIRECT_LIMIT + 1):
            self._rules.check_address(url)
            try:
                async with self._session.get(url, allow_redirects=False) as response:
                    location = response.headers.get("Location")
                    if 300 <= response.status < 400 and location:
                        url = self._rules.redirected(url, location)
                        continue
                    return await _receive(response, part)
            except (aiohttp.ClientError, TimeoutError, UnicodeError) as error:
                raise FetchFailed(f"the file did not come: {_words(error)}") from error
        raise FetchFailed(f"more than {REDIRECT_LIMIT} redirects")


async def _receive(response: aiohttp.ClientResponse, part: Path) -> str | None:
    if response.status != 200:
        raise FetchFailed(f"the media server answered HTTP {response.status}", response.status)
    received, expected = 0, response.content_length
    buffer = bytearray()
    file = await anyio.to_thread.run_sync(_open, part)
    try:
        async for chunk in response.content.iter_any():
            buffer += chunk
            received += len(chunk)
            if len(buffer) >= WRITE_BYTES:
                await anyio.to_thread.run_sync(_write_all, file, bytes(buffer))
                buffer.clear()
        await anyio.to_thread.run_sync(_write_all, file, bytes(buffer), True)
    except aiohttp.ClientPayloadError as error:
        whole = "all" if expected is None else f"{expected:,}"
        raise FetchFailed(f"only {received:,} of {whole} bytes came") from error
    finally:
        os.close(file)
    if expected is not None and received != expected:
        raise FetchFailed(f"only {received:,} of {expected:,} bytes came")
    return response.headers.get("Content-Type")


def _open(part: Path) -> int:
    part.parent.mkdir(parents=True, exist_ok=True)
    return os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o666)


def _write_all(file: int, data: bytes, last: bool = False) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
    if last:
        os.fsync(file)


class _Rules:
    """Which addresses may be fetched from: public ones, and wherever the API itself is."""

    def __init__(self, api_origin: str) -> None:
        parts = urlsplit(api_origin)
        self._plain_allowed = parts.scheme == "http"
        self._api_host = (parts.hostname or "").lower()

    def redirected(self, url: str, location: str) -> str:
        """Where a redirect leads. Raises FetchFailed where it must not be followed."""
        try:
            target = urljoin(url, location)
            scheme = urlsplit(target).scheme
        except ValueError as error:
            raise FetchFailed("the media server redirects to no address") from error
        if scheme != "https" and not (scheme == "http" and self._plain_allowed):
            raise FetchFailed(f"the media server redirects to {scheme or 'nowhere'}, not to https")
        return target

    def check_address(self, url: str) -> None:
        """Raises FetchFailed for an address that is written into the URL and not allowed."""
        try:
            host = urlsplit(url).hostname
        except ValueError:
            host = None
        if not host:
            raise FetchFailed(f"{url[:80]} is no address of a file")
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return
        if not self.is_allowed(host, host):
            raise FetchFailed(
                f"the file is at the private address {host}, which is not fetched from"
            )

    def is_allowed(self, host: str, address: str) -> bool:
        """Whether `address`, to which `host` leads, may be connected to."""
        ip = ipaddress.ip_address(address.partition("%")[0])
        if ip.is_global or host.lower() == self._api_host:
            return True
        return ip.is_loopback and self._api_is_loopback()

    def _api_is_loopback(self) -> bool:
        if self._api_host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self._api_host).is_loopback
        except ValueError:
            return False


class _PublicResolver(AbstractResolver):
    """Resolves names to allowed addresses only, so that no name leads inside."""

    def __init__(self, rules: _Rules) -> None:
        self._rules = rules
        self._resolver = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        allowed = [entry for entry in found if self._rules.is_allowed(host, entry["host"])]
        if not allowed:
            raise OSError(None, f"{host} leads to a private address")
        return allowed

    async def close(self) -> None:
        await self._resolver.close()


def _words(error: BaseException) -> str:
    text: Any = str(error)
    return text or ("it took too long" if isinstance(error, TimeoutError) else type(error).__name__)
