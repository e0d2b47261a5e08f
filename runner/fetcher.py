"""Fetches media: a session of its own that never sees the key and goes nowhere private."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import shutil
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from runner import __version__
from runner.characters import mended
from runner.disk import on_disk
from runner.policy.addresses import AddressRules
from runner.policy.ranges import Transfer, begun
from runner.policy.speed import Speed

REDIRECT_LIMIT = 5
WRITE_BYTES = 1 << 20
CONNECTIONS = 64
GONE = frozenset({403, 404, 410})
T = TypeVar("T")
# What is found in a file of a declared type; its content where that is at hand, else it is on disk.
Look = Callable[[str | None, bytes | None], T]
_WRITTEN = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server may ask of our patience and of our disk."""

    connect_timeout_s: float = 15.0
    read_timeout_s: float = 60.0
    # A drip keeps every timeout quiet; the slowest real line brings more than this.
    slowest_bytes_s: float = 1024.0
    slow_window_s: float = 30.0
    size_bytes: int = 8 << 30


class FetchFailed(Exception):
    """A medium did not come whole.

    `gone` when the server says that it has it no more; `can_go_on` when its beginning is on disk, and
    the next `fetch` to the same place can bring the rest.
    """

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(mended(reason))
        self.status = status
        self.gone = status in GONE
        self.can_go_on = False


class Fetcher:
    """Fetches media on behalf of an API at `api_origin`; use as `async with`."""

    def __init__(self, api_origin: str, limits: Limits | None = None) -> None:
        self._api_origin = api_origin
        self._rules = AddressRules(api_origin)
        self._limits = limits or Limits()
        self._session: aiohttp.ClientSession | None = None
        self._head_timeout_s = self._limits.connect_timeout_s + self._limits.read_timeout_s
        # What was begun in this run; what lies on disk from another one is not trusted.
        self._begun: dict[Path, Transfer] = {}

    async def __aenter__(self) -> Fetcher:
        connector = aiohttp.TCPConnector(limit=CONNECTIONS, resolver=_PublicResolver(self._rules))
        limits = self._limits
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            # Compressed on the way, its length would say nothing about the file's.
            headers={"User-Agent": f"segmind-runner/{__version__}", "Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(
                total=None,
                sock_connect=limits.connect_timeout_s,
                sock_read=limits.read_timeout_s,
            ),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        # A beginning is of use only as long as somebody remembers what it is the beginning of.
        for part in self._begun:
            with suppress(OSError):
                part.unlink()
        if self._session is not None:
            await self._session.close()

    async def fetch(self, url: str, part: Path, look: Look[T]) -> T:
        """Writes what is at `url` to `part`, durably; returns what `look` finds in it then.

        `look` is given the declared content type and the content of a small file, in a thread: whoever
        writes can look as well. Goes on where an earlier fetch of this run broke off, if the server can.
        Raises FetchFailed when it does not come whole, OSError when it cannot be written, and whatever
        `look` raises.
        """
        url = f"{self._api_origin}{url}" if url.startswith("/") else url
        try:
            found = await self._fetch(url, part, look)
        except FetchFailed as failure:
            transfer = self._begun.get(part)
            failure.can_go_on = transfer is not None and transfer.can_go_on
            raise
        except Exception:
            self._begun.pop(part, None)
            raise
        self._begun.pop(part, None)
        return found

    async def _fetch(self, url: str, part: Path, look: Look[T]) -> T:
        old = self._begun.get(part)
        if old is not None and not (old.url == url and old.can_go_on and await _has(part, old)):
            old = None
        try:
            response, transfer = await self._answer(url, old.asking() if old else {}), None
            if old and response.status == 206 and old.is_continued_by(response.headers):
                transfer = old
            elif old and response.status in (206, 416):
                # It has no rest of just this file: from the beginning.
                response.close()
                response = await self._answer(url, {})
        except (aiohttp.ClientError, TimeoutError, UnicodeError) as error:
            raise FetchFailed(f"the file did not come: {_words(error)}") from error
        # Out here: a disk on a network may be what took too long.
        async with response:
            if transfer is None and response.status != 200:
                words = f"the media server answered HTTP {response.status}"
                raise FetchFailed(words, response.status)
            transfer = transfer or begun(url, response.headers, response.content_length)
            return await self._receive(response, part, transfer, look)

    async def _answer(self, url: str, headers: dict[str, str]) -> aiohttp.ClientResponse:
        """The answer at the end of all redirects, its body still to come."""
        if self._session is None:
            raise RuntimeError("the fetcher is used outside `async with`")
        target = _parsed(url)
        for _ in range(REDIRECT_LIMIT + 1):
            if objection := self._rules.objection(target.scheme, target.raw_host):
                raise FetchFailed(f"{str(target)[:80] or 'nothing'} is {objection}")
            # A head that drips keeps the other timeouts quiet.
            async with asyncio.timeout(self._head_timeout_s):
                response = await self._session.get(target, headers=headers, allow_redirects=False)
            location = response.headers.get("Location")
            if not (300 <= response.status < 400 and location):
                return response
            response.close()
            target = _parsed(location, target)
            if objection := self._rules.redirect_objection(target.scheme):
                raise FetchFailed(objection)
        raise FetchFailed(f"more than {REDIRECT_LIMIT} redirects")

    async def _receive(
        self,
        response: aiohttp.ClientResponse,
        part: Path,
        transfer: Transfer,
        look: Look[T],
    ) -> T:
        total, limit = transfer.total_bytes, self._limits.size_bytes
        if total is not None and total > limit:
            raise FetchFailed(f"the file has {total:,} bytes; more than {limit:,} are not fetched")
        file = _Part(part, transfer)
        try:
            if total is None or total - transfer.received_bytes > WRITE_BYTES:
                # That there is no room for it should be known before it comes.
                await on_disk(file.open)
            self._begun[part] = transfer
            rest = await self._pour(response, file)
            declared = response.headers.get("Content-Type")
            # A small file is opened, written, synced and looked at in one go.
            return await on_disk(file.finish, rest, partial(look, declared))
        finally:
            file.close()

    async def _pour(self, response: aiohttp.ClientResponse, file: _Part) -> bytes:
        """Writes what comes but for the rest, which it returns; what ends it early is written whole."""
        limits, buffer, transfer = self._limits, bytearray(), file.transfer
        time = asyncio.get_running_loop().time
        speed = Speed(limits.slowest_bytes_s, limits.slow_window_s, time())
        failure: Exception
        try:
            async for chunk in response.content.iter_any():
                buffer += chunk
                if transfer.received_bytes + len(buffer) > limits.size_bytes:
                    transfer.validator = None
                    raise FetchFailed(f"more than {limits.size_bytes:,} bytes came")
                if objection := speed.objection(len(chunk), time()):
                    raise FetchFailed(objection)
                if len(buffer) >= WRITE_BYTES:
                    await on_disk(file.write, bytes(buffer))
                    buffer.clear()
                    # That the disk is slow says nothing of the server.
                    speed.restart(time())
            return bytes(buffer)
        except (aiohttp.ClientError, TimeoutError, FetchFailed) as error:
            failure = error
        await on_disk(file.write, bytes(buffer))
        if isinstance(failure, TimeoutError):
            still = f"{limits.read_timeout_s:g} s"
            raise FetchFailed(f"{_only(transfer)}, then nothing for {still}") from failure
        if isinstance(failure, aiohttp.ClientError):
            raise FetchFailed(_only(transfer)) from failure
        raise failure


