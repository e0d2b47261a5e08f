"""A media host that answers byte by byte as a test tells it, and remembers what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Self

Reply = Callable[[asyncio.StreamWriter], Awaitable[None]]


class MediaHost:
    """Gives the replies in their order, the last one again and again; use as `async with`."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.asked: list[tuple[str, dict[str, str]]] = []
        self._open: set[asyncio.StreamWriter] = set()
        self._handlers: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.origin = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in list(self._open):
            writer.close()
        await self._server.wait_closed()
        await asyncio.gather(*self._handlers)

    @property
    def headers(self) -> list[dict[str, str]]:
        """The headers of each request, their names in lower case."""
        return [headers for _, headers in self.asked]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        if task := asyncio.current_task():
            self._handlers.add(task)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.strip().split("\r\n")
            pairs = (line.partition(":") for line in lines)
            self.asked.append(
                (first.split(" ")[1], {name.lower(): value.strip() for name, _, value in pairs})
            )
            reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
            await reply(writer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            self._open.discard(writer)


def reply(
    body: bytes = b"",
    status: int = 200,
    *,
    length: int | None = -1,
    headers: Mapping[str, str] | None = None,
    pieces: int = 1,
    every_s: float = 0.0,
    hang_s: float = 0.0,
) -> Reply:
    """An answer whose head promises `length` bytes (None: nothing) and whose body is `body`.

    The body comes in `pieces`, one `every_s` seconds; then the connection stays open for `hang_s`.
    """

    async def send(writer: asyncio.StreamWriter) -> None:
        promised = len(body) if length == -1 else length
        lines = [f"HTTP/1.1 {status} Said so", "Connection: close"]
        lines += [f"Content-Length: {promised}"] if promised is not None else []
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        size = max(1, -(-len(body) // pieces))
        for start in range(0, len(body), size):
            writer.write(body[start : start + size])
            await writer.drain()
            if every_s:
                await asyncio.sleep(every_s)
        for _ in range(round(hang_s / 0.01)):
            if writer.is_closing():
                break
            await asyncio.sleep(0.01)

    return send


def rest(body: bytes, start: int, *, headers: Mapping[str, str] | None = None, **how: int) -> Reply:
    """A 206 with what follows of a body after its first `start` bytes."""
    span = f"bytes {start}-{len(body) - 1}/{len(body)}"
    return reply(body[start:], 206, headers={"Content-Range": span, **(headers or {})}, **how)


def moved(location: str, status: int = 302) -> Reply:
    """A redirect."""
    return reply(status=status, headers={"Location": location})
