"""The real ledger on a database that lives in the loop: no thread, and commits that can kill."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from runner.ledger import Ledger, queries
from runner.ledger.schema import prepare

from .loop import Killed

T = TypeVar("T")
LATENCIES_S = {
    "quick": (0.0, 0.0005, 0.002, 0.002, 0.01, 0.05),
    "slow": (0.01, 0.05, 0.1, 0.2),
}


class Dead(Exception):
    """Whoever asks is of a life that has ended."""


@dataclass(slots=True)
class CommitDeath:
    """The process dies at the `number`-th commit from now, before or after it is durable."""

    number: int
    after: bool


class Disk(sqlite3.Connection):
    """The database as it is on disk: it outlives the lives, and only commits reach it."""

    death: CommitDeath | None = None
    given_twice = 0
    dying: Callable[[], None] = staticmethod(lambda: None)

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        """Runs a statement; a COMMIT may be the last thing that the process does."""
        death = self.death
        if sql == queries.BEGIN_SUBMIT:
            return self._begin(*values)
        if sql != "COMMIT" or death is None:
            return super().execute(sql, *values)
        death.number -= 1
        if death.number > 0:
            return super().execute(sql, *values)
        self.death = None
        if death.after:
            super().execute(sql)
        self.dying()
        raise Killed

    def _begin(self, values: dict[str, Any]) -> sqlite3.Cursor:
        """Watches for a job that is to be sent while it is on its way."""
        (state,) = super().execute("SELECT state FROM jobs WHERE job_key = :job", values).fetchone()
        self.given_twice += state in ("submitting", "submitted")
        return super().execute(queries.BEGIN_SUBMIT, values)


def make_disk() -> Disk:
    """An empty ledger."""
    disk = sqlite3.connect(":memory:", isolation_level=None, factory=Disk)
    disk.execute("PRAGMA foreign_keys = ON")
    prepare(disk, ":memory:")
    return disk


class LoopConnection:
    """Stands in for `ledger.connection.Connection`: pieces of work in order, each after a moment."""

    def __init__(
        self, disk: Disk, loop: asyncio.AbstractEventLoop, rng: Random, speed: str
    ) -> None:
        self._disk = disk
        self._latencies_s = LATENCIES_S[speed]
        self._loop = loop
        self._rng = rng
        self._queue: deque[tuple[Callable[[Any], Any], asyncio.Future[Any]]] = deque()
        self.dead = False

    async def call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `work` when its turn comes, like the database thread would."""
        return await self._queued(work)

    def _queued(self, work: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        if self.dead:
            raise Dead
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.append((work, future))
        if len(self._queue) == 1:
            self._serve_soon()
        return future

    def door(self) -> Callable[[Callable[[sqlite3.Connection], None]], object]:
        """Where work is put that tells nobody."""
        if self.dead:
            raise Dead
        return self._queued

    async def close(self) -> None:
        """The disk stays."""

    def _serve_soon(self) -> None:
        self._loop.call_later(self._rng.choice(self._latencies_s), self._serve)

    def _serve(self) -> None:
        if self.dead:
            return
        work, future = self._queue[0]
        try:
            result = work(self._disk)
        except Exception as error:
            if not future.done():
                future.set_exception(error)
        else:
            # A waiter that was cancelled meanwhile has lost only the news.
            if not future.done():
                future.set_result(result)
        self._queue.popleft()
        if self._queue:
            self._serve_soon()


def open_ledger(connection: LoopConnection) -> Ledger:
    """The real ledger over the stand-in."""
    return Ledger(connection, ":memory:")  # type: ignore[arg-type]
