"""The loop that brings the files of completed jobs to disk, some at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random

from anyio.abc import TaskGroup

from runner.downloader import Downloader
from runner.engine.queues import Downloads
from runner.governor import Bell, Governor
from runner.job import Consequence, State, StepResult
from runner.ledger import Ledger, Record

AT_ONCE = 64

Report = Callable[[Record, StepResult, int], Awaitable[None]]


class Fetching:
    """Starts a download for each completed job; a file that does not come whole is tried again."""

    def __init__(
        self,
        ledger: Ledger,
        governor: Governor,
        downloader: Downloader,
        attempts: int,
        report: Report,
    ) -> None:
        self._downloader = downloader
        self._attempts = attempts
        self._report = report
        self._downloads = Downloads(ledger, governor, Random())
        self._bell = Bell()
        self._looked = False

    @property
    def idle(self) -> bool:
        """Whether every completed job has been fetched or given up for this run."""
        return self._looked and self._downloads.idle

    def add(self, key: int) -> None:
        """A job was completed."""
        self._downloads.add(key)
        self._bell.ring()

    async def run(self, group: TaskGroup, when_idle: Callable[[], None]) -> None:
        """Works until it is cancelled; calls `when_idle` whenever nothing is left to fetch."""
        while True:
            has_room = self._downloads.active < AT_ONCE
            key = await self._downloads.next() if has_room else None
            self._looked = True
            if key is not None:
                group.start_soon(self._fetch, key)
                continue
            if self.idle:
                when_idle()
            # Without room no time matters: whoever is through takes what is due by then.
            await self._bell.wait(self._downloads.wait_s() if has_room else None)

    async def _fetch(self, first: int) -> None:
        """Fetches one job's files, and then those of whichever job is ready."""
        key: int | None = first
        while key is not None:
            last = self._downloads.tries(key) + 1 >= self._attempts
            record, result = await self._downloader.save(key, last)
            again = result.state is State.COMPLETED and result.consequence is Consequence.NONE
            tries = self._downloads.ended(key, again, self._attempts)
            # At once, or somebody else would take the place as well.
            key = self._downloads.take()
            if record is not None:
                given_up = again and tries >= self._attempts
                await self._report(record, result, tries if given_up else 0)
        self._bell.ring()
