"""`runner.open_ledger`: what a ledger knows, and deciding anew about what ended short of saved."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TypedDict, TypeVar, Unpack

from anyio.from_thread import BlockingPortal, start_blocking_portal

from runner.assembly.retrying import retry_jobs, twice_words
from runner.assembly.session import Workplace, check_known, manifest_names
from runner.door.options import PlaceOptions, place_of
from runner.door.values import JobInfo, job_info
from runner.errors import UsageError
from runner.job import Attempt, State
from runner.ledger import Counts, Ledger
from runner.ledger.following import output_folders
from runner.ledger.reading import Selection, attempts, counts, listed

T = TypeVar("T")


class Chosen(TypedDict, total=False):
    """Which jobs are meant: of these manifests (by file or name), in these states, with these ids."""

    manifests: Iterable[str | PathLike[str]]
    states: Iterable[State | str]
    ids: Iterable[str]


class LedgerView:
    """An open ledger, to look at; a run may be working on it meanwhile."""

    def __init__(self, ledger: Ledger, at: Workplace) -> None:
        self._ledger = ledger
        self._at = at

    @property
    def path(self) -> Path:
        """The ledger's file."""
        return self._at.ledger

    async def counts(self) -> Mapping[str, Counts]:
        """How the jobs of each manifest stand and what they cost, by its name."""
        return await counts(self._ledger)

    async def jobs(self, **chosen: Unpack[Chosen]) -> AsyncGenerator[JobInfo, None]:
        """The jobs that are chosen, or all, in the order of their manifests; read a page at a time."""
        selection = await self._selection(chosen)
        folders = await output_folders(self._ledger)
        async for job in listed(self._ledger, selection):
            yield job_info(job, folders[job.manifest])

    async def attempts(self, job: JobInfo) -> list[Attempt]:
        """Everything that happened to a job, in order."""
        return await attempts(self._ledger, job.key)

    async def retry(self, *, may_pay_twice: bool = False, **chosen: Unpack[Chosen]) -> int:
        """Puts jobs that ended short of saved back to pending; says how many.

        Failed ones, unless states or ids say otherwise. Raises UsageError for jobs that were or may have
        been paid for, unless `may_pay_twice`; LedgerBusy while a run is under way.
        """

        def consent(count: int) -> None:
            if not may_pay_twice:
                raise UsageError(f"{twice_words(count)}; say may_pay_twice=True, or leave them out")

        return await retry_jobs(self._at, await self._selection(chosen), consent)

    async def _selection(self, chosen: Chosen) -> Selection:
        paths = [Path(manifest) for manifest in chosen.get("manifests", ())]
        if paths:
            check_known(paths, await counts(self._ledger), self._at.ledger)
        states = tuple(_state(state) for state in chosen.get("states", ()))
        return Selection(manifest_names(paths), states, tuple(chosen.get("ids", ())))


class BlockingLedgerView:
    """As LedgerView, for scripts; its event loop is in a thread of its own."""

    def __init__(self, view: LedgerView, portal: BlockingPortal) -> None:
        self._view = view
        self._portal = portal

    @property
    def path(self) -> Path:
        """The ledger's file."""
        return self._view.path

    def counts(self) -> Mapping[str, Counts]:
        """How the jobs of each manifest stand and what they cost, by its name."""
        return self._portal.call(self._view.counts)

    def jobs(self, **chosen: Unpack[Chosen]) -> Iterator[JobInfo]:
        """The jobs that are chosen, or all, in the order of their manifests; read a page at a time."""
        jobs = self._view.jobs(**chosen)

        async def following() -> JobInfo | None:
            return await anext(jobs, None)

        try:
            while (job := self._portal.call(following)) is not None:
                yield job
        finally:
            self._portal.call(jobs.aclose)

    def attempts(self, job: JobInfo) -> list[Attempt]:
        """Everything that happened to a job, in order."""
        return self._portal.call(self._view.attempts, job)

    def retry(self, *, may_pay_twice: bool = False, **chosen: Unpack[Chosen]) -> int:
        """Puts jobs that ended short of saved back to pending; as LedgerView.retry."""
        return self._portal.call(partial(self._view.retry, may_pay_twice=may_pay_twice, **chosen))


class OpenLedger:
    """A ledger to be opened: `async with` gives a LedgerView, `with` a BlockingLedgerView."""

    def __init__(self, at: Workplace) -> None:
        self._at = at
        self._async_stack = AsyncExitStack()
        self._stack = ExitStack()

    async def __aenter__(self) -> LedgerView:
        ledger = await self._async_stack.enter_async_context(await Ledger.open(self._at.ledger))
        return LedgerView(ledger, self._at)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._async_stack.aclose()

    def __enter__(self) -> BlockingLedgerView:
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal())
            view = stack.enter_context(portal.wrap_async_context_manager(self))
            self._stack = stack.pop_all()
        return BlockingLedgerView(view, portal)

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def open_ledger(
    path: str | PathLike[str] | None = None, **options: Unpack[PlaceOptions]
) -> OpenLedger:
    """A ledger to look at, by its path or where the config has it, as the commands find it.

    Raises UsageError where there is none.
    """
    if path is not None:
        options["ledger"] = path
    at = place_of(options, reading=True)
    if not at.ledger.exists():
        raise UsageError(f"there is no ledger at {at.ledger}; a run makes one")
    return OpenLedger(at)


def _state(text: State | str) -> State:
    try:
        return State(text)
    except ValueError:
        known = ", ".join(state.value for state in State)
        raise UsageError(f"there is no state `{text}`; there are {known}") from None
