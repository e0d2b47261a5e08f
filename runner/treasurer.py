"""Looks at the account's balance: before a run, and now and then while it is empty."""

from __future__ import annotations

from typing import Any

from runner.api import Api
from runner.events import Answered, Call, Observer
from runner.governor import Governor, Urgency

FIRST_LOOK_S = 60.0
LOOK_GROWTH = 1.5
LONGEST_LOOK_S = 900.0


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
        await self._governor.turn(Urgency.ASIDE)
        answer = await self._api.credits()
        self._observer(Answered(Call.CREDITS, answer.status, answer.seconds))
        if answer.status == 429:
            self._governor.rate_limited(answer)
        return balance_of(answer.body) if answer.status == 200 else None

    async def wait_for_credits(self) -> None:
        """Returns when there is a balance again; a team's spend limit shows only when tried."""
        wait_s = self._first_look_s
        while True:
            await self._governor.sleep(wait_s)
            balance = await self.balance()
            if balance is not None and balance > 0:
                return
            wait_s = min(wait_s * LOOK_GROWTH, LONGEST_LOOK_S)


def balance_of(body: Any) -> float | None:
    """The sum of an answer's credits; None when it names none."""
    if not isinstance(body, dict):
        return None
    found = [body.get("credits"), body.get("free-credits")]
    amounts = [v for v in found if isinstance(v, int | float) and not isinstance(v, bool)]
    return float(sum(amounts)) if amounts else None
