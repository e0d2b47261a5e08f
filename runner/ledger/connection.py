"""One database thread that takes whole pieces of work, and commits that share a transaction."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

from runner.errors import LedgerBusy, LedgerError, LedgerUnreadable

T = TypeVar("T")
Statement = tuple[str, dict[str, Any]]
# How many rows each statement of a write changed; none where the job was in another state.
Changes = list[int]
Outcome = Changes | Exception

BATCH_LIMIT = 500
BUSY_TIMEOUT_S = 10.0


class Connection(aiosqlite.Connection):
    """aiosqlite's connection with two doors for pieces of work: one by one, and all that wait together."""

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connector, iter_chunk_size=64)
        self._waiting: deque[tuple[Callable[[sqlite3.Connection], Any], asyncio.Future[Any]]]
        self._waiting = deque()
        self._posted = False

    async def call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `work` in the database thread, for itself, and returns its value."""
        result: T = await self._execute(work, self._conn)  # type: ignore[no-untyped-call]
        return result

    def post(self, work: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Runs `work` there with whatever else was posted, in that order; its value is to come."""
        if not self._running:
            raise ValueError("the connection is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._waiting.append((work, future))
        if not self._posted:
            self._posted = True
            self._tx.put_nowait((None, partial(self._work_off, loop)))
        return future

    def _work_off(self, loop: asyncio.AbstractEventLoop) -> None:
        # Cleared before the queue is read: what comes later posts anew.
        self._posted = False
        futures: list[asyncio.Future[Any]] = []
        outcomes: list[Any] = []
        for _ in range(len(self._waiting)):
            work, future = self._waiting.popleft()
            try:
                outcomes.append(work(self._conn))
            except Exception as error:
                outcomes.append(error)
            futures.append(future)
        loop.call_soon_threadsafe(_resolve, futures, outcomes)


async def connect(path: Path | str, *, durable: bool = True) -> Connection:
    """Opens the database. `durable`: each commit is on disk before it returns."""

    def open_database() -> sqlite3.Connection:
        database = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        try:
            # NORMAL would let a power cut take back an intent whose POST has already gone out.
            database.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
            database.execute("PRAGMA foreign_keys = ON")
            database.execute("PRAGMA temp_store = FILE")
        except sqlite3.Error:
            database.close()
            raise
        return database

    connection = Connection(open_database)
    try:
        await connection
    except sqlite3.Error as error:
        # The thread of a connection that failed still has a word for the loop, which must be there.
        thread: Any = getattr(connection, "_thread", connection)
        await asyncio.to_thread(thread.join)
        raise translated(error, path) from error
    return connection


def translated(error: sqlite3.Error, path: Path | str) -> LedgerError | LedgerBusy:
    """The ledger's own error for what SQLite reports, with the next step."""
    text = str(error)
    lowered = text.lower()
    if "locked" in lowered:
        return LedgerBusy(f"the ledger {path} is in use by another program; try again later")
    if "full" in lowered:
        return LedgerError(
            f"the disk of the ledger {path} is full; free some space and run again, nothing is lost"
        )
    if "readonly" in lowered or "read-only" in lowered:
        return LedgerUnreadable(
            f"the ledger {path} cannot be written; check its permissions and those of its folder"
        )
    if "unable to open" in lowered:
        return LedgerUnreadable(
            f"the ledger {path} cannot be opened; check its folder and permissions"
        )
    if "not a database" in lowered or "malformed" in lowered:
        return LedgerUnreadable(
            f"{path} is not a ledger or is damaged ({text}); keep a copy, and see `runner doctor` or name "
            "another with --ledger"
        )
    return LedgerError(f"the ledger {path} failed: {text}")


@dataclass(frozen=True, slots=True)
class Write:
    """One transition: the first statement compares and sets, the others follow only if it did."""

    statements: Sequence[Statement]

    def apply(self, database: sqlite3.Connection) -> Changes:
        """Runs the statements; the rows that each changed, empty when the job was in another state."""
        first, *others = self.statements
        if database.execute(*first).rowcount != 1:
            return []
        return [1, *(database.execute(*statement).rowcount for statement in others)]


class GroupCommit:
    """Lets writes that arrive while a commit is under way share the next one.

    A lone write is committed at once; under load the batches fill themselves, because the thread
    drains whatever has gathered while it was busy with the disk.
    """

    def __init__(self, connection: Connection, path: Path | str) -> None:
        self._connection = connection
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[Write, asyncio.Future[Changes]]] = deque()
        self._posted = False

    async def commit(self, write: Write) -> Changes:
        """What the write changed, once it is on disk; empty when the job was not in the expected state."""
        future: asyncio.Future[Changes] = self._loop.create_future()
        self._waiting.append((write, future))
        if not self._posted:
            self._posted = True
            await self._connection.call(self._flush)
        return await future

    def _flush(self, database: sqlite3.Connection) -> None:
        # Cleared before the queue is drained: a write that comes later posts a flush of its own.
        self._posted = False
        # Only what waits by now, or whoever posted this flush would wait for everybody after it.
        left = len(self._waiting)
        while left:
            size = min(left, BATCH_LIMIT)
            left -= size
            batch = [self._waiting.popleft() for _ in range(size)]
            outcomes = self._transaction(database, [write for write, _ in batch])
            self._loop.call_soon_threadsafe(_resolve, [future for _, future in batch], outcomes)

    def _transaction(self, database: sqlite3.Connection, writes: list[Write]) -> list[Outcome]:
        try:
            with transaction(database):
                return [write.apply(database) for write in writes]
        except sqlite3.OperationalError as error:
            # The disk or a lock: it would be the same for each of them.
            return [translated(error, self._path) for _ in writes]
        except Exception as error:
            # One of them cannot be written at all, which is no reason to lose the others.
            if len(writes) > 1:
                return [self._transaction(database, [write])[0] for write in writes]
            if isinstance(error, sqlite3.Error):
                return [translated(error, self._path)]
            return [error]


def _resolve(futures: Sequence[asyncio.Future[Any]], outcomes: Sequence[Any]) -> None:
    for future, outcome in zip(futures, outcomes, strict=True):
        # A waiter that was cancelled meanwhile has lost only the news, not the write.
        if future.done():
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


class transaction:  # noqa: N801  reads as a word in `with transaction(database):`
    """BEGIN … COMMIT, or ROLLBACK when the body or the commit fails.

    `mode` DEFERRED leaves the file alone while only temporary tables are written.
    """

    def __init__(self, database: sqlite3.Connection, mode: str = "IMMEDIATE") -> None:
        self._database = database
        self._mode = mode

    def __enter__(self) -> None:
        self._database.execute(f"BEGIN {self._mode}")

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is None:
                self._database.execute("COMMIT")
        finally:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
