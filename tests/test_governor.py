"""The governor grants turns at the account's pace, the most urgent first, and none while held."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.events import Event, Held
from runner.governor import JITTER_S, UNREACHABLE_CAP_S, Bell, Governor, Urgency
from runner.job import Answer
from runner.policy.pace import BURST_SHARE, WINDOW_S, Pace

SHORT_S = 0.05


class Highest(Random):
    """Draws the upper end every time."""

    def uniform(self, a: float, b: float) -> float:
        return b


def governed(pace: Pace | None = None, rng: Random | None = None) -> tuple[Governor, list[Event]]:
    events: list[Event] = []
    return Governor(pace or Pace(), rng or Random(1), events.append), events


@asynccontextmanager
async def running(governor: Governor) -> AsyncIterator[None]:
    task = asyncio.create_task(governor.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def hold(governor: Governor, pace: Pace, seconds: float) -> None:
    pace.hold(time.monotonic() + seconds)


async def test_a_turn_that_nothing_stands_against_is_granted_at_once():
    governor, _ = governed()
    await asyncio.wait_for(governor.turn(Urgency.SUBMIT), 1)


async def test_now_is_the_time_of_day():
    governor, _ = governed()
    assert abs(governor.now() - time.time()) < 1


async def test_nothing_is_granted_while_held():
    pace = Pace()
    governor, _ = governed(pace)
    hold(governor, pace, SHORT_S * 4)
    started = time.monotonic()
    async with running(governor):
        await asyncio.wait_for(asyncio.gather(*(governor.turn(u) for u in Urgency)), 5)
    assert time.monotonic() - started >= SHORT_S * 4


async def test_a_hold_that_grows_while_requests_wait_is_waited_out():
    pace = Pace()
    governor, _ = governed(pace)
    hold(governor, pace, SHORT_S)
    started = time.monotonic()
    async with running(governor):
        turn = asyncio.create_task(governor.turn(Urgency.POLL))
        await asyncio.sleep(SHORT_S / 2)
        hold(governor, pace, SHORT_S * 4)
        await asyncio.wait_for(turn, 5)
    assert time.monotonic() - started >= SHORT_S * 4


async def test_the_most_urgent_goes_first_and_equals_in_their_order():
    pace = Pace()
    governor, _ = governed(pace)
    hold(governor, pace, SHORT_S)
    granted: list[str] = []

    async def ask(urgency: Urgency, name: str) -> None:
        await governor.turn(urgency)
        granted.append(name)

    asked = [
        (Urgency.GUESS, "guess"),
        (Urgency.ASIDE, "history"),
        (Urgency.SUBMIT, "submit 1"),
        (Urgency.POLL, "poll 1"),
        (Urgency.SUBMIT, "submit 2"),
        (Urgency.COLLECT, "result"),
        (Urgency.POLL, "poll 2"),
    ]
    async with running(governor):
        await asyncio.wait_for(asyncio.gather(*(ask(*each) for each in asked)), 5)
    assert granted == ["result", "poll 1", "poll 2", "history", "submit 1", "submit 2", "guess"]


async def test_nobody_overtakes_those_who_wait():
    pace = Pace()
    governor, _ = governed(pace)
    hold(governor, pace, SHORT_S)
    waiting = asyncio.create_task(governor.turn(Urgency.SUBMIT))
    await asyncio.sleep(SHORT_S * 1.5)  # the hold is over, and nobody has granted a turn yet
    late = asyncio.create_task(governor.turn(Urgency.SUBMIT))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    assert not late.done()
    async with running(governor):
        await asyncio.wait_for(asyncio.gather(waiting, late), 5)


async def test_no_more_turns_are_granted_than_the_rate_allows():
    at_once = int(BURST_SHARE * 10)
    governor, _ = governed(Pace(10))
    async with running(governor):
        turns = [asyncio.create_task(governor.turn(Urgency.POLL)) for _ in range(20)]
        await asyncio.sleep(SHORT_S)
        assert sum(turn.done() for turn in turns) == at_once
        for turn in turns:
            turn.cancel()
        await asyncio.gather(*turns, return_exceptions=True)


async def test_a_rate_window_that_ends_lets_the_next_ones_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("runner.policy.pace.WINDOW_S", SHORT_S)
    monkeypatch.setattr("runner.policy.pace.SLACK_S", 0.0)
    governor, _ = governed(Pace(3))
    started = time.monotonic()
    async with running(governor):
        await asyncio.wait_for(asyncio.gather(*(governor.turn(Urgency.POLL) for _ in range(9))), 5)
    assert 2 * SHORT_S <= time.monotonic() - started < 1


@settings(max_examples=15, deadline=None)
@given(
    urgencies=st.lists(st.sampled_from(Urgency), min_size=1, max_size=12),
    cancelled=st.sets(st.integers(0, 11)),
)
def test_a_cancelled_waiter_takes_nobody_elses_turn(urgencies: list[Urgency], cancelled: set[int]):
    async def scenario() -> None:
        pace = Pace()
        governor, _ = governed(pace)
        hold(governor, pace, 0.01)
        async with running(governor):
            turns = [asyncio.create_task(governor.turn(urgency)) for urgency in urgencies]
            await asyncio.sleep(0)
            for place in cancelled:
                if place < len(turns):
                    turns[place].cancel()
            done = await asyncio.wait_for(asyncio.gather(*turns, return_exceptions=True), 5)
            for place, outcome in enumerate(done):
                assert (outcome is None) == (place not in cancelled)
            await asyncio.wait_for(governor.turn(Urgency.ASIDE), 5)

    asyncio.run(scenario())


async def test_a_turn_under_a_time_limit_gives_up_and_others_go_on():
    pace = Pace()
    governor, _ = governed(pace)
    hold(governor, pace, SHORT_S * 2)
    async with running(governor):
        with anyio.move_on_after(SHORT_S / 2) as scope:
            await governor.turn(Urgency.COLLECT)
        assert scope.cancelled_caught
        await asyncio.wait_for(governor.turn(Urgency.ASIDE), 5)


# Holding


async def test_a_429_holds_everything_until_its_reset_and_a_little_longer():
    pace = Pace()
    governor, events = governed(pace)
    until = governor.rate_limited(Answer(429, retry_after="20"))
    wait_s = until - governor.now()
    assert 20 + JITTER_S[0] - 0.1 < wait_s <= 20 + JITTER_S[1]
    assert pace.wait_s(time.monotonic()) == pytest.approx(wait_s, abs=0.1)
    assert events == [Held(until, "rate limit")]


async def test_a_429_without_a_reset_holds_for_a_whole_window():
    governor, _ = governed()
    assert governor.rate_limited(Answer(429)) - governor.now() >= WINDOW_S


async def test_a_429_that_ends_sooner_changes_and_says_nothing():
    pace = Pace()
    governor, events = governed(pace)
    governor.rate_limited(Answer(429, retry_after="300"))
    governor.rate_limited(Answer(429, retry_after="10"))
    assert len(events) == 1
    assert pace.wait_s(time.monotonic()) > 299


async def test_each_429_has_a_jitter_of_its_own():
    governor, _ = governed()
    waits = {round(governor.rate_limited(Answer(429, retry_after="9")), 3) for _ in range(20)}
    assert len(waits) > 15


def outage(governor: Governor, pace: Pace) -> float:
    """One more connection that could not be made, after the last pause; the pause it leads to."""
    pace.held_until = 0.0
    return governor.unreachable("refused") - governor.now()


async def test_without_a_connection_the_pauses_grow_up_to_a_cap():
    pace = Pace()
    governor, events = governed(pace, Highest())
    waits = [outage(governor, pace) for _ in range(12)]
    assert waits[:4] == pytest.approx([1.25, 2.25, 4.25, 8.25], abs=0.1)
    assert waits[-1] == pytest.approx(UNREACHABLE_CAP_S + 0.25, abs=0.1)
    assert isinstance(events[0], Held)
    assert events[0].reason == "cannot connect: refused"


async def test_an_answer_ends_the_outage():
    pace = Pace()
    governor, _ = governed(pace, Highest())
    for _ in range(9):
        outage(governor, pace)
    assert not governor.ever_reached
    governor.reached(Answer(200))
    assert governor.ever_reached
    assert outage(governor, pace) == pytest.approx(1.25, abs=0.1)


async def test_requests_that_left_together_and_failed_together_are_one_outage():
    pace = Pace()
    governor, _ = governed(pace, Highest())
    waits = [governor.unreachable("refused") - governor.now() for _ in range(64)]
    assert waits == pytest.approx([1.25] * 64, abs=0.1)


async def test_a_refused_connection_is_never_tried_again_at_once():
    for seed in range(50):
        governor, _ = governed(rng=Random(seed))
        assert governor.unreachable("refused") - governor.now() >= 0.2


# The bell


async def test_a_ring_wakes_the_waiter():
    bell = Bell()
    waiter = asyncio.create_task(bell.wait())
    await asyncio.sleep(0)
    bell.ring()
    await asyncio.wait_for(waiter, 1)


async def test_a_ring_while_nobody_waits_is_not_lost_and_counts_once():
    bell = Bell()
    bell.ring()
    bell.ring()
    await asyncio.wait_for(bell.wait(), 1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(bell.wait(), SHORT_S)


async def test_without_a_ring_the_wait_ends_in_time():
    started = time.monotonic()
    await Bell().wait(SHORT_S)
    assert SHORT_S * 0.9 <= time.monotonic() - started < 1


@pytest.mark.parametrize("timeout_s", [0.0, -5.0])
async def test_a_time_that_has_passed_is_no_wait(timeout_s: float):
    await asyncio.wait_for(Bell().wait(timeout_s), 1)
