"""How much of all files may be in memory at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio


class Room:
    """Bytes that are handed out in the order of asking; more than there are at all go alone."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = self._left_bytes = size_bytes
        self._waiting: deque[tuple[int, anyio.Event]] = deque()

    @asynccontextmanager
    async def hold(self, wanted_bytes: int) -> AsyncIterator[None]:
        """Waits until there is room for so many bytes, and keeps it."""
        share = min(wanted_bytes, self._size_bytes)
        granted = anyio.Event()
        ticket = (share, granted)
        self._waiting.append(ticket)
        self._grant()
        try:
            await granted.wait()
            yield
        finally:
            if granted.is_set():
                self._left_bytes += share
            else:
                self._waiting.remove(ticket)
            self._grant()

    def _grant(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._left_bytes:
            share, granted = self._waiting.popleft()
            self._left_bytes -= share
            granted.set()