class _Part:
    """A file that is being written, opened when the first bytes are there; for threads."""

    def __init__(self, path: Path, transfer: Transfer) -> None:
        self.transfer = transfer
        self._path = path
        self._file: int | None = None

    def open(self) -> int:
        """Opens the file where the transfer goes on. Raises OSError, also when the rest has no room."""
        if self._file is None:
            self._file = _open(self._path, self.transfer)
        return self._file

    def write(self, data: bytes) -> None:
        """Adds what came."""
        file, view = self.open(), memoryview(data)
        while view:
            view = view[os.write(file, view) :]
        self.transfer.received_bytes += len(data)

    def finish(self, rest: bytes, look: Callable[[bytes | None], T]) -> T:
        """Adds the rest, syncs the whole file and looks at it. Raises FetchFailed if that is not all."""
        whole = rest if self.transfer.received_bytes == 0 else None
        self.write(rest)
        total = self.transfer.total_bytes
        if total is not None and self.transfer.received_bytes != total:
            raise FetchFailed(_only(self.transfer))
        os.fsync(self.open())
        self.close()
        return look(whole)

    def close(self) -> None:
        """Closes the file, if it is open."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


class _PublicResolver(AbstractResolver):
    """Resolves names to allowed addresses only, so that no name leads inside."""

    def __init__(self, rules: AddressRules) -> None:
        self._rules = rules
        self._resolver = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        allowed = [entry for entry in found if self._rules.allows(host, entry["host"])]
        if not allowed:
            raise OSError(None, f"{host} leads to a private address")
        return allowed

    async def close(self) -> None:
        await self._resolver.close()


def _parsed(text: str, base: URL | None = None) -> URL:
    """The URL as the connection will understand it: nobody else's reading of it is checked."""
    try:
        # Sent as it is written where that can be: a signature in it may cover every character.
        url = URL(text, encoded=_WRITTEN.fullmatch(text) is not None)
        url = base.join(url) if base else url
        # Both are parsed when they are first asked for.
        _ = url.raw_host, url.port
        return url
    except ValueError as error:
        raise FetchFailed(f"{text[:80]} is no address of a file") from error


async def _has(part: Path, transfer: Transfer) -> bool:
    def has() -> bool:
        return part.is_file() and part.stat().st_size >= transfer.received_bytes

    return await on_disk(has)


def _open(part: Path, transfer: Transfer) -> int:
    flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0)
    total, received = transfer.total_bytes, transfer.received_bytes
    if received == 0 and total is not None and total <= WRITE_BYTES:
        # Of small files there may be many at once: whatever is asked for them makes all threads wait.
        with suppress(FileNotFoundError):
            return os.open(part, flags | os.O_TRUNC, 0o666)
    part.parent.mkdir(parents=True, exist_ok=True)
    if total is not None:
        left, free = total - received, shutil.disk_usage(part.parent).free
        if left > free:
            raise OSError(errno.ENOSPC, f"{left:,} bytes are to come, {free:,} are free")
    file = os.open(part, flags, 0o666)
    os.ftruncate(file, received)
    os.lseek(file, received, os.SEEK_SET)
    return file


def _only(transfer: Transfer) -> str:
    whole = "all" if transfer.total_bytes is None else f"{transfer.total_bytes:,}"
    return f"only {transfer.received_bytes:,} of {whole} bytes came"


def _words(error: BaseException) -> str:
    return str(error) or (
        "it took too long" if isinstance(error, TimeoutError) else type(error).__name__
    )
