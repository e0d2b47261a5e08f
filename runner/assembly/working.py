"""The composition of a run: every room made and handed what it needs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from random import Random
from typing import Any

import anyio

from runner.api import Access, Api
from runner.archive import Archive
from runner.assembly.session import SANDBOX_KEY, Workplace
from runner.clock import Clock
from runner.disk import let_go
from runner.downloader import MEDIA_RETENTION_S, Downloader
from runner.engine import Bounds, Engine, Steps, recall
from runner.errors import LedgerError
from runner.events import Ending, Observer
from runner.fetcher import Fetcher
from runner.gate import Gate
from runner.governor import Governor
from runner.inputs import InputRules, Inputs
from runner.inventory import Inventory
from runner.ledger import Ledger
from runner.ledger.compaction import compact
from runner.ledger.reading import model_history
from runner.policy.addresses import is_loopback
from runner.policy.admission import Admission
from runner.policy.breaker import Breaker
from runner.policy.budget import Budget
from runner.policy.pace import Pace
from runner.policy.polling import PollSchedule
from runner.policy.route import Route
from runner.poller import Pages, Poller
from runner.reconciler import DoubtRules, Reconciler
from runner.submitter import SubmitRules, Submitter
from runner.treasurer import Treasurer

COMPACTION_PAUSE_S = 0.05
# The simulated API in this process has no limit unless it is given one: there is nothing to learn.
SIMULATED_RPM = 60_000


@dataclass(frozen=True, slots=True)
class Task:
    """What a run is to work on: manifests by their keys in the ledger, and what bounds it."""

    manifests: tuple[int, ...]
    limit: int | None
    wait_for_credits: bool


async def work(
    ledger: Ledger, at: Workplace, task: Task, see: Observer, take_control: Callable[[Engine], None]
) -> Ending:
    """Runs an engine until all is settled or it is stopped; `take_control` gets it before it runs."""
    settings = at.settings
    async with AsyncExitStack() as stack:
        stack.callback(let_go)
        access = await stack.enter_async_context(_access(at))
        api = await stack.enter_async_context(Api(access))
        fetcher = await stack.enter_async_context(Fetcher(access.base_url))
        rng, run = Random(), settings.run
        learned, clock = await recall(ledger), Clock()
        rpm = settings.api.rpm or (SIMULATED_RPM if at.simulated else None)
        governor = Governor(Pace(rpm, learned.pace, clock.now()), rng, see, clock)
        schedule = PollSchedule(governor.rpm, learned.latencies)
        rules = SubmitRules(settings.run.submit_attempts, settings.run.retention_s)
        inputs = Inputs(ledger, api, governor, _input_rules(at, access), rng, see)
        doubt = DoubtRules(
            run.on_doubt, run.on_expired, run.doubt_wait_s, settings.api.timeout_s, run.retention_s
        )
        aside = _history_governor(access, governor, at, see, clock)
        by_pages = settings.api.poll == "history"
        route = Route("auto" if settings.api.poll == "history" else settings.api.poll)
        poller = Poller(ledger, api, governor, rng, see, route, schedule)
        steps = Steps(
            Submitter(ledger, api, governor, rules, rng, see, inputs),
            poller,
            Downloader(ledger, fetcher, governor, at.output, see, embed=settings.output.embed),
            Inventory(ledger, governor, at.output),
            Reconciler(ledger, api, aside, doubt, see),
            Treasurer(api, governor, see),
            Pages(poller, Archive(api, aside, see), ledger, aside) if by_pages else None,
        )
        bounds = Bounds(run.download_attempts, run.drain_s, task.wait_for_credits)
        gate = await _gate(ledger, at, task.limit, clock.now())
        engine = Engine(ledger, governor, steps, gate, bounds, task.manifests, see)
        await engine.recover()
        take_control(engine)
        return await _beside(engine.run(), _compact(ledger, governor))


async def _beside(run: Coroutine[Any, Any, Ending], housekeeping: Awaitable[None]) -> Ending:
    """The run, and beside it what ends with it."""
    keeping = asyncio.ensure_future(housekeeping)
    try:
        return await run
    finally:
        keeping.cancel()
        with anyio.CancelScope(shield=True), suppress(asyncio.CancelledError, LedgerError):
            await keeping


async def _compact(ledger: Ledger, governor: Governor) -> None:
    """Makes old stories short, a page at a time, so that nobody waits for it."""
    # A result can be asked for by its story for as long as its file may live.
    while await compact(ledger, governor.now() - MEDIA_RETENTION_S):
        await governor.sleep(COMPACTION_PAUSE_S)


@asynccontextmanager
async def _access(at: Workplace) -> AsyncIterator[Access]:
    """Where the API is: the configured one, or a sandbox in this process."""
    api = at.settings.api
    if not at.simulated:
        key = api.key.get_secret_value() if api.key is not None else ""
        yield Access(api.base_url, api.history_url, key, api.timeout_s, api.upload_url)
        return
    from runner.sandbox import Options, Sandbox

    # The journal lets a run that was killed find its requests again, as the real API would.
    options = Options(rpm=api.rpm, journal=at.ledger.with_name(at.ledger.name + ".journal"))
    async with Sandbox(options) as sandbox:
        yield Access(sandbox.url, sandbox.url, SANDBOX_KEY, api.timeout_s, sandbox.url)


def _input_rules(at: Workplace, access: Access) -> InputRules:
    """How files are sent; none leaves this machine where the API is on it."""
    api = at.settings.api
    far = is_loopback(access.base_url) and not is_loopback(access.upload_url)
    why_not = (
        f"files would be uploaded to {access.upload_url} while the API is at {access.base_url}; set"
        " `api.upload_url` as well, or `api.inputs: inline`"
    )
    return InputRules(
        inline=api.inputs == "inline",
        host=access.upload_url,
        attempts=at.settings.run.submit_attempts,
        timeout_s=api.timeout_s,
        objection=why_not if far else "",
    )


async def _gate(ledger: Ledger, at: Workplace, limit: int | None, now: float) -> Gate:
    """What is let in: as many as can be collected in time, and as much as may be spent."""
    run, rpm = at.settings.run, at.settings.api.rpm
    history = await model_history(ledger)
    # Reserved at the highest cost that was seen: an average would let a budget be overrun.
    highest = {model: found.highest_cost for model, found in history.items()}
    known = {model: cost for model, cost in highest.items() if cost is not None}
    admission = Admission(run.concurrency, rpm, run.retention_s, now)
    return Gate(admission, Budget(run.budget, {**run.prices, **known}), Breaker(run.breaker), limit)


def _history_governor(
    access: Access, governor: Governor, at: Workplace, see: Observer, clock: Clock
) -> Governor:
    """The history's own budget, unless it is on the API's own host."""
    if access.history_url == access.base_url:
        return governor
    return Governor(Pace(at.settings.api.rpm), Random(), see, clock)
