"""The composition of a run: every room made and handed what it needs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from random import Random

from runner.api import Access, Api
from runner.assembly.session import SANDBOX_KEY, Workplace
from runner.clock import Clock
from runner.downloader import Downloader
from runner.engine import Bounds, Engine, Steps
from runner.events import Ending, Observer
from runner.fetcher import Fetcher
from runner.gate import Gate
from runner.governor import Governor
from runner.inventory import Inventory
from runner.ledger import Ledger
from runner.ledger.reading import model_history
from runner.policy.admission import Admission
from runner.policy.breaker import Breaker
from runner.policy.budget import Budget
from runner.policy.pace import Pace
from runner.poller import Poller
from runner.reconciler import DoubtRules, Reconciler
from runner.submitter import SubmitRules, Submitter
from runner.treasurer import Treasurer


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
        access = await stack.enter_async_context(_access(at))
        api = await stack.enter_async_context(Api(access))
        fetcher = await stack.enter_async_context(Fetcher(access.base_url))
        rng, run = Random(), settings.run
        clock = Clock()
        governor = Governor(Pace(settings.api.rpm), rng, see, clock)
        rules = SubmitRules(settings.run.submit_attempts, settings.run.retention_s)
        doubt = DoubtRules(
            run.on_doubt, run.on_expired, run.doubt_wait_s, settings.api.timeout_s, run.retention_s
        )
        steps = Steps(
            Submitter(ledger, api, governor, rules, rng, see),
            Poller(ledger, api, governor, rng, see),
            Downloader(ledger, fetcher, governor, at.output, see),
            Inventory(ledger, governor, at.output),
            Reconciler(
                ledger, api, _history_governor(access, governor, at, see, clock), doubt, see
            ),
            Treasurer(api, governor, see),
        )
        bounds = Bounds(run.download_attempts, run.drain_s, task.wait_for_credits)
        gate = await _gate(ledger, at, task.limit, clock.now())
        engine = Engine(ledger, governor, steps, gate, bounds, task.manifests, see)
        await engine.recover()
        take_control(engine)
        return await engine.run()


@asynccontextmanager
async def _access(at: Workplace) -> AsyncIterator[Access]:
    """Where the API is: the configured one, or a sandbox in this process."""
    api = at.settings.api
    if not at.simulated:
        key = api.key.get_secret_value() if api.key is not None else ""
        yield Access(api.base_url, api.history_url, key, api.timeout_s)
        return
    from runner.sandbox import Options, Sandbox

    # The journal lets a run that was killed find its requests again, as the real API would.
    options = Options(rpm=api.rpm, journal=at.ledger.with_name(at.ledger.name + ".journal"))
    async with Sandbox(options) as sandbox:
        yield Access(sandbox.url, sandbox.url, SANDBOX_KEY, api.timeout_s)


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
