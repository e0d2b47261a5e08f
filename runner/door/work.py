"""A run under way: a task of its own beside whoever asked for it, and the news of what has ended."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any, Self

import anyio
import anyio.to_thread

from runner.assembly.closing import Begun
from runner.assembly.control import Control
from runner.assembly.running import Asked, Audience, Watcher, run_to_end
from runner.assembly.session import Workplace, load_manifests
from runner.door.options import RunOptions, place_of
from runner.door.values import JobInfo, job_info
from runner.errors import EXIT_KEY_REFUSED, KeyRefused, StoppedEarly
from runner.events import Event, Moved
from runner.job import State
from runner.ledger import Ledger, LedgerLock
from runner.ledger.following import JobName, ended_short_since, listed_by_name, output_folders
from runner.report.summary import Summary
from runner.report.tally import Progress, Tally

# Nothing more becomes of a job that got here, in this run.
SETTLED = frozenset({State.SAVED, State.FAILED, State.BLOCKED, State.INVALID})
PAGE = 200


class Work:
    """One run in a task of the running event loop, which begins at once."""

    def __init__(self, sources: Sequence[Path | Mapping[str, Any]], options: RunOptions) -> None:
        self.summary: Summary | None = None
        self.tally: Tally | None = None
        self.control = Control()
        self._sources = sources
        self._options = options
        self._names: Sequence[str] = ()
        self._since = time.time()
        self._ended: deque[JobName] = deque()
        self._told_short: set[JobName] = set()
        self._news = asyncio.Event()
        self._failure: Exception | None = None
        self._ledger = Path()
        self._task = asyncio.create_task(self._run(), name="runner.run")
        self._task.add_done_callback(lambda _: self._news.set())

    async def result(self) -> Summary:
        """The summary, once the run has ended. Raises what ended it, KeyRefused and StoppedEarly too."""
        await asyncio.wait([self._task])
        summary = self._task.result()
        if self._failure is not None:
            raise self._failure
        if summary is None:
            raise StoppedEarly("stopped before anything was sent; run again to go on")
        if summary.exit_code == EXIT_KEY_REFUSED:
            raise KeyRefused(f"{summary.stopped}; check SEGMIND_API_KEY, or `key`")
        return summary

    async def jobs(self) -> AsyncGenerator[JobInfo, None]:
        """Every job of the manifests as it ends, until all have."""
        async with AsyncExitStack() as stack:
            reader: Ledger | None = None
            folders: dict[str, Path] = {}
            pages = await stack.enter_async_context(aclosing(self._pages()))
            async for page in pages:
                if reader is None:
                    # A connection of its own: whoever is slow to read holds nothing up.
                    reader = await stack.enter_async_context(await Ledger.open(self._ledger))
                    folders = await output_folders(reader)
                for job in await listed_by_name(reader, page):
                    yield job_info(job, folders[job.manifest])
        await self.result()

    async def leave(self, *, at_once: bool) -> None:
        """Ends the run if it is under way, and returns when nothing is left of it.

        `at_once` False: answers under way are still taken in, so that nothing comes into doubt.
        """
        if not self._task.done():
            end = self.control.stop if at_once else self.control.halt
            end("the program left the run")
        try:
            with anyio.CancelScope(shield=True):
                await asyncio.wait([self._task])
        except asyncio.CancelledError:
            self._task.cancel()
            raise

    def trouble(self) -> BaseException | None:
        """What ended the run, where that was an error; looked at once, nobody else complains of it."""
        ended = self._task.done() and not self._task.cancelled()
        return self._task.exception() if ended else None

    def progress(self) -> Progress | None:
        """How the run stands; None before it has begun."""
        return self.tally.at(time.time()) if self.tally is not None else None

    async def _run(self) -> Summary | None:
        at = place_of(self._options)
        self._ledger = at.ledger
        manifests = await anyio.to_thread.run_sync(load_manifests, self._sources)
        self._names = [manifest.name for manifest in manifests]
        options = self._options
        asked = Asked(options.get("limit"), options.get("wait_for_credits", False))
        lock = LedgerLock(at.ledger)
        lock.acquire(time.time())
        with lock:
            audience = Audience(self._watched, lambda _: None)
            self.summary = await run_to_end(manifests, at, asked, self.control, audience)
            if self.summary is not None:
                await self._add_untold(at)
        return self.summary

    def _watched(self, tally: Tally, begun: Begun) -> Watcher:
        self.tally = tally
        return _Follower(self)

    def see(self, event: Event) -> None:
        """Takes an event of the run in."""
        if self.tally is not None:
            self.tally.see(event, time.time())
        if isinstance(event, Moved) and event.after in SETTLED and event.manifest in self._names:
            self._add((event.manifest, event.job_id), event.after)
        try:
            if on_event := self._options.get("on_event"):
                on_event(event)
        except Exception as error:
            # It is the caller's, and must not end the run in the middle of a step.
            self._failure = self._failure or error
            self.control.stop("`on_event` failed")

    def _add(self, name: JobName, state: State) -> None:
        self._ended.append(name)
        if state is not State.SAVED:
            self._told_short.add(name)
        self._news.set()

    async def _add_untold(self, at: Workplace) -> None:
        """Jobs that were ended by the thousand, and those whose fate was open until now."""
        async with await Ledger.open(at.ledger) as ledger:
            for name in await ended_short_since(ledger, self._names, self._since):
                if name not in self._told_short:
                    self._ended.append(name)

    async def _pages(self) -> AsyncGenerator[list[JobName], None]:
        while True:
            while self._ended:
                yield [self._ended.popleft() for _ in range(min(PAGE, len(self._ended)))]
            if self._task.done():
                return
            self._news.clear()
            await self._news.wait()


class _Follower:
    """The watcher of a run that is followed by a program."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def see(self, event: Event) -> None:
        """Takes an event in."""
        self._work.see(event)
