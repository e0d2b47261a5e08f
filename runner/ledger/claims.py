"""What the steps of a run read from the ledger: the jobs that are theirs, and what they must know."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from runner.job import SavedFile
from runner.ledger import queries
from runner.ledger.connection import Connection, translated
from runner.ledger.records import Record, Recorded, recorded_file, work_record

T = TypeVar("T")


class Claims:
    """The reading side of an open ledger: each step finds its jobs by their state.

    Nothing here changes a job; the verbs that do are `Ledger`'s.
    """

    def __init__(self, connection: Connection, path: Path | str) -> None:
        self.path = path
        self._connection = connection

    async def pending(self, manifest: int, after: int, limit: int, now: float) -> list[Record]:
        """The next jobs to send of a manifest, in its order, behind the job with key `after`."""
        values = {"manifest": manifest, "after": after, "limit": limit, "now": now}
        rows = await self._rows(queries.NEXT_PENDING, values)
        return [work_record(row) for row in rows]

    async def next_postponed(self, manifests: Sequence[int], now: float) -> float | None:
        """When the first of the jobs that were put off may be sent."""
        times: list[float] = []
        for manifest in manifests:
            rows = await self._rows(queries.NEXT_POSTPONED, {"manifest": manifest, "now": now})
            times.extend(row[0] for row in rows if row[0] is not None)
        return min(times, default=None)

    async def count_pending(self, manifests: Sequence[int]) -> int:
        """How many jobs of these manifests are still to be sent."""
        rows = [await self._rows(queries.COUNT_PENDING, {"manifest": key}) for key in manifests]
        return sum(int(row[0][0]) for row in rows)

    async def one(self, key: int) -> Record | None:
        """The job with this key."""
        rows = await self._rows(queries.ONE_JOB, {"job": key})
        return work_record(rows[0]) if rows else None

    async def submitted(self) -> list[Record]:
        """Everything the API is working on, whichever manifest wants it."""
        return [work_record(row) for row in await self._rows(queries.SUBMITTED, {})]

    async def in_doubt(self) -> list[Record]:
        """Jobs whose POST may have been accepted."""
        return [work_record(row) for row in await self._rows(queries.IN_DOUBT, {})]

    async def recoverable(self, since: float, leeway_s: float) -> list[Record]:
        """Expired jobs with an id, submitted after `since` and never completed.

        Where only our own clock tells when, it may have been wrong by `leeway_s`.
        """
        rows = await self._rows(queries.RECOVERABLE, {"since": since, "leeway_s": leeway_s})
        return [work_record(row) for row in rows]

    async def submitting_bodies(self) -> set[tuple[str, str]]:
        """Model and canonical parameters of what is being sent right now."""
        return {(row[0], row[1]) for row in await self._rows(queries.SUBMITTING_BODIES, {})}

    async def known_ids(self, request_ids: Iterable[str]) -> set[str]:
        """Which of these ids belong to a job, now or by an earlier attempt."""
        wanted = list(request_ids)

        def work(database: sqlite3.Connection) -> set[str]:
            return {
                request_id
                for request_id in wanted
                if database.execute(queries.IS_KNOWN, {"request_id": request_id}).fetchone()[0]
            }

        return await self.call(work)

    async def witnesses(
        self, model: str, at: float, since: float, until: float, limit: int = 20
    ) -> list[str]:
        """Ids of a model's own requests sent from `since` to `until`, the nearest to `at` first.

        All times are the server's.
        """
        values = {"model": model, "at": at, "since": since, "until": until, "limit": limit}
        return [row[0] for row in await self._rows(queries.WITNESSES, values)]

    async def completed_keys(self, after: int, limit: int) -> list[int]:
        """Keys of jobs whose files are still to be fetched, behind `after`."""
        values = {"after": after, "limit": limit}
        return [row[0] for row in await self._rows(queries.COMPLETED_KEYS, values)]

    async def completed(self, key: int) -> tuple[Record, str, list[SavedFile]] | None:
        """A completed job, the text of its result and the files it is said to have; else None."""

        def work(database: sqlite3.Connection) -> tuple[Record, str, list[SavedFile]] | None:
            values = {"job": key}
            row = database.execute(queries.COMPLETED, values).fetchone()
            if row is None:
                return None
            *job, body = row
            files = database.execute(queries.FILES, values)
            return work_record(tuple(job)), body, [SavedFile(*file) for file in files]

        return await self.call(work)

    async def recorded_files(
        self, manifest: int, after: tuple[int, int], limit: int
    ) -> list[Recorded]:
        """The files that saved and expired jobs of a manifest are said to have, behind `after`."""
        values = {"manifest": manifest, "job": after[0], "n": after[1], "limit": limit}
        rows = await self._rows(queries.RECORDED_FILES, values)
        return [recorded_file(row) for row in rows]

    async def same_files(self, key: int) -> list[tuple[str, int]]:
        """Hashes, as they came, of a job's media that other requests gave as well; how many did."""
        return [(row[0], row[1]) for row in await self._rows(queries.SAME_FILES, {"job": key})]

    async def path_is_taken(self, path: str, key: int) -> bool:
        """Whether a file of another job has this name."""
        return bool(await self._rows(queries.OWNER_OF_PATH, {"path": path, "job": key}))

    async def fact(self, name: str) -> str | None:
        """Something remembered about the ledger as a whole."""
        rows = await self._rows(queries.GET_FACT, {"name": name})
        return str(rows[0][0]) if rows else None

    async def call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `work(database)` in the database thread, its errors translated."""

        def translating(database: sqlite3.Connection) -> T:
            try:
                return work(database)
            except sqlite3.Error as error:
                raise translated(error, self.path) from error

        return await self._connection.call(translating)

    async def _rows(self, query: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        return await self.call(lambda database: database.execute(query, values).fetchall())
