"""Jobs, ledgers and stand-ins that the tests of the lower floors share."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any

from runner.events import Event as Seen
from runner.governor import Governor, Urgency
from runner.job import Answer, Fault, Job, SavedFile, State
from runner.ledger import Event, Ledger, Planning, Record, Source
from runner.policy.pace import Pace

NOW = 1_790_000_000.0
HOUR_S = 3600.0
OUTPUT = Path("/pictures")


def job(number: int = 0, **changes: Any) -> Job:
    """The `number`-th job of the manifest `m`."""
    values: dict[str, Any] = {
        "id": f"j{number}",
        "manifest": "m",
        "model": "imagen",
        "params": {"prompt": f"prompt {number}"},
        "index": number,
        "output": "{id}.{{ext}}".format(id=changes.get("id", f"j{number}")),
        "source": f"m.yaml:{number + 1}",
    }
    return Job(**{**values, **changes})


def source(name: str = "m") -> Source:
    return Source(name, Path(f"/manifests/{name}.yaml"), "fingerprint", OUTPUT)


async def plan(ledger: Ledger, jobs: Iterable[Job], now: float = NOW) -> list[str]:
    """Stages, checks and adopts; returns the notes."""
    planning, jobs = Planning(ledger), list(jobs)
    await planning.begin()
    await planning.stage(jobs)
    notes = await planning.check(OUTPUT)
    await planning.adopt([source(name) for name in dict.fromkeys(j.manifest for j in jobs)], now)
    await planning.end()
    return notes


async def sql(ledger: Ledger, query: str, *values: Any) -> list[tuple[Any, ...]]:
    return await ledger.call(lambda database: database.execute(query, values).fetchall())


async def column(ledger: Ledger, name: str, job_id: str = "j0") -> Any:
    return (await sql(ledger, f"SELECT {name} FROM jobs WHERE id = ?", job_id))[0][0]  # noqa: S608


async def get(ledger: Ledger, job_id: str = "j0") -> Record:
    """The job as the ledger has it now."""
    rows = await sql(ledger, "SELECT job_key FROM jobs WHERE id = ?", job_id)
    record = await ledger.one(rows[0][0])
    assert record is not None
    return record


async def bring(ledger: Ledger, state: State, job_id: str = "j0") -> Record:
    """Leads a pending job to a state by the ledger's own verbs."""
    record = await get(ledger, job_id)
    event = Event(NOW)
    if state is State.PENDING:
        return record
    if state is not State.FAILED:
        assert await ledger.begin_submit(record, NOW, NOW + HOUR_S)
        record = await get(ledger, job_id)
    if state in (State.SUBMITTED, State.COMPLETED, State.SAVED, State.BLOCKED, State.EXPIRED):
        assert await ledger.accept(record, f"r-{job_id}", event)
        record = await get(ledger, job_id)
    if state in (State.COMPLETED, State.SAVED):
        assert await ledger.complete(record, '{"output":"x"}', Event(NOW + 10), 0.02)
        record = await get(ledger, job_id)
    if state is State.SAVED:
        assert await ledger.save(record, [picture(path=f"{job_id}.png")], Event(NOW + 20))
    if state in (State.FAILED, State.BLOCKED, State.INVALID, State.EXPIRED, State.IN_DOUBT):
        assert await ledger.end(record, state, Event(NOW, detail=f"it is {state}"))
    record = await get(ledger, job_id)
    assert record.state is state
    return record


def picture(n: int = 0, path: str = "a.png") -> SavedFile:
    # Equal hashes of different prompts would be flagged.
    sha256 = hashlib.sha256(path.encode()).hexdigest()
    return SavedFile(n, "https://images.segmind.com/a.png", path, 10, sha256, "image/png")


def answer(status: int, body: Any = None, text: str = "", **more: Any) -> Answer:
    return Answer(status, body, text or str(body or ""), **more)


def html(status: int) -> Answer:
    return Answer(status, None, "an HTML page (Bad Gateway)")


def no_answer(text: str = "Connection reset by peer") -> Answer:
    return Answer(None, text=text, fault=Fault.NO_ANSWER)


def never_left(text: str = "Cannot connect to host") -> Answer:
    return Answer(None, text=text, fault=Fault.NEVER_LEFT)


class StillGovernor(Governor):
    """A governor whose clock stands still until it is moved, and that grants every turn at once."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        super().__init__(Pace(), Random(7), self.seen.append)
        self.time = NOW
        self.turns: list[Urgency] = []

    def now(self) -> float:
        return self.time

    async def turn(self, urgency: Urgency) -> None:
        self.turns.append(urgency)


Reply = Answer | Callable[[], Awaitable[Answer]]


class ScriptedApi:
    """Gives the answers it was told to, one after the other, and remembers what was asked."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.asked: list[tuple[Any, ...]] = []

    async def submit(self, model: str, params: Any) -> Answer:
        return await self._reply("submit", model, params)

    async def status(self, request_id: str) -> Answer:
        return await self._reply("status", request_id)

    async def result(self, request_id: str) -> Answer:
        return await self._reply("result", request_id)

    async def _reply(self, *asked: Any) -> Answer:
        self.asked.append(asked)
        reply = self.replies.pop(0)
        return reply if isinstance(reply, Answer) else await reply()
