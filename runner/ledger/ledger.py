"""The ledger: what was intended, sent, answered and saved, durable before anything depends on it.

Every verb is one transaction that compares the state before it sets a new one; it returns False when
the job was no longer where the caller thought, and then nothing was written. `now` is an argument: the
store knows no clock. One process writes at a time (see `lock`); the verbs name a job by its key alone,
so that a store shared by several runners can add an owner and a lease to each job behind them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.errors import RunnerError
from runner.job import TRANSITIONS, Answer, SavedFile, State
from runner.ledger import queries
from runner.ledger.claims import Claims
from runner.ledger.connection import (
    Changes,
    Connection,
    GroupCommit,
    Statement,
    Write,
    connect,
    transaction,
)
from runner.ledger.records import Record
from runner.ledger.schema import prepare

DETAIL_LIMIT = 500


@dataclass(frozen=True, slots=True)
class Event:
    """What goes into a job's history with a transition: when, the HTTP status if any, and why."""

    at: float
    status: int | None = None
    detail: str | None = None
    request_id: str | None = None

    @classmethod
    def of(cls, at: float, answer: Answer, detail: str = "") -> Event:
        """The event of an answer that just came."""
        return cls(at, answer.status, detail or answer.text or None)


@dataclass(frozen=True, slots=True)
class Saved:
    """True when a job was saved; `is_flagged` when another request gave one of its files as well."""

    moved: bool
    is_flagged: bool

    def __bool__(self) -> bool:
        return self.moved


@dataclass(frozen=True, slots=True)
class Span:
    """The server's times between which a POST may have been accepted; None where they are not known."""

    since: float | None
    until: float | None

    def values(self) -> dict[str, float | None]:
        """As the ledger's statements name them."""
        return {"server_at": self.since, "server_until": self.until}


UNKNOWN = Span(None, None)


