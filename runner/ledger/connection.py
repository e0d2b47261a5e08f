"""One database thread that takes whole pieces of work, and commits that share a transaction."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import aiosqlite
import anyio

from runner.characters import mended
from runner.errors import LedgerBusy, LedgerError, LedgerUnreadable

T = TypeVar("T")
Work = TypeVar("Work")
Statement = tuple[str, dict[str, Any]]
# How many rows each statement of a write changed; none where the job was in another state.
Changes = list[int]
Outcome = Changes | Exception

BATCH_LIMIT = 500
BUSY_TIMEOUT_S = 10.0


class Connection(aiosqlite.Connection):
    """aiosqlite's connection, which takes whole pieces of work: all that wait cross over together."""

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connector, iter_chunk_size=64)
        self._gathered = Gathering(self.door, _one_by_one)

    async def call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `work` in the database thread with whatever else waits, in that order; returns its value."""
        result: T = await self._gathered.add(work)
        return result

    async def close(self) -> None:
        """Closes when all that is queued is done; whoever is cancelled waits for that."""
        with anyio.CancelScope(shield=True):
            await super().close()

    def door(self) -> Callable[[Callable[[sqlite3.Connection], None]], None]:
        """Where work is put that tells nobody. Raises ValueError once the connection is closed."""
        if not self._running:
            raise ValueError("the connection is closed")
        # Found here: in the thread it would be too late to say that it is gone.
        database = self._conn
        return lambda work: self._tx.put_nowait((None, partial(work, database)))


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

    def in_whole_characters(self) -> Write:
        """The same, of texts that the database takes."""
        return Write(
            [
                (sql, {k: mended(v) if isinstance(v, str) else v for k, v in values.items()})
                for sql, values in self.statements
            ]
        )


class Gathering(Generic[Work]):
    """Work for the database thread that is done together with whatever else has gathered by then.

    A lone piece goes at once; under load the batches fill themselves, because the thread takes all that
    has come while it was busy. `do` returns an outcome for each piece, in the thread.
    """

    def __init__(
        self,
        door: Callable[[], Callable[[Callable[[sqlite3.Connection], None]], None]],
        do: Callable[[sqlite3.Connection, list[Work]], Sequence[Any]],
    ) -> None:
        self._door = door
        self._do = do
        self._waiting: deque[tuple[Work, asyncio.Future[Any]]] = deque()
        self._is_sent = False

    def add(self, work: Work) -> asyncio.Future[Any]:
        """What comes of a piece of work; an outcome that is an exception is raised."""
        # Found first: once the work is noted nothing may fail, for the thread may be at it.
        send = self._door()
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._waiting.append((work, future))
        if not self._is_sent:
            # Noted first: the thread may be through with it before this one goes on.
            self._is_sent = True
            send(partial(self._do_all, loop))
        return future

    def _do_all(self, loop: asyncio.AbstractEventLoop, database: sqlite3.Connection) -> None:
        # Cleared before the queue is read: what comes later is sent for anew.
        self._is_sent = False
        # Only what waits by now, or the first would wait for everybody after it.
        left = len(self._waiting)
        while left:
            batch = [self._waiting.popleft() for _ in range(min(left, BATCH_LIMIT))]
            left -= len(batch)
            outcomes = self._do(database, [work for work, _ in batch])
            loop.call_soon_threadsafe(_resolve, [future for _, future in batch], outcomes)


def _one_by_one(
    database: sqlite3.Connection, works: Sequence[Callable[[sqlite3.Connection], Any]]
) -> list[Any]:
    outcomes: list[Any] = []
    for work in works:
        try:
            outcomes.append(work(database))
        except Exception as error:
            outcomes.append(error)
    return outcomes


class GroupCommit:
    """Lets writes that arrive while a commit is under way share the next one."""

    def __init__(self, connection: Connection, path: Path | str) -> None:
        self._path = path
        self._gathered = Gathering(connection.door, self._transaction)

    def commit(self, write: Write) -> asyncio.Future[Changes]:
        """What the write changed, once it is on disk; empty when the job was not in the expected state."""
        return self._gathered.add(write)

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
            if isinstance(error, UnicodeEncodeError):
                return self._transaction(database, [writes[0].in_whole_characters()])
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
