"""Looks at the account's balance: before a run, and now and then while it is empty."""

from __future__ import annotations

from typing import Any

from runner.api import Api
from runner.events import Answered, Call, Observer
from runner.governor import Governor, Urgency
from runner.job import Answer, Fault

FIRST_LOOK_S = 60.0
LOOK_GROWTH = 1.5
LONGEST_LOOK_S = 900.0
# A balance that is so often not among the answers is not told by this API: a submit will tell.
UNTOLD_LIMIT = 3


class Treasurer:
    """Asks for the balance; `first_look_s` is how long the first wait for credits is."""

    def __init__(
        self, api: Api, governor: Governor, observer: Observer, first_look_s: float = FIRST_LOOK_S
    ) -> None:
        self._api = api
        self._governor = governor
        self._observer = observer
        self._first_look_s = first_look_s

    async def balance(self) -> float | None:
        """Credits in US dollars, the free ones included; None when the API does not say."""
        answer = await self.ask()
        return balance_of(answer.body) if answer.status == 200 else None

    async def ask(self) -> Answer:
        """The question for the balance, whatever comes of it: it is free, and every answer has a date."""
        await self._governor.turn(Urgency.ASIDE)
        answer = await self._api.credits()
        if answer.fault is Fault.NEVER_LEFT:
            self._governor.unreachable(answer.text)
            return answer
        self._observer(Answered(Call.CREDITS, answer.status, answer.seconds))
        if answer.status is not None:
            self._governor.reached(answer)
        if answer.status == 429:
            self._governor.rate_limited(answer)
        return answer

    async def wait_for_credits(self) -> None:
        """Returns when there is a balance again, or where none is told; a team's limit shows when tried."""
        wait_s = self._first_look_s
        untold = 0
        while True:
            await self._governor.sleep(wait_s)
            answer = await self.ask()
            balance = balance_of(answer.body) if answer.status == 200 else None
            untold += answer.status == 200 and balance is None
            if untold == UNTOLD_LIMIT or (balance is not None and balance > 0):
                return
            wait_s = min(wait_s * LOOK_GROWTH, LONGEST_LOOK_S)


def balance_of(body: Any) -> float | None:
    """The sum of an answer's credits; None when it names none."""
    if not isinstance(body, dict):
        return None
    found = [body.get("credits"), body.get("free-credits")]
    amounts = [v for v in found if isinstance(v, int | float) and not isinstance(v, bool)]
    return float(sum(amounts)) if amounts else None