class Ledger(Claims):
    """A ledger that is open; made by `Ledger.open`, ended by `close` or `async with`."""

    def __init__(self, connection: Connection, path: Path | str) -> None:
        super().__init__(connection, path)
        self._commits = GroupCommit(connection, path)

    @classmethod
    async def open(cls, path: Path | str, *, durable: bool = True) -> Ledger:
        """Opens or makes the ledger. Raises a LedgerError that says what to do."""
        connection = await connect(path, durable=durable)
        ledger = cls(connection, path)
        try:
            await ledger.call(lambda database: prepare(database, path))
        except BaseException:
            await connection.close()
            raise
        return ledger

    async def close(self) -> None:
        """Finishes what is queued and closes the file."""
        await self._connection.close()

    async def __aenter__(self) -> Ledger:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def begin_submit(
        self, record: Record, now: float, deadline: float, server_at: float | None = None
    ) -> bool:
        """The intent to send a job, on disk before its POST; `deadline` is when the API forgets it.

        `server_at` is what `now` is by the server's clock, as far as it is known.
        """
        values = {"job": record.key, "at": now, "deadline": deadline, "server_at": server_at}
        statement = (queries.BEGIN_SUBMIT, values)
        return await self._move(record, State.SUBMITTING, statement, Event(now))

    async def accept(
        self, record: Record, request_id: str, event: Event, server_at: float | None = None
    ) -> bool:
        """The API took the job under this id. `server_at` counts where the intent lacks it."""
        values = {"job": record.key, "request_id": request_id, "server_at": server_at}
        statement = (queries.ACCEPT, {**values, "deadline": record.deadline})
        event = Event(event.at, event.status, event.detail, request_id)
        return await self._move(record, State.SUBMITTED, statement, event)

    async def refuse(
        self, record: Record, not_before: float, event: Event, *, counted: bool = True
    ) -> bool:
        """The API answered that it did not take the job; it may go again at `not_before`.

        `counted`: it uses up one of the job's submit attempts, as a held rate does not.
        """
        values = {"refused": int(counted), "unsent": 0}
        return await self._postpone(record, not_before, event, values)

    async def unsend(self, record: Record, not_before: float, event: Event) -> bool:
        """The POST provably never left: as if the job had not been sent."""
        return await self._postpone(record, not_before, event, {"refused": 0, "unsent": 1})

    async def doubt(self, record: Record, event: Event, span: Span = UNKNOWN) -> bool:
        """The POST may have been accepted: nothing is sent again unless somebody decides so.

        `span`: the server's times between which it was.
        """
        values = {"job": record.key, "error": _short(event.detail), **span.values()}
        return await self._move(record, State.IN_DOUBT, (queries.DOUBT, values), event)

    async def date_doubt(self, record: Record, span: Span) -> bool:
        """When the POST of a job in doubt may have been accepted, as it is known only now."""
        values = {"job": record.key, **span.values()}
        return bool(await self._commits.commit(Write([(queries.DATE_DOUBT, values)])))

    async def hold(self, record: Record, event: Event) -> bool:
        """The history does not settle a doubt; `event.detail` is why."""
        statement = (queries.HOLD, {"job": record.key, "error": _short(event.detail)})
        history = _history(record.key, "held", event)
        return bool(await self._commits.commit(Write([statement, history])))

    async def find(
        self,
        record: Record,
        submitted_at: float,
        deadline: float,
        event: Event,
        server_at: float | None = None,
    ) -> bool:
        """The history says that a job in doubt was taken, as `event.request_id`."""
        values = {
            "request_id": event.request_id,
            "submitted_at": submitted_at,
            "deadline": deadline,
            "server_at": server_at,
        }
        return await self._move(
            record, State.SUBMITTED, (queries.FIND, {"job": record.key, **values}), event
        )

    async def requeue(self, record: Record, event: Event) -> bool:
        """A job in doubt or expired is to be sent again; `event.detail` is why that is right."""
        statement = (queries.REQUEUE, {"job": record.key, "before": record.state})
        return await self._move(record, State.PENDING, statement, event)

    async def end(
        self, record: Record, after: State, event: Event, cost: float | None = None
    ) -> bool:
        """The job ends short of saved; `event.detail` is why."""
        values = {"job": record.key, "before": record.state, "after": after}
        statement = (
            queries.END,
            {**values, "error": _short(event.detail), "cost": cost, "request_id": event.request_id},
        )
        return await self._move(record, after, statement, event)

    async def complete(
        self, record: Record, body: str, event: Event, cost: float | None = None
    ) -> bool:
        """The result is known; `body` is its JSON text."""
        complete = (
            queries.COMPLETE,
            {
                "job": record.key,
                "before": record.state,
                "at": event.at,
                "cost": cost,
                "request_id": event.request_id,
            },
        )
        result = (queries.PUT_RESULT, {"job": record.key, "body": body})
        return await self._move(record, State.COMPLETED, complete, event, result)

    async def save(self, record: Record, files: Sequence[SavedFile], event: Event) -> Saved:
        """Every file of the job is on disk under its final name, checked."""
        statement = (
            queries.SAVE,
            {"job": record.key, "before": record.state, "files": len(files)},
        )
        rows: list[Statement] = [(queries.DROP_FILES, {"job": record.key})]
        for file in files:
            values = {
                "n": file.n,
                "url": file.url,
                "path": file.path,
                "size_bytes": file.size_bytes,
                "sha256": file.sha256,
                "content_type": file.content_type,
                "received_sha256": file.received_sha256,
            }
            rows.append((queries.PUT_FILE, {"job": record.key, **values}))
        flag = (queries.FLAG_SAME_FILES, {"job": record.key, "at": event.at})
        changes = await self._change(record, State.SAVED, statement, event, *rows, flag)
        return Saved(bool(changes), is_flagged=bool(changes) and changes[len(rows) + 1] > 0)

    async def reopen(self, key: int, now: float, why: str) -> bool:
        """A saved file is gone from the disk: the job's files are to be fetched again."""
        statement = (queries.REOPEN, {"job": key, "error": why})
        history = _history(key, "completed", Event(now, detail=why))
        return bool(await self._commits.commit(Write([statement, history])))

    async def come_back(self, key: int, now: float) -> bool:
        """The files of an expired job are on disk again as they were recorded."""
        statement = (queries.SAVE, {"job": key, "before": State.EXPIRED, "files": None})
        history = _history(key, "saved", Event(now, detail="its files are on disk again"))
        return bool(await self._commits.commit(Write([statement, history])))

    async def explain(self, record: Record, event: Event) -> bool:
        """Why a completed job is not saved yet."""
        statement = (queries.EXPLAIN, {"job": record.key, "error": _short(event.detail)})
        history = _history(record.key, "download", event)
        return bool(await self._commits.commit(Write([statement, history])))

    async def doubt_interrupted(self, now: float) -> int:
        """Start of a run: what was being sent when the last run died is in doubt. Says how many."""
        detail = "the run ended between the intent to send it and the API's answer"
        values = {"at": now, "detail": detail}

        def work(database: sqlite3.Connection) -> int:
            with transaction(database):
                database.execute(queries.DOUBT_INTERRUPTED_HISTORY, values)
                return database.execute(queries.DOUBT_INTERRUPTED, values).rowcount

        return await self.call(work)

    async def forget_put_off(self) -> None:
        """Start of a run: what an earlier one put off may go at once, for its clock may have been another."""
        await self._rows(queries.FORGET_PUT_OFF, {})

    async def retime(self, ahead_s: float, tolerance_s: float) -> None:
        """Tells the hours of what is in flight by the clock of now; the server's is `ahead_s` ahead of it."""
        await self._rows(queries.RETIME, {"ahead_s": ahead_s, "tolerance_s": tolerance_s})

    async def stop_model(
        self, model: str, manifests: Sequence[int], reason: str, now: float
    ) -> int:
        """A model is closed: its waiting jobs end failed with the reason. Says how many."""
        values = {"model": model, "reason": _short(reason), "at": now}

        def work(database: sqlite3.Connection) -> int:
            with transaction(database):
                keys = _in(manifests)
                database.execute(queries.STOP_MODEL_HISTORY.format(manifests=keys), values)
                return database.execute(queries.STOP_MODEL.format(manifests=keys), values).rowcount

        return await self.call(work)

    async def remember(self, name: str, value: str) -> None:
        """Remembers something about the ledger as a whole."""
        await self._rows(queries.PUT_FACT, {"name": name, "value": value})

    async def _postpone(
        self, record: Record, not_before: float, event: Event, values: dict[str, int]
    ) -> bool:
        base = {"job": record.key, "not_before": not_before, "error": _short(event.detail)}
        return await self._move(
            record, State.PENDING, (queries.POSTPONE, {**base, **values}), event
        )

    async def _move(
        self, record: Record, after: State, first: Statement, event: Event, *others: Statement
    ) -> bool:
        return bool(await self._change(record, after, first, event, *others))

    async def _change(
        self, record: Record, after: State, first: Statement, event: Event, *others: Statement
    ) -> Changes:
        if after not in TRANSITIONS[record.state]:
            raise RunnerError(f"job {record.id} cannot go from {record.state} to {after}")
        history = _history(record.key, after, event)
        return await self._commits.commit(Write([first, *others, history]))


def _history(key: int, action: str, event: Event) -> Statement:
    values = {
        "job": key,
        "at": event.at,
        "action": action,
        "status": event.status,
        "detail": _short(event.detail),
        "request_id": event.request_id,
    }
    return (queries.RECORD_ATTEMPT, values)


def _short(text: str | None) -> str | None:
    if text is None or len(text) <= DETAIL_LIMIT:
        return text
    return text[: DETAIL_LIMIT - 1] + "…"


def _in(keys: Sequence[int]) -> str:
    return ", ".join(str(int(key)) for key in keys) or "NULL"
