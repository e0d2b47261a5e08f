"""The loop that asks for the jobs in flight, each at its time and at the pace of the account."""

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
    """Starts one question for each job that is due."""

    def __init__(self, poller: Poller, governor: Governor, report: Report) -> None:
        self._poller = poller
        self._governor = governor
        self._report = report
        self._bell = Bell()
        self._halted = False

    def wake(self) -> None:
        """There may be a job that is due sooner."""
        self._bell.ring()

    def halt(self) -> None:
        """Asks nothing more."""
        self._halted = True
        self.wake()

    async def run(self, group: TaskGroup) -> None:
        """Works until it is halted or cancelled."""
        schedule = self._poller.schedule
        while not self._halted:
            now = self._governor.now()
            due = schedule.next_due(now)
            if due is None or due > now:
                await self._bell.wait(None if due is None else min(due - now, LONGEST_WAIT_S))
                continue
            await self._governor.turn(Urgency.POLL)
            record = self._poller.take()
            if record is not None and not self._halted:
                group.start_soon(self._ask, record)

    async def _ask(self, record: Record) -> None:
        await self._report(record, await self._poller.poll(record))
