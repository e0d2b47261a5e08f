"""The loops that ask: whoever can be asked now is not left to wait for a bell that nobody rings."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import anyio
from ledgers import StillGovernor, answer, bring, job, plan

from runner.archive import Archive
from runner.engine.asking import Asking
from runner.job import Answer, State, StepResult
from runner.ledger import Ledger, Record
from runner.poller import Pages, Poller


class Down:
    """A history that is down, beside an API that is not."""

    async def history(self, _: Any) -> Answer:
        return answer(503, {"error": "down"})

    async def status(self, request_id: str) -> Answer:
        return answer(200, {"status": "PROCESSING", "request_id": request_id})


async def test_jobs_are_asked_for_themselves_as_soon_as_pages_tell_nothing(tmp_path: Path) -> None:
    asked = anyio.Event()

    async def report(record: Record, result: StepResult) -> None:
        asked.set()

    async with await Ledger.open(tmp_path / "l.db", durable=False) as ledger:
        await plan(ledger, [job(0)])
        api: Any = Down()
        governor = StillGovernor()
        poller = Poller(ledger, api, governor, Random(1), governor.seen.append)
        poller.watch(await bring(ledger, State.SUBMITTED))
        governor.time += 5.0
        pages = Pages(poller, Archive(api, governor, governor.seen.append), ledger, governor)
        asking = Asking(poller, governor, report, pages)
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                await asking.run(group)
                await asked.wait()
                group.cancel_scope.cancel()
