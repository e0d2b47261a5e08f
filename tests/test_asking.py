"""The loops that ask: whoever can be asked now is not left to wait for a bell that nobody rings."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest
from ledgers import NOW, StillGovernor, answer, bring, job, plan

from runner.archive import Archive
from runner.engine.asking import Asking
from runner.governor import Clock, Governor
from runner.job import Answer, State, StepResult
from runner.ledger import Ledger, Record
from runner.policy.latencies import ENOUGH
from runner.policy.pace import Pace
from runner.policy.polling import PollSchedule
from runner.poller import Pages, Poller


class AheadClock(Clock):
    """A clock by which the job has worked for nearly as long as its like."""

    def __init__(self) -> None:
        super().__init__()
        self._ahead_s = NOW + 34.0 - time.time()

    def wall(self) -> float:
        """Our epoch time."""
        return time.time() + self._ahead_s


class Working:
    """An API at which every job still works."""

    async def status(self, request_id: str) -> Answer:
        return answer(200, {"status": "PROCESSING", "request_id": request_id})


class Down(Working):
    """A history that is down beside it."""

    async def history(self, _: Any) -> Answer:
        return answer(503, {"error": "down"})


class Wordless(Working):
    """A history that tells of an end without a file."""

    async def history(self, query: Any) -> Answer:
        row = {"model_name": "imagen", "model_status": "COMPLETED", "generation_url": None}
        ids = ["r-j0", "older"] if query.page == 1 else []
        times = {"r-j0": NOW + 1, "older": NOW - 5}
        made = {key: datetime.fromtimestamp(at, UTC).isoformat() for key, at in times.items()}
        rows = [row | {"request_id": each, "model_created": made[each]} for each in ids]
        return answer(200, {"data": rows})


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    async with await Ledger.open(tmp_path / "l.db", durable=False) as opened:
        await plan(opened, [job(0)])
        yield opened


async def is_asked(ledger: Ledger, poller: Poller, api: Any, governor: Governor) -> None:
    """Returns when the loops have asked for a job itself."""
    asked = anyio.Event()

    async def report(record: Record, result: StepResult) -> None:
        asked.set()

    pages = Pages(poller, Archive(api, governor, lambda _: None), ledger, governor)
    asking = Asking(poller, governor, report, pages)
    async with anyio.create_task_group() as group:
        await asking.run(group)
        await asked.wait()
        group.cancel_scope.cancel()


async def test_a_job_whose_end_a_page_tells_without_its_text_is_asked_for_at_once(
    ledger: Ledger,
) -> None:
    api: Any = Wordless()
    governor = Governor(Pace(60_000), Random(1), lambda _: None, AheadClock())
    # Its like take forty seconds, so that by itself it would not be asked for a while yet.
    schedule = PollSchedule(600.0, {"imagen": [40.0] * ENOUGH})
    schedule.to_submit = 0
    poller = Poller(ledger, api, governor, Random(1), lambda _: None, schedule=schedule)
    poller.watch(await bring(ledger, State.SUBMITTED))
    with anyio.fail_after(5):
        await is_asked(ledger, poller, api, governor)


async def test_jobs_are_asked_for_themselves_as_soon_as_pages_tell_nothing(ledger: Ledger) -> None:
    api: Any = Down()
    governor = StillGovernor()
    poller = Poller(ledger, api, governor, Random(1), lambda _: None)
    poller.watch(await bring(ledger, State.SUBMITTED))
    governor.time += 5.0
    with anyio.fail_after(10):
        await is_asked(ledger, poller, api, governor)
