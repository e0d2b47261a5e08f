"""A run begins by hearing the server's time, and takes over what is in flight by the clock of now."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
from ledgers import HOUR_S, NOW, StillGovernor, answer, column, get, job, no_answer, plan, sql

from runner.engine.beginning import HEARINGS, SURELY_OVER_S, Beginning
from runner.events import Noted
from runner.job import Answer, State
from runner.ledger import Event, Ledger
from runner.poller import Poller
from runner.treasurer import Treasurer


class Asked(StillGovernor):
    async def sleep(self, seconds: float) -> None:
        self.time += seconds


@dataclass
class Balance:
    answers: list[Answer] = field(default_factory=list)
    asked: int = 0

    async def credits(self) -> Answer:
        self.asked += 1
        return self.answers.pop(0)


@dataclass
class Morning:
    ledger: Ledger
    governor: Asked
    balance: Balance
    poller: Poller
    beginning: Beginning

    async def in_flight(self, at: float, server_at: float | None) -> None:
        """An earlier run has sent a job, at `at` by its own clock."""
        record = await get(self.ledger)
        await self.ledger.begin_submit(record, at, at + HOUR_S, server_at)
        await self.ledger.accept(await get(self.ledger), "r-0", Event(at, 200))


@pytest.fixture
async def morning(tmp_path: Path) -> AsyncIterator[Morning]:
    async with await Ledger.open(tmp_path / "runner.db", durable=False) as ledger:
        await plan(ledger, [job(0)])
        governor, balance = Asked(), Balance()
        see = governor.seen.append
        poller = Poller(ledger, balance, governor, Random(1), see)  # type: ignore[arg-type]
        treasurer = Treasurer(balance, governor, see)  # type: ignore[arg-type]
        beginning = Beginning(ledger, governor, treasurer, poller, see)
        yield Morning(ledger, governor, balance, poller, beginning)


def dated(status: int = 200, at: float = NOW) -> Answer:
    return answer(status, {"credits": 5}, server_time=at)


@pytest.mark.parametrize("status", [200, 401, 404, 503])
async def test_any_answer_tells_the_servers_time(morning: Morning, status: int) -> None:
    morning.balance.answers = [dated(status, NOW + 900)]
    await morning.beginning.hear(lambda: False)
    assert morning.governor.server.earliest(NOW) == NOW + 900
    assert morning.balance.asked == 1


async def test_what_is_known_already_is_not_asked_for(morning: Morning) -> None:
    morning.governor.server.hear(NOW, NOW, 0.0)
    await morning.beginning.hear(lambda: False)
    assert morning.balance.asked == 0


async def test_a_server_that_dates_nothing_is_asked_once(morning: Morning) -> None:
    morning.balance.answers = [answer(200, {"credits": 5})]
    await morning.beginning.hear(lambda: False)
    assert morning.balance.asked == 1


async def test_a_silent_server_is_asked_again_but_not_for_ever(morning: Morning) -> None:
    morning.balance.answers = [no_answer()] * HEARINGS
    await morning.beginning.hear(lambda: False)
    assert morning.balance.asked == HEARINGS
    assert [each.text for each in morning.governor.seen if isinstance(each, Noted)] == [
        "the API does not answer yet; nothing is sent before it does"
    ]


async def test_a_run_that_is_to_end_asks_nothing(morning: Morning) -> None:
    await morning.beginning.hear(lambda: True)
    assert morning.balance.asked == 0


@pytest.mark.parametrize("jump_s", [-86400.0, -290.0, 290.0, 7200.0, 86400.0])
async def test_however_our_clock_was_set_a_job_in_flight_keeps_its_hour(
    morning: Morning, jump_s: float
) -> None:
    await morning.in_flight(NOW + jump_s, server_at=NOW)
    morning.governor.server.hear(NOW + 60, NOW + 60, 0.0)
    morning.governor.time = NOW + 60
    assert await morning.beginning.take_over() == []
    assert len(morning.poller.schedule) == 1
    assert await column(morning.ledger, "deadline") == pytest.approx(NOW + HOUR_S, abs=2)


@pytest.mark.parametrize("jump_s", [-7200.0, 0.0, 7200.0])
async def test_a_job_whose_hour_is_over_by_the_servers_clock_is_not_asked_for(
    morning: Morning, jump_s: float
) -> None:
    await morning.in_flight(NOW + jump_s, server_at=NOW)
    later = NOW + HOUR_S + SURELY_OVER_S + 1
    morning.governor.server.hear(later, later, 0.0)
    morning.governor.time = later
    (over,) = await morning.beginning.take_over()
    assert over.id == "j0"
    assert (await get(morning.ledger)).state is State.EXPIRED


@pytest.mark.parametrize("server_knows", [True, False])
async def test_where_nothing_tells_its_hour_a_job_is_asked_for(
    morning: Morning, server_knows: bool
) -> None:
    await morning.in_flight(NOW, server_at=None if server_knows else NOW)
    later = NOW + 10 * HOUR_S
    if server_knows:
        morning.governor.server.hear(later, later, 0.0)
    morning.governor.time = later
    assert await morning.beginning.take_over() == []
    assert morning.poller.schedule.next_deadline() == later + HOUR_S


async def test_what_an_earlier_run_put_off_does_not_wait_for_a_time_of_its_clock(
    morning: Morning,
) -> None:
    await sql(morning.ledger, "UPDATE jobs SET not_before = ?", NOW + 86400)
    await morning.beginning.take_over()
    assert len(await morning.ledger.pending(1, 0, 10, NOW)) == 1
