"""The loops that ask for the jobs in flight, each at its time and at the pace of the account."""

from __future__ import annotations

from collections.abc import Callable

from anyio.abc import TaskGroup

from runner.governor import Bell, Governor, Urgency
from runner.ledger import Record
from runner.poller import Pages, Poller
from runner.reconciler import Report

# A computer that slept through its wait must not go on with it: its jobs' hour went by.
LONGEST_WAIT_S = 30.0


class Asking:
    """Starts one question for each job that is due, and guesses where the rate has room for them.

    With `pages` what is probably done is looked for there, and nobody is guessed at while they tell.
    """

    def __init__(
        self, poller: Poller, governor: Governor, report: Report, pages: Pages | None = None
    ) -> None:
        self._poller = poller
        self._pages = pages
        self._governor = governor
        self._report = report
        self._due_bell, self._guess_bell, self._page_bell = Bell(), Bell(), Bell()
        self._halted = False

    def wake(self) -> None:
        """There may be a job that is due sooner."""
        for bell in (self._due_bell, self._guess_bell, self._page_bell):
            bell.ring()

    def halt(self) -> None:
        """Asks nothing more."""
        self._halted = True
        self.wake()

    async def run(self, group: TaskGroup) -> None:
        """Works until it is halted or cancelled: what is surely ready first, guesses after submits."""
        schedule = self._poller.schedule
        group.start_soon(
            self._loop, group, self._due_bell, schedule.next_due, schedule.pop, Urgency.POLL
        )
        group.start_soon(
            self._loop, group, self._guess_bell, self._next_guess, schedule.pop_guess, Urgency.GUESS
        )
        if self._pages is not None:
            group.start_soon(self._turn_pages, self._pages)

    def _next_guess(self, now: float) -> float | None:
        if self._pages is not None and not self._pages.is_blind:
            return None
        return self._poller.schedule.next_guess(now)

    async def _turn_pages(self, pages: Pages) -> None:
        while not self._halted:
            now = self._governor.now()
            at = pages.next_round(now)
            if at is None or at > now:
                await self._page_bell.wait(
                    LONGEST_WAIT_S if at is None else min(at - now, LONGEST_WAIT_S)
                )
                continue
            for record, result in await pages.round():
                await self._report(record, result)
            # Pages that tell nothing leave everybody to the guesses, and some are to be asked at once.
            self.wake()

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
            if self._pages is not None:
                # Whoever is left to the pages costs no turn.
                await self._ask_or_leave(group, pop(now), self._pages, urgency)
                continue
            await self._governor.turn(urgency)
            key = None if self._halted else pop(self._governor.now())
            if key is not None:
                group.start_soon(self._ask, self._poller.record(key))

    async def _ask_or_leave(
        self, group: TaskGroup, key: int | None, pages: Pages, urgency: Urgency
    ) -> None:
        if key is None or pages.defers(record := self._poller.record(key)):
            return
        await self._governor.turn(urgency)
        if not self._halted:
            group.start_soon(self._ask, record)

    async def _ask(self, record: Record) -> None:
        await self._report(record, await self._poller.poll(record))
