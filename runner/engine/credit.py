"""What a run does about an empty balance."""

from __future__ import annotations

from collections.abc import Callable

from runner.events import Noted, Observer
from runner.gate import Gate
from runner.governor import Bell
from runner.treasurer import Treasurer


class Credit:
    """Waits while the account's balance is empty, where the run was told to wait."""

    def __init__(self, treasurer: Treasurer, gate: Gate, observer: Observer) -> None:
        self._treasurer = treasurer
        self._gate = gate
        self._observer = observer
        self._bell = Bell()

    def ran_out(self) -> None:
        """The API said that the balance is empty: nothing is sent until it is not."""
        if not self._gate.balance_is_empty:
            self._gate.balance_is_empty = True
            self._bell.ring()

    async def run(self, when_back: Callable[[], None]) -> None:
        """Works until it is cancelled; calls `when_back` when there are credits again."""
        while True:
            await self._bell.wait()
            self._observer(Noted("the balance is empty: waiting for credits", warning=True))
            await self._treasurer.wait_for_credits()
            self._gate.balance_is_empty = False
            self._observer(Noted("there are credits again"))
            when_back()
