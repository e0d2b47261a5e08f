"""The loops that ask for the jobs in flight, each at its time and at the pace of the account."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from anyio.abc import TaskGroup

from runner.governor import Bell, Governor, Urgency
from runner.job import StepResult
from runner.ledger import Record
from runner.poller import Poller

# A computer that slept through its wait must not go on with it: its jobs' hour went by.
LONGEST_WAIT_S = 30.0

Report = Callable[[Record, StepResult], Awaitable[None]]


class Asking:
    """Starts one question for each job that is due, and guesses where the rate has room for them."""

    def __init__(self, poller: Poller, governor: Governor, report: Report) -> None:
        self._poller = poller
        self._governor = governor
        self._report = report
        self._bells = (Bell(), Bell())
        self._halted = False

    def wake(self) -> None:
        """There may be a job that is due sooner."""
        for bell in self._bells:
            bell.ring()

    def halt(self) -> None:
        """Asks nothing more."""
        self._halted = True
        self.wake()

    async def run(self, group: TaskGroup) -> None:
        """Works until it is halted or cancelled: what is surely ready first, guesses after submits."""
        schedule, (due, guess) = self._poller.schedule, self._bells
        group.start_soon(self._loop, group, due, schedule.next_due, schedule.pop, Urgency.POLL)
        group.start_soon(
            self._loop, group, guess, schedule.next_guess, schedule.pop_guess, Urgency.GUESS
        )

    async def _loop(
        self,
        group: TaskGroup,
        bell: Bell,
        next_at: Callable[[float], float | None],
        pop: Callable[[float], int | None],
        urgency: Urgency,
    ) -> None:
        while not self._halted:
            now = self._governor.now()
            at = next_at(now)
            if at is None or at > now:
                await bell.wait(LONGEST_WAIT_S if at is None else min(at - now, LONGEST_WAIT_S))
                continue
            await self._governor.turn(urgency)
            key = None if self._halted else pop(self._governor.now())
            if key is not None:
                group.start_soon(self._ask, self._poller.record(key))

    async def _ask(self, record: Record) -> None:
        await self._report(record, await self._poller.poll(record))
