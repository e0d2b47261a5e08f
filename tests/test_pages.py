"""Many jobs in flight are decided by a page of the history; what it does not tell is asked for singly."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from desk import Desk, Service
from ledgers import NOW, StillGovernor, answer, bring, column, get, job, plan, sql

from runner.api import HistoryQuery
from runner.archive import Archive
from runner.job import Answer, State
from runner.ledger import Ledger
from runner.policy.pages import INTERVAL_S, LATE_S
from runner.poller import Pages, Poller
from runner.sandbox import Fixed, Options

URL = "https://images.segmind.com/a.png"


class History:
    """A request history with these rows, the newest first, so many to a page."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.per_page = 100
        self.is_down = False
        self.pages: list[int] = []
        self.meanwhile: Callable[[], None] = lambda: None

    async def history(self, query: HistoryQuery) -> Answer:
        self.pages.append(query.page)
        assert query.model is None
        if self.is_down:
            return answer(503, {"error": "down"})
        self.meanwhile()
        first = (query.page - 1) * self.per_page
        body = {"data": self.rows[first : first + self.per_page]}
        return Answer(200, body, json.dumps(body)[:100], server_time=NOW)

    def tell(self, number: int, status: str = "COMPLETED", **more: Any) -> None:
        self.rows.append(
            {
                "request_id": f"r-j{number}",
                "model_name": "imagen",
                "model_status": status,
                "credits_deduction": 0.04,
                "request_body": {"prompt": f"prompt {number}"},
                "generation_url": URL if status == "COMPLETED" else None,
                "latency_ms": 7500,
                "model_created": datetime.fromtimestamp(NOW - number, UTC).isoformat(),
                **more,
            }
        )


def at(seconds: float) -> str:
    return datetime.fromtimestamp(NOW + seconds, UTC).isoformat()


