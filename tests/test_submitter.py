"""The submitter: the intent is on disk before the POST, the id right after it, and nothing is paid twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
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
    sql,
)

from runner.errors import LedgerError, RunnerError
from runner.events import Answered, Call
from runner.job import Answer, Consequence, State, StepResult
from runner.ledger import Ledger, Record
from runner.ledger.reading import attempts
from runner.policy.backoff import CAP_S
from runner.submitter import SubmitRules, Submitter

RULES = SubmitRules(attempts=3, retention_s=HOUR_S)
ACCEPTED = answer(200, {"request_id": "r-1", "status": "QUEUED"})
ERROR = {"error": "words of the API"}


class Desk:
    """A submitter with everything around it."""

    def __init__(self, ledger: Ledger, path: Path) -> None:
        self.ledger, self.path = ledger, path
        self.governor = StillGovernor()
        self.api = ScriptedApi()

    async def submit(self, *replies: Any, record: Record | None = None) -> StepResult:
        self.api.replies.extend(replies)
        api: Any = self.api
        submitter = Submitter(
            self.ledger, api, self.governor, RULES, Random(3), self.governor.seen.append
        )
        result = StepResult(None)
        for _ in replies:
            result = await submitter.submit(record or await get(self.ledger))
        return result


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with await Ledger.open(tmp_path / "l.db", durable=False) as ledger:
        await plan(ledger, [job(0), job(1)])
        yield Desk(ledger, tmp_path / "l.db")


async def last_attempt(desk: Desk) -> Any:
    return (await attempts(desk.ledger, (await get(desk.ledger)).key))[-1]


async def test_the_intent_is_on_disk_before_the_post(desk: Desk):
    async def look() -> Answer:
        # Another connection sees only what is committed.
        async with await Ledger.open(desk.path) as other:
            record = await get(other)
        assert (record.state, record.posts) == (State.SUBMITTING, 1)
        assert (record.submitted_at, record.deadline) == (NOW, NOW + HOUR_S)
        return ACCEPTED

    await desk.submit(look)
    assert desk.api.asked == [("submit", "imagen", {"prompt": "prompt 0"})]


async def test_the_request_id_is_on_disk_after_it(desk: Desk):
    result = await desk.submit(ACCEPTED)
    assert result == StepResult(State.SUBMITTED, sent=("r-1", NOW, NOW + HOUR_S))
    async with await Ledger.open(desk.path) as other:
        record = await get(other)
    assert (record.state, record.request_id) == (State.SUBMITTED, "r-1")
    assert (await last_attempt(desk)).request_id == "r-1"


async def test_the_servers_time_is_on_disk_with_the_intent(desk: Desk):
    desk.governor.server.hear(NOW + 900, NOW, 0.0)

    async def look() -> Answer:
        async with await Ledger.open(desk.path) as other:
            record = await get(other)
        assert record.server_at == pytest.approx(NOW + 900, abs=1)
        return ACCEPTED

    await desk.submit(look)


async def test_an_answer_tells_the_time_of_an_intent_that_lacks_it(desk: Desk):
    await desk.submit(answer(200, ACCEPTED.body, server_time=NOW + 900))
    assert await column(desk.ledger, "server_at") == pytest.approx(NOW + 900, abs=1)


async def test_a_doubt_is_kept_with_the_servers_time_at_its_end(desk: Desk):
    desk.governor.server.hear(NOW + 900, NOW, 0.0)

    async def sleep() -> Answer:
        desk.governor.time += 8 * HOUR_S
        return no_answer()

    await desk.submit(sleep)
    record = await get(desk.ledger)
    assert record.server_at == pytest.approx(NOW + 900, abs=1)
    assert record.server_until == pytest.approx(NOW + 900 + 8 * HOUR_S, abs=1)


async def test_the_hour_of_a_post_that_was_slept_through_begins_at_its_end(desk: Desk):
    async def sleep() -> Answer:
        desk.governor.time += 8 * HOUR_S
        return ACCEPTED

    await desk.submit(sleep)
    assert await column(desk.ledger, "deadline") == NOW + 9 * HOUR_S


async def test_without_an_intent_on_disk_nothing_is_sent(desk: Desk):
    trigger = (
        "CREATE TEMP TRIGGER full BEFORE UPDATE ON main.jobs BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    await sql(desk.ledger, trigger)
    with pytest.raises(LedgerError):
        await desk.submit(ACCEPTED)
    assert desk.api.asked == []


async def test_a_job_that_is_not_pending_any_more_is_not_sent(desk: Desk):
    stale = await get(desk.ledger)
    await bring(desk.ledger, State.SUBMITTED)
    assert await desk.submit(ACCEPTED, record=stale) == StepResult(None)
    assert desk.api.asked == []


async def test_two_submits_of_one_job_are_one_post(desk: Desk):
    record = await get(desk.ledger)
    results = await asyncio.gather(*(desk.submit(ACCEPTED, record=record) for _ in range(5)))
    assert sorted(str(result.state) for result in results) == ["None"] * 4 + ["submitted"]
    assert len(desk.api.asked) == 1


async def test_a_submit_that_is_cancelled_leaves_its_intent(desk: Desk):
    started = asyncio.Event()

    async def hang() -> Answer:
        started.set()
        await asyncio.sleep(60)
        return ACCEPTED

    task = asyncio.create_task(desk.submit(hang))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await get(desk.ledger)).state is State.SUBMITTING


async def test_an_answer_that_came_is_kept_although_the_run_is_stopped(desk: Desk):
    async def stop() -> Answer:
        task.cancel()
        return ACCEPTED

    task = asyncio.create_task(desk.submit(stop))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await get(desk.ledger)).request_id == "r-1"


VERDICTS = [
    (answer(400, ERROR), State.INVALID, Consequence.NONE),
    (answer(401, ERROR), State.PENDING, Consequence.KEY_REFUSED),
    (answer(402, ERROR), State.PENDING, Consequence.OUT_OF_CREDITS),
    (answer(403, ERROR), State.FAILED, Consequence.STOP_MODEL),
    (answer(404, ERROR), State.FAILED, Consequence.STOP_MODEL),
    (html(405), State.FAILED, Consequence.NONE),
    (answer(406, {"error": "Insufficient credits"}), State.PENDING, Consequence.OUT_OF_CREDITS),
    (answer(406, {"error": "Team spend limit reached"}), State.PENDING, Consequence.OUT_OF_CREDITS),
    (answer(406, {"error": "bad aspect_ratio"}), State.INVALID, Consequence.NONE),
    (answer(406, {"error": "Invalid content type"}), State.FAILED, Consequence.NONE),
    (answer(410, ERROR), State.FAILED, Consequence.STOP_MODEL),
    (answer(422, ERROR), State.INVALID, Consequence.NONE),
    (answer(429, ERROR), State.PENDING, Consequence.NONE),
    (answer(500, ERROR), State.PENDING, Consequence.NONE),
    (html(500), State.IN_DOUBT, Consequence.NONE),
    (answer(502, ERROR), State.IN_DOUBT, Consequence.NONE),
    (answer(503, ERROR), State.PENDING, Consequence.NONE),
    (answer(504, ERROR), State.IN_DOUBT, Consequence.NONE),
    (answer(200, {"status": "QUEUED"}), State.IN_DOUBT, Consequence.NONE),
    (no_answer(), State.IN_DOUBT, Consequence.NONE),
    (never_left(), State.PENDING, Consequence.NONE),
    (answer(307, text="redirects to elsewhere"), State.FAILED, Consequence.NONE),
]


@pytest.mark.parametrize(
    ("given", "state", "consequence"), VERDICTS, ids=lambda v: str(getattr(v, "status", v))
)
async def test_each_answer_leads_to_its_state_and_consequence(
    desk: Desk, given: Answer, state: State, consequence: Consequence
):
    result = await desk.submit(given)
    assert (result.state, result.consequence) == (state, consequence)
    assert result.reason
    assert (await get(desk.ledger)).state is state
    last = await last_attempt(desk)
    assert (last.action, last.status) == (state, given.status)
    assert last.detail
    assert (result.again_at is not None) == (state is State.PENDING)


async def test_every_answer_is_told_to_whoever_watches(desk: Desk):
    await desk.submit(answer(200, {"request_id": "r"}, seconds=0.4))
    assert Answered(Call.SUBMIT, 200, 0.4) in desk.governor.seen


@pytest.mark.parametrize("given", [no_answer(), html(504), html(502), answer(200, {})])
async def test_a_job_in_doubt_keeps_its_intent_and_is_never_sent_again_by_itself(
    desk: Desk, given: Answer
):
    await desk.submit(given)
    record = await get(desk.ledger)
    assert (record.posts, record.submitted_at, record.deadline) == (1, NOW, NOW + HOUR_S)
    with pytest.raises(RunnerError, match="in_doubt to submitting"):
        await desk.submit(ACCEPTED, record=record)
    assert len(desk.api.asked) == 1


async def test_refusals_are_counted_until_the_job_fails(desk: Desk):
    refused = answer(503, ERROR)
    for tries in (1, 2):
        result = await desk.submit(refused)
        assert result.state is State.PENDING
        assert (await get(desk.ledger)).refusals == tries
        assert result.again_at is not None
        assert NOW <= result.again_at <= NOW + CAP_S
        assert await column(desk.ledger, "not_before") == result.again_at
    result = await desk.submit(refused)
    assert (result.state, result.again_at) == (State.FAILED, None)
    reason = "refused 3 times, the last time with HTTP 503: words of the API"
    assert result.reason == await column(desk.ledger, "error") == reason


@pytest.mark.parametrize("kind", ["429", "never left", "no credits"])
async def test_what_is_no_refusal_of_the_job_uses_up_no_attempt(desk: Desk, kind: str):
    given = {
        "429": answer(429, ERROR),
        "never left": never_left(),
        "no credits": answer(406, {"error": "Insufficient credits"}),
    }[kind]
    result = await desk.submit(*[given] * 10)
    assert result.state is State.PENDING
    assert (await get(desk.ledger)).refusals == 0


async def test_what_never_left_was_never_posted(desk: Desk):
    result = await desk.submit(*[never_left()] * 4)
    record = await get(desk.ledger)
    assert (record.posts, record.submitted_at) == (0, None)
    assert result.again_at is not None
    assert result.again_at > NOW
    assert not desk.governor.ever_reached


async def test_an_answer_of_any_kind_shows_that_the_api_is_there(desk: Desk):
    await desk.submit(answer(500, ERROR))
    assert desk.governor.ever_reached


async def test_a_429_holds_the_whole_account_until_its_reset(desk: Desk):
    result = await desk.submit(answer(429, ERROR, retry_after="30"))
    assert result.again_at is not None
    assert 30 <= result.again_at - NOW < 31
    assert await column(desk.ledger, "not_before") == result.again_at
    assert [type(event).__name__ for event in desk.governor.seen] == ["Answered", "Held"]


async def test_the_next_attempt_has_a_new_hour(desk: Desk):
    await desk.submit(answer(503, ERROR))
    desk.governor.time += 500
    await desk.submit(ACCEPTED)
    record = await get(desk.ledger)
    assert (record.deadline, record.posts) == (NOW + 500 + HOUR_S, 2)
