"""The poller finds what is finished, never starts a job anew, and lets none be forgotten unasked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from ledgers import (
    HOUR_S,
    NOW,
    ScriptedApi,
    StillGovernor,
    answer,
    bring,
    column,
    get,
    html,
    job,
    never_left,
    no_answer,
    plan,
)

from runner.events import Answered, Call
from runner.governor import Urgency
from runner.job import Answer, Consequence, State, StepResult
from runner.ledger import Ledger, Record
from runner.ledger.reading import attempts
from runner.policy.polling import SCOUT_DUE_S
from runner.policy.route import Choice, Route
from runner.poller import Poller
from runner.poller.poller import EMPTY_LIMIT, NOT_FOUND_LIMIT, SILENCE_S

RUNNING = answer(200, {"status": "PROCESSING"})
DONE = answer(200, {"status": "COMPLETED", "metrics": {"cost": 0.02}})
RESULT = answer(200, {**DONE.body, "output": "https://images.segmind.com/ü.png"})
NOT_FOUND = answer(404, {"error": "Request r-j0 not found"})
TROUBLES = [html(502), answer(503, {"error": "x"}), no_answer(), answer(200, {}), html(405)]


class Desk:
    """A poller with everything around it, watching one submitted job."""

    def __init__(self, ledger: Ledger, route: Choice = "status") -> None:
        self.ledger = ledger
        self.governor = StillGovernor()
        self.api = ScriptedApi()
        api: Any = self.api
        seen = self.governor.seen.append
        self.poller = Poller(ledger, api, self.governor, Random(3), seen, Route(route))

    async def poll(self, *replies: Any) -> StepResult:
        """Waits until the job is due and asks once."""
        self.api.replies.extend(replies)
        due = self.poller.schedule.next_due(self.governor.time)
        assert due is not None
        self.governor.time = max(self.governor.time, due)
        record = self.take()
        assert record is not None
        result = await self.poller.poll(record)
        assert not self.api.replies
        return result

    def take(self) -> Record | None:
        key = self.poller.schedule.pop(self.governor.time)
        return None if key is None else self.poller.record(key)

    @property
    def asked(self) -> list[str]:
        return [call for call, *_ in self.api.asked]

    @property
    def wait_s(self) -> float:
        due = self.poller.schedule.next_due(self.governor.time)
        assert due is not None
        return due - self.governor.time

    @property
    def is_watched(self) -> bool:
        return len(self.poller.schedule) == 1


@asynccontextmanager
async def watching(folder: Path, route: Choice) -> AsyncIterator[Desk]:
    async with await Ledger.open(folder / "l.db", durable=False) as ledger:
        await plan(ledger, [job(0)])
        desk = Desk(ledger, route)
        desk.poller.watch(await bring(ledger, State.SUBMITTED))
        yield desk


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """It asks for the status first, so that each answer can be told apart."""
    async with watching(tmp_path, "status") as desk:
        yield desk


@pytest.fixture
async def direct(tmp_path: Path) -> AsyncIterator[Desk]:
    """It asks for the result at once."""
    async with watching(tmp_path, "result") as desk:
        yield desk


async def last(desk: Desk) -> Any:
    return (await attempts(desk.ledger, (await get(desk.ledger)).key))[-1]


async def test_a_finished_job_is_collected_with_its_result(desk: Desk):
    result = await desk.poll(DONE, RESULT)
    assert result == StepResult(State.COMPLETED, cost=0.02)
    assert desk.api.asked == [("status", "r-j0"), ("result", "r-j0")]
    done = await desk.ledger.completed((await get(desk.ledger)).key)
    assert done is not None
    assert json.loads(done[1]) == RESULT.body
    assert await column(desk.ledger, "cost") == 0.02
    assert (await last(desk)).request_id == "r-j0"
    assert not desk.is_watched


async def test_collecting_waits_for_a_turn_of_its_own(desk: Desk):
    await desk.poll(DONE, RESULT)
    assert desk.governor.turns == [Urgency.COLLECT]


async def test_a_running_job_is_asked_again_later(desk: Desk):
    assert await desk.poll(RUNNING) == StepResult(State.SUBMITTED)
    assert desk.wait_s > 0
    assert await desk.poll(answer(200, {"status": "QUEUED"})) == StepResult(State.SUBMITTED)
    assert desk.asked == ["status", "status"]


async def test_a_job_under_way_is_not_given_twice(desk: Desk):
    desk.governor.time += SCOUT_DUE_S
    assert desk.take() is not None
    assert desk.take() is None


async def test_every_answer_is_told_to_whoever_watches(desk: Desk):
    await desk.poll(DONE, RESULT)
    told = [event for event in desk.governor.seen if isinstance(event, Answered)]
    assert [event.call for event in told] == [Call.STATUS, Call.RESULT]


@pytest.mark.parametrize("code", [200, 422, 500])
@pytest.mark.parametrize(
    ("text", "state"),
    [("out of memory", State.FAILED), ("blocked by the RAI filter", State.BLOCKED)],
)
async def test_a_failed_job_ends_with_the_words_of_the_api(
    desk: Desk, code: int, text: str, state: State
):
    result = await desk.poll(answer(code, {"status": "FAILED", "error": text}))
    assert (result.state, result.reason) == (state, text)
    assert (await get(desk.ledger)).state is state
    assert await column(desk.ledger, "error") == text
    assert not desk.is_watched


async def test_a_failure_that_the_result_tells_counts_as_well(desk: Desk):
    result = await desk.poll(DONE, answer(422, {"status": "FAILED", "error": "late"}))
    assert result.state is State.FAILED
    assert desk.asked == ["status", "result"]


# Not found


async def test_inside_the_hour_it_takes_several_404_to_give_a_job_up(desk: Desk):
    for _ in range(NOT_FOUND_LIMIT - 1):
        assert (await desk.poll(NOT_FOUND)).state is State.SUBMITTED
    result = await desk.poll(NOT_FOUND)
    assert result.state is State.EXPIRED
    assert f"{NOT_FOUND_LIMIT} times, inside its hour" in result.reason
    assert (await get(desk.ledger)).state is State.EXPIRED
    assert (await get(desk.ledger)).request_id == "r-j0"
    assert not desk.is_watched


async def test_a_sign_of_life_forgives_the_404s_before_it(desk: Desk):
    for _ in range(3):
        for _ in range(NOT_FOUND_LIMIT - 1):
            await desk.poll(NOT_FOUND)
        assert (await desk.poll(RUNNING)).state is State.SUBMITTED


async def test_after_the_hour_one_404_is_enough(desk: Desk):
    desk.governor.time = NOW + HOUR_S
    result = await desk.poll(NOT_FOUND)
    assert result.state is State.EXPIRED
    assert "its hour had passed" in result.reason


async def test_a_404_of_the_result_is_no_end_by_itself_either(desk: Desk):
    assert (await desk.poll(DONE, NOT_FOUND)).state is State.SUBMITTED
    assert (await desk.poll(RESULT)).state is State.COMPLETED


# Trouble


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda a: str(a.status))
async def test_inside_the_hour_no_trouble_ends_a_job(desk: Desk, trouble: Answer):
    while desk.governor.time + desk.wait_s < NOW + HOUR_S:
        result = await desk.poll(trouble)
        assert (result.state, result.consequence) == (State.SUBMITTED, Consequence.NONE)
    assert (await get(desk.ledger)).state is State.SUBMITTED
    assert set(desk.asked) == {"status"}


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda a: str(a.status))
async def test_a_while_after_the_hour_silence_means_expired(desk: Desk, trouble: Answer):
    desk.governor.time = NOW + HOUR_S + SILENCE_S - 1
    assert (await desk.poll(trouble)).state is State.SUBMITTED
    desk.governor.time = NOW + HOUR_S + SILENCE_S + 1
    result = await desk.poll(trouble)
    assert result.state is State.EXPIRED
    assert "no usable answer until its hour had passed" in result.reason


async def test_a_job_that_still_runs_after_its_hour_is_asked_on(desk: Desk):
    desk.governor.time = NOW + 2 * HOUR_S
    assert (await desk.poll(RUNNING)).state is State.SUBMITTED
    assert (await desk.poll(DONE, RESULT)).state is State.COMPLETED


async def test_a_429_holds_the_account_and_the_job_waits_for_its_end(desk: Desk):
    result = await desk.poll(answer(429, {"error": "slow"}, retry_after="40"))
    assert result == StepResult(State.SUBMITTED)
    assert 40 <= desk.wait_s < 41
    assert "Held" in [type(event).__name__ for event in desk.governor.seen]


async def test_without_a_connection_the_job_waits_and_is_not_given_up(desk: Desk):
    desk.governor.time = NOW + HOUR_S + SILENCE_S + 10
    result = await desk.poll(never_left())
    assert result.state is State.SUBMITTED
    assert desk.wait_s > 0
    assert not desk.governor.ever_reached


async def test_a_refused_key_ends_the_run_and_not_the_job(desk: Desk):
    result = await desk.poll(answer(401, {"error": "bad key"}))
    assert (result.state, result.consequence) == (State.SUBMITTED, Consequence.KEY_REFUSED)
    assert desk.is_watched
    assert (await get(desk.ledger)).state is State.SUBMITTED


# Completed, and the result does not come


@pytest.mark.parametrize(
    "trouble",
    [*TROUBLES, RUNNING, answer(429), never_left(), NOT_FOUND],
    ids=lambda a: str(a.status),
)
async def test_once_completed_only_the_result_is_asked_again(desk: Desk, trouble: Answer):
    assert (await desk.poll(DONE, trouble)).state is State.SUBMITTED
    assert desk.wait_s > 0
    assert (await desk.poll(trouble)).state is State.SUBMITTED
    assert (await desk.poll(RESULT)).state is State.COMPLETED
    assert desk.asked == ["status", "result", "result", "result"]


async def test_a_result_that_is_late_teaches_the_schedule_once(desk: Desk):
    await desk.poll(DONE, RUNNING)
    await desk.poll(RUNNING)
    await desk.poll(RESULT)
    assert len(desk.poller.schedule.remembered()["imagen"]) == 1


async def test_how_long_a_job_took_is_learned_from_its_metrics(desk: Desk):
    desk.governor.time += 100
    await desk.poll(DONE, answer(200, {**RESULT.body, "metrics": {"total_time": 7.5}}))
    assert desk.poller.schedule.remembered() == {"imagen": [7.5]}


async def test_a_poll_never_posts(desk: Desk):
    for reply in (RUNNING, *TROUBLES, answer(429), never_left(), NOT_FOUND):
        await desk.poll(reply)
    await desk.poll(DONE, RESULT)
    assert set(desk.asked) == {"status", "result"}
    assert (await get(desk.ledger)).posts == 1


# The result at once


async def test_the_result_route_needs_one_request_for_a_job_that_is_done(direct: Desk):
    result = await direct.poll(RESULT)
    assert result == StepResult(State.COMPLETED, cost=0.02)
    assert direct.asked == ["result"]
    assert not direct.is_watched


async def test_there_a_running_job_is_told_of_as_by_its_status(direct: Desk):
    assert await direct.poll(RUNNING) == StepResult(State.SUBMITTED)
    assert (await direct.poll(RESULT)).state is State.COMPLETED
    assert direct.asked == ["result", "result"]


@pytest.mark.parametrize("code", [200, 422])
async def test_there_a_failed_job_ends_as_well(direct: Desk, code: int):
    result = await direct.poll(answer(code, {"status": "FAILED", "error": "out of memory"}))
    assert result.state is State.FAILED
    assert direct.asked == ["result"]


async def test_a_404_there_inside_the_hour_is_checked_by_status_before_anything_is_concluded(
    direct: Desk,
):
    for _ in range(2 * NOT_FOUND_LIMIT):
        assert (await direct.poll(NOT_FOUND)).state is State.SUBMITTED
        assert (await direct.poll(RUNNING)).state is State.SUBMITTED
    assert direct.asked == ["result", "status"] * 2 * NOT_FOUND_LIMIT
    assert (await direct.poll(RESULT)).state is State.COMPLETED


async def test_a_404_of_both_routes_is_an_end_only_after_several(direct: Desk):
    assert (await direct.poll(NOT_FOUND)).state is State.SUBMITTED
    for _ in range(NOT_FOUND_LIMIT - 1):
        assert (await direct.poll(NOT_FOUND)).state is State.SUBMITTED
    assert (await direct.poll(NOT_FOUND)).state is State.EXPIRED
    assert direct.asked == ["result"] + ["status"] * NOT_FOUND_LIMIT


async def test_after_the_hour_one_404_there_is_enough(direct: Desk):
    direct.governor.time = NOW + HOUR_S
    assert (await direct.poll(NOT_FOUND)).state is State.EXPIRED
    assert direct.asked == ["result"]


async def test_a_completed_job_without_its_output_is_asked_again_before_that_is_believed(
    direct: Desk,
):
    for _ in range(EMPTY_LIMIT - 1):
        assert (await direct.poll(DONE)).state is State.SUBMITTED
    assert (await direct.poll(RESULT)).state is State.COMPLETED


async def test_a_result_that_stays_without_an_output_is_taken_as_it_is(direct: Desk):
    for _ in range(EMPTY_LIMIT - 1):
        await direct.poll(DONE)
    assert (await direct.poll(DONE)).state is State.COMPLETED


async def test_by_itself_it_learns_from_one_status_that_the_result_can_be_asked(tmp_path: Path):
    async with watching(tmp_path, "auto") as desk:
        await desk.poll(RUNNING)
        await desk.poll(RUNNING)
        await desk.poll(RESULT)
        assert desk.asked == ["status", "result", "result"]


async def test_a_result_route_that_contradicts_the_status_is_left_for_good(tmp_path: Path):
    async with watching(tmp_path, "auto") as desk:
        await desk.poll(RUNNING)
        for _ in range(3):
            await desk.poll(NOT_FOUND)
            await desk.poll(RUNNING)
        await desk.poll(RUNNING)
        await desk.poll(RUNNING)
        assert (await desk.poll(DONE, RESULT)).state is State.COMPLETED
        asked = ["status", *["result", "status"] * 3, "status", "status", "status", "result"]
        assert desk.asked == asked


# Taking up what an earlier run left


async def test_a_job_of_an_earlier_run_is_asked_at_once_and_before_its_deadline(tmp_path: Path):
    async with await Ledger.open(tmp_path / "l.db", durable=False) as ledger:
        await plan(ledger, [job(0), job(1)])
        for number in (0, 1):
            await bring(ledger, State.SUBMITTED, f"j{number}")
        desk = Desk(ledger)
        desk.governor.time = NOW + HOUR_S - 60
        for record in await ledger.submitted():
            desk.poller.watch(record)
        taken = [desk.take(), desk.take()]
        assert {record.id for record in taken if record} == {"j0", "j1"}


async def test_a_costly_looking_answer_without_a_cost_costs_nothing_known(desk: Desk):
    result = await desk.poll(DONE, answer(200, {"status": "COMPLETED", "output": "x"}))
    assert result.cost is None
    assert await column(desk.ledger, "cost") is None