class Rounds:
    """Three jobs in flight and who turns the pages."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.history = History()
        self.governor = StillGovernor()
        api: Any = self.history
        see = self.governor.seen.append
        self.poller = Poller(ledger, api, self.governor, Random(1), see)
        archive = Archive(api, self.governor, see)
        self.pages = Pages(self.poller, archive, ledger, self.governor)

    async def round(self) -> dict[str, State | None]:
        return {record.id: result.state for record, result in await self.pages.round()}


@pytest.fixture
async def rounds(tmp_path: Path) -> AsyncIterator[Rounds]:
    async with await Ledger.open(tmp_path / "l.db", durable=False) as ledger:
        await plan(ledger, [job(number) for number in range(3)])
        rounds = Rounds(ledger)
        for number in range(3):
            rounds.poller.watch(await bring(ledger, State.SUBMITTED, f"j{number}"))
        rounds.governor.time = NOW + 30
        yield rounds


async def test_one_page_decides_all_that_it_tells_of(rounds: Rounds):
    rounds.history.tell(0)
    rounds.history.tell(1, "PENDING")
    rounds.history.tell(2, "FAILED", error="out of memory")
    rounds.history.tell(9)
    assert await rounds.round() == {"j0": State.COMPLETED, "j2": State.FAILED}
    assert rounds.history.pages == [1]
    assert [record.id for record in rounds.poller.waiting()] == ["j1"]
    done = await rounds.ledger.completed((await get(rounds.ledger, "j0")).key)
    assert done is not None
    assert json.loads(done[1])["output"] == URL
    assert await column(rounds.ledger, "cost") == 0.04
    assert await column(rounds.ledger, "error", "j2") == "out of memory"


async def test_how_long_jobs_took_is_learned_from_the_rows(rounds: Rounds):
    rounds.history.tell(0)
    rounds.history.tell(9)
    await rounds.round()
    assert rounds.poller.schedule.remembered() == {"imagen": [7.5]}


async def test_a_block_is_told_from_a_failure(rounds: Rounds):
    rounds.history.tell(0, "FAILED", error="blocked by the RAI filter")
    rounds.history.tell(9)
    assert await rounds.round() == {"j0": State.BLOCKED}


async def test_outputs_that_go_on_on_the_next_page_are_read_to_their_end(rounds: Rounds):
    rounds.history.per_page = 2
    rounds.history.tell(0, generation_url="https://images.segmind.com/1.png")
    rounds.history.tell(0, generation_url="https://images.segmind.com/2.png")
    rounds.history.tell(0, generation_url="https://images.segmind.com/3.png")
    rounds.history.tell(9)
    assert await rounds.round() == {"j0": State.COMPLETED}
    assert rounds.history.pages == [1, 2]
    rows = await sql(rounds.ledger, "SELECT body FROM results")
    assert len(json.loads(rows[0][0])["output"]) == 3


async def test_the_last_request_of_a_list_that_may_go_on_is_asked_for_at_once(rounds: Rounds):
    def nothing_is_shown() -> None:
        if rounds.history.pages[-1] == 2:
            rounds.history.rows.clear()

    rounds.history.per_page = 2
    rounds.history.meanwhile = nothing_is_shown
    rounds.history.tell(0, generation_url="https://images.segmind.com/1.png")
    rounds.history.tell(0, generation_url="https://images.segmind.com/2.png")
    rounds.history.tell(0, generation_url="https://images.segmind.com/3.png")
    rounds.history.tell(9)
    assert await rounds.round() == {}
    rounds.governor.time += 1
    key = rounds.poller.schedule.pop(rounds.governor.time)
    assert key is not None
    assert not rounds.pages.defers(rounds.poller.record(key))


async def test_rows_that_land_on_a_page_that_was_read_are_missed_by_nobody(rounds: Rounds):
    def three_files_land() -> None:
        if rounds.history.pages[-1] == 2:
            rounds.history.rows[1:1] = landing

    rounds.history.per_page = 2
    for number in range(1, 4):
        url = f"https://images.segmind.com/{number}.png"
        rounds.history.tell(1, generation_url=url, model_created=at(15))
    landing, rounds.history.rows = rounds.history.rows, []
    rounds.history.meanwhile = three_files_land
    rounds.history.tell(0, model_created=at(20))
    rounds.history.tell(2, "PENDING", model_created=at(10))
    rounds.history.tell(9)
    assert await rounds.round() == {"j0": State.COMPLETED}
    assert rounds.history.pages == [1, 2, 3]


async def test_text_which_no_row_holds_is_asked_for_at_once(rounds: Rounds):
    rounds.history.tell(0, generation_url=None)
    rounds.history.tell(9)
    assert await rounds.round() == {}
    rounds.governor.time += 1
    key = rounds.poller.schedule.pop(rounds.governor.time)
    assert key is not None
    record = rounds.poller.record(key)
    assert record.id == "j0"
    assert not rounds.pages.defers(record)


async def test_a_job_that_waits_for_its_turn_is_not_asked_for_a_second_time(rounds: Rounds):
    schedule = rounds.poller.schedule
    keys = {schedule.pop(NOW + 3000) for _ in range(3)}
    rounds.history.tell(0, generation_url=None)
    rounds.history.tell(9)
    assert await rounds.round() == {}
    assert len(keys) == 3
    assert schedule.pop(NOW + 3001) is None


async def test_a_job_without_a_row_is_left_to_the_pages_once_and_then_asked_for(rounds: Rounds):
    record = await get(rounds.ledger, "j0")
    assert rounds.pages.defers(record)
    assert not rounds.pages.defers(record)


async def test_what_is_soon_forgotten_is_not_left_to_the_pages(rounds: Rounds):
    record = await get(rounds.ledger, "j0")
    assert record.deadline is not None
    rounds.governor.time = record.deadline - LATE_S
    assert not rounds.pages.defers(record)


async def test_a_history_that_is_down_decides_nothing_and_is_asked_less_often(rounds: Rounds):
    rounds.history.is_down = True
    assert await rounds.round() == {}
    waits = []
    for _ in range(3):
        at = rounds.pages.next_round(rounds.governor.time)
        assert at is not None
        waits.append(at - rounds.governor.time)
        rounds.governor.time = at
        await rounds.round()
    assert INTERVAL_S < waits[0] < waits[1] < waits[2]
    assert len(rounds.poller.waiting()) == 3
    assert not rounds.pages.defers(await get(rounds.ledger, "j0"))


async def test_a_job_that_is_just_being_asked_for_is_not_ended_a_second_time(rounds: Rounds):
    rounds.history.tell(0)
    rounds.history.tell(9)
    key = (await get(rounds.ledger, "j0")).key
    rounds.history.meanwhile = lambda: rounds.poller._asked.add(key)
    assert await rounds.round() == {}
    assert (await get(rounds.ledger, "j0")).state is State.SUBMITTED


async def test_a_job_that_a_page_has_ended_is_not_asked_for_any_more(rounds: Rounds):
    record = await get(rounds.ledger, "j0")
    rounds.history.tell(0)
    rounds.history.tell(9)
    await rounds.round()
    assert (await rounds.poller.poll(record)).state is None


def test_a_whole_run_costs_the_api_hardly_more_than_its_submits(
    desk: Desk, serve: Callable[..., Service]
) -> None:
    api = serve(Options(latency=Fixed(0.3), picture_px=64), poll="history")
    texts = [{"prompt": "a tale", "model": "llm-small", "id": "tale"}]
    prompts = [*(f"animal {number}" for number in range(40)), *texts]
    ended = desk.run("run", desk.manifest(*prompts), "--json")
    assert ended.status == 0, ended.words
    assert ended.json["states"] == {"saved": 41}
    assert api.accepted == 41
    assert api.count("status") + api.count("result") < 15
    assert len(desk.files()) == 41


def test_a_run_whose_history_is_down_asks_for_each_job(
    desk: Desk, serve: Callable[..., Service]
) -> None:
    serve(Options(latency=Fixed(0.1), picture_px=64, history="down"), poll="history")
    ended = desk.run("run", desk.manifest(*[f"animal {n}" for n in range(6)]), "--json")
    assert ended.status == 0, ended.words
