"""The balance is looked at before a run, and now and then while it is empty."""

from __future__ import annotations

from typing import Any

import pytest
from ledgers import StillGovernor, answer, no_answer

from runner.events import Answered, Held
from runner.events import Call as CallOf
from runner.governor import Urgency
from runner.job import Answer
from runner.treasurer import LONGEST_LOOK_S, UNTOLD_LIMIT, Treasurer, balance_of


class Waiting(StillGovernor):
    """Remembers how long it was asked to sleep, and does not."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


class Purse:
    """Answers with one balance after the other, the last one for ever."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)

    async def credits(self) -> Answer:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def has(amount: Any, free: Any = 0) -> Answer:
    return answer(200, {"credits": amount, "free-credits": free})


def treasurer(*answers: Answer, first_look_s: float = 10.0) -> tuple[Treasurer, Waiting]:
    governor = Waiting()
    purse: Any = Purse(*answers)
    return Treasurer(purse, governor, governor.seen.append, first_look_s), governor


@pytest.mark.parametrize(
    ("body", "balance"),
    [
        ({"credits": 12.3, "free-credits": 0}, 12.3),
        ({"credits": 1, "free-credits": 2.5}, 3.5),
        ({"credits": 0}, 0.0),
        ({"credits": -0.5, "free-credits": 0.25}, -0.25),
        ({"free-credits": 4}, 4.0),
        ({"credits": None, "free-credits": 4}, 4.0),
    ],
)
def test_a_balance_is_all_credits_together(body: Any, balance: float) -> None:
    assert balance_of(body) == pytest.approx(balance)


@pytest.mark.parametrize(
    "body", [None, [], "12", 12, {}, {"credits": "much"}, {"credits": True}, {"error": "no"}]
)
def test_what_names_no_credits_is_no_balance(body: Any) -> None:
    assert balance_of(body) is None


async def test_the_balance_is_asked_last_of_all_and_told() -> None:
    at, governor = treasurer(has(5))
    assert await at.balance() == 5
    assert governor.turns == [Urgency.ASIDE]
    assert [type(each) for each in governor.seen] == [Answered]
    (seen,) = governor.seen
    assert isinstance(seen, Answered)
    assert seen.call is CallOf.CREDITS


@pytest.mark.parametrize("bad", [answer(500, {"credits": 5}), answer(404), no_answer()])
async def test_an_error_tells_no_balance(bad: Answer) -> None:
    at, _ = treasurer(bad)
    assert await at.balance() is None


async def test_a_rate_limit_holds() -> None:
    at, governor = treasurer(answer(429, retry_after="30"))
    assert await at.balance() is None
    assert any(isinstance(each, Held) for each in governor.seen)


async def test_it_waits_until_there_is_a_balance() -> None:
    at, governor = treasurer(has(0), no_answer(), has(-1), answer(503), has(0, 0.5))
    await at.wait_for_credits()
    assert len(governor.slept) == 5
    assert governor.slept == sorted(governor.slept)
    assert governor.slept[0] == 10.0


async def test_where_the_balance_is_never_told_a_submit_is_to_tell() -> None:
    at, governor = treasurer(*[answer(200, {"plan": "team"})] * 9)
    await at.wait_for_credits()
    assert len(governor.slept) == UNTOLD_LIMIT


async def test_it_looks_at_least_every_quarter_of_an_hour() -> None:
    at, governor = treasurer(*[has(0)] * 40, has(1), first_look_s=60.0)
    await at.wait_for_credits()
    assert max(governor.slept) == LONGEST_LOOK_S
