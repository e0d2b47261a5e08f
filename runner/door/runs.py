"""`runner.run`: a run that a program iterates, awaits, or simply lets go to its end."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from concurrent.futures import wait
from contextlib import aclosing
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from anyio.from_thread import BlockingPortal, start_blocking_portal
from pydantic import SecretStr

from runner.door.options import ManifestLike, RunOptions, checked, source_of
from runner.door.values import JobInfo
from runner.door.work import Work
from runner.report.summary import Summary
from runner.report.tally import Progress

T = TypeVar("T")


class Run:
    """A run of some manifests; it begins when it is iterated, awaited or entered.

    - `async for job in run` gives each job as it is saved, or ended short of that.
    - `await run` waits for its end and gives the summary; so does `run.summary` after it has ended.
    - `async with run` waits at the end of the block until nothing of the run is left.
    - `for job in run` is the blocking form, on an event loop in a thread of its own.

    A loop that is left early sends nothing more and asks for nothing more: answers under way are taken in,
    and the next run collects what is in flight. `drain` inside of the loop collects it in this one.
    """

    def __init__(self, manifests: tuple[ManifestLike, ...], options: RunOptions) -> None:
        self._options = options
        if isinstance(key := options.get("key"), str):
            # Nothing that shows its values shows this one.
            self._options = {**options, "key": SecretStr(key)}
        self._work: Work | None = None
        self._sources = [source_of(manifest) for manifest in manifests]

    def __aiter__(self) -> AsyncIterator[JobInfo]:
        return self._jobs()

    def __await__(self) -> Generator[Any, None, Summary]:
        return self._to_end().__await__()

    async def __aenter__(self) -> Self:
        self._begun()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        work = self._begun()
        await work.leave(at_once=kind is not None and not issubclass(kind, Exception))
        trouble = work.trouble()
        if kind is None and trouble is not None:
            raise trouble

    def __iter__(self) -> Iterator[JobInfo]:
        with start_blocking_portal() as portal:
            jobs = self._jobs()
            try:
                while (job := self._wait(portal, partial(anext, jobs, None))) is not None:
                    yield job
            finally:
                portal.call(self._left)
                portal.call(jobs.aclose)

    def __repr__(self) -> str:
        names = ", ".join(repr(str(source)) for source in self._sources)
        return f"<runner.run({names}): {'begun' if self._work else 'not begun'}>"

    def __del__(self) -> None:
        if self._work is None:
            text = "this runner.run(…) was neither iterated nor awaited, so nothing was sent"
            warnings.warn(text, RuntimeWarning, stacklevel=2, source=self)

    @property
    def summary(self) -> Summary | None:
        """How the run ended; None before it has."""
        return self._work.summary if self._work is not None else None

    @property
    def progress(self) -> Progress | None:
        """How the run stands; None before it has begun."""
        return self._work.progress() if self._work is not None else None

    def drain(self) -> None:
        """No new submits; what is in flight is finished, for at most `run.drain`."""
        self._begun().control.drain("the program asked for it")

    def stop(self) -> None:
        """Ends at once; everything goes on with the next run."""
        self._begun().control.stop("the program asked for it")

    def _begun(self) -> Work:
        if self._work is None:
            self._work = Work(self._sources, self._options)
        return self._work

    async def _jobs(self) -> AsyncGenerator[JobInfo, None]:
        work = self._begun()
        at_once = False
        try:
            async with aclosing(work.jobs()) as jobs:
                async for job in jobs:
                    yield job
        except asyncio.CancelledError:
            at_once = True
            raise
        finally:
            await self._left(at_once=at_once)

    async def _to_end(self) -> Summary:
        work = self._begun()
        try:
            return await work.result()
        finally:
            await self._left(at_once=True)

    async def _left(self, *, at_once: bool = False) -> None:
        if self._work is not None:
            await self._work.leave(at_once=at_once)
            self._work.trouble()

    def _wait(self, portal: BlockingPortal, ask: Callable[[], Awaitable[T]]) -> T:
        """What is asked for, from the run's own thread."""

        async def asked() -> T:
            return await ask()

        future = portal.start_task_soon(asked)
        try:
            return future.result()
        except KeyboardInterrupt:
            portal.call(partial(self._left, at_once=True))
            wait([future])
            raise


def run(*manifests: ManifestLike, **options: Unpack[RunOptions]) -> Run:
    """Does whatever of the manifests is not done yet; running again is resuming.

    A manifest is a file or a mapping with the same keys. The options are the command's: config, ledger,
    output, sandbox, budget, rpm, concurrency, limit, on_doubt, on_expired, wait_for_credits; then `key`,
    `settings` (any of a config, as {"run.drain": "30s"}) and `on_event`. Errors are RunnerErrors, raised
    when the run is iterated or awaited.
    """
    checked("run", manifests, options, RunOptions)
    return Run(manifests, options)


def run_sync(*manifests: ManifestLike, **options: Unpack[RunOptions]) -> Summary:
    """As `run`, to its end, in a thread of its own; for scripts, and where a loop runs already."""
    checked("run_sync", manifests, options, RunOptions)
    going = Run(manifests, options)
    with start_blocking_portal() as portal:
        return going._wait(portal, going._to_end)
