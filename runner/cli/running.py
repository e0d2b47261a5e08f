"""A run from the outside: lock, plan, engine, display, summary."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import anyio
import click

from runner.api import Access, Api
from runner.cli.closing import Begun, close_run, exit_status
from runner.cli.options import Place
from runner.cli.session import (
    SANDBOX_KEY,
    Prepared,
    Workplace,
    adopt,
    check_origin,
    load_manifests,
    shell,
    workplace,
)
from runner.cli.watching import Watcher, watcher
from runner.downloader import Downloader
from runner.engine import Bounds, Engine, Steps
from runner.errors import EXIT_STOPPED_EARLY, MissingKeyError, RunnerError, StoppedEarly
from runner.events import Ending, Noted, Observer
from runner.fetcher import Fetcher
from runner.gate import Gate
from runner.governor import Governor
from runner.inventory import Inventory
from runner.job import State
from runner.ledger import Counts, Ledger, LedgerLock
from runner.ledger.reading import counts, model_history
from runner.policy.admission import Admission
from runner.policy.breaker import Breaker
from runner.policy.budget import Budget
from runner.policy.pace import Pace
from runner.poller import Poller
from runner.reconciler import DoubtRules, Reconciler
from runner.report.tally import Heading, Tally
from runner.submitter import SubmitRules, Submitter
from runner.treasurer import Treasurer

# A manifest that is read in a moment needs no word about it.
SLOW_PLANNING_JOBS = 50_000


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What was asked of this run on the command line."""

    concurrency: int | None = None
    rpm: int | None = None
    budget: float | None = None
    wait_for_credits: bool = False
    limit: int | None = None
    on_doubt: str | None = None
    on_expired: str | None = None
    as_json: bool = False
    quiet: bool = False
    verbose: bool = False

    def typed(self) -> str:
        """The options that a resumed run should be given again."""
        named = {
            "--concurrency": self.concurrency,
            "--rpm": self.rpm,
            "--budget": self.budget,
            "--on-doubt": self.on_doubt,
            "--on-expired": self.on_expired,
        }
        typed = [f"{name} {value}" for name, value in named.items() if value is not None]
        return " ".join(typed + ["--wait-for-credits"] * self.wait_for_credits)


@dataclass(slots=True)
class _Control:
    """What signals act on: the engine, once there is one; what comes before it until then."""

    engine: Engine | None = None
    signals: int = 0
    start: anyio.CancelScope = field(default_factory=anyio.CancelScope)


def run_manifests(paths: Sequence[Path], place: Place, options: RunOptions) -> int:
    """Runs the manifests; returns the exit status."""
    overrides = {
        "run.concurrency": options.concurrency,
        "run.on_doubt": options.on_doubt,
        "run.on_expired": options.on_expired,
        "run.budget": options.budget,
        "api.rpm": options.rpm,
    }
    at = workplace(place, overrides)
    manifests = load_manifests(paths)
    lock = LedgerLock(at.ledger)
    lock.acquire(time.time())
    with lock:
        return anyio.run(_run, manifests, at, options, shell(paths))


async def _run(manifests: Any, at: Workplace, options: RunOptions, arguments: str) -> int:
    control = _Control()
    result, failure = EXIT_STOPPED_EARLY, None
    async with anyio.create_task_group() as group:
        await group.start(_watch_signals, control)
        try:
            result = await _with_ledger(manifests, at, options, arguments, control)
        except RunnerError as error:
            # Out of the group it would come as a group, which nobody words.
            failure = error
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure
    if control.start.cancelled_caught:
        click.echo("stopped before anything was sent; run again to go on", err=True)
    return result


async def _watch_signals(
    control: _Control, *, task_status: Any = anyio.TASK_STATUS_IGNORED
) -> None:
    """The first signal drains, the second stops; before the engine runs, the first one stops."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
        task_status.started()
        async for number in received:
            control.signals += 1
            name = signal.Signals(number).name
            if control.engine is None:
                control.start.cancel()
            elif control.signals == 1:
                control.engine.drain(name)
            else:
                control.engine.stop(f"a second {name}")


async def _with_ledger(
    manifests: Any, at: Workplace, options: RunOptions, arguments: str, control: _Control
) -> int:
    async with await Ledger.open(at.ledger) as ledger:
        # Inside of the ledger's own block: that is left in order, whatever is cancelled.
        with control.start:
            return await _on_ledger(ledger, manifests, at, options, arguments, control)
    return EXIT_STOPPED_EARLY


async def _on_ledger(
    ledger: Ledger,
    manifests: Any,
    at: Workplace,
    options: RunOptions,
    arguments: str,
    control: _Control,
) -> int:
    await check_origin(ledger, simulated=_is_simulated(at))
    prepared = await adopt(ledger, manifests, at.output, _planning_progress(options))
    begun = Begun(
        [m.name for m in manifests], prepared.keys, time.time(), arguments, options.typed()
    )
    doubtful = await ledger.doubt_interrupted(time.time())
    before = await counts(ledger)
    tally = _tally(before, begun, at)
    display = watcher(tally, _heading(begun, at), options.quiet, options.verbose)
    ending = Ending()
    if await _has_work(ledger, prepared, at, before):
        with display:
            _tell(display, prepared, doubtful)
            ending = await _work(ledger, at, options, prepared, display, control)
    progress = tally.at(time.time())
    summary = await close_run(ledger, at, begun, ending, progress)
    return exit_status(summary, as_json=options.as_json)


async def _has_work(
    ledger: Ledger, prepared: Prepared, at: Workplace, before: dict[str, Counts]
) -> bool:
    """Whether anything is left to do, be it only to look for files. Raises MissingKeyError."""
    needs_api = any(
        entry.states.get(state, 0)
        for entry in before.values()
        for state in (State.PENDING, State.SUBMITTED, State.IN_DOUBT, State.EXPIRED)
    )
    if needs_api and at.settings.api.key is None and not at.simulated:
        raise MissingKeyError(
            "no API key: set SEGMIND_API_KEY or `api.key` in the config, or try it with --sandbox"
        )
    return needs_api or any(
        entry.states.get(state, 0)
        for entry in before.values()
        for state in (State.COMPLETED, State.SAVED, State.EXPIRED)
    )


async def _work(
    ledger: Ledger,
    at: Workplace,
    options: RunOptions,
    prepared: Prepared,
    display: Watcher,
    control: _Control,
) -> Ending:
    settings = at.settings
    async with AsyncExitStack() as stack:
        access = await stack.enter_async_context(_access(at))
        api = await stack.enter_async_context(Api(access))
        fetcher = await stack.enter_async_context(Fetcher(access.base_url))
        rng, see, run = Random(), display.see, settings.run
        governor = Governor(Pace(settings.api.rpm), rng, see)
        rules = SubmitRules(settings.run.submit_attempts, settings.run.retention_s)
        doubt = DoubtRules(
            run.on_doubt, run.on_expired, run.doubt_wait_s, settings.api.timeout_s, run.retention_s
        )
        steps = Steps(
            Submitter(ledger, api, governor, rules, rng, see),
            Poller(ledger, api, governor, rng, see),
            Downloader(ledger, fetcher, governor, at.output, see),
            Inventory(ledger, governor, at.output),
            Reconciler(ledger, api, _history_governor(access, governor, at, see), doubt, see),
            Treasurer(api, governor, see),
        )
        bounds = Bounds(run.download_attempts, run.drain_s, options.wait_for_credits)
        gate = await _gate(ledger, at, options)
        engine = Engine(ledger, governor, steps, gate, bounds, prepared.keys, see)
        await engine.recover()
        control.engine = engine
        if control.signals:
            engine.drain("a signal")
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


async def _gate(ledger: Ledger, at: Workplace, options: RunOptions) -> Gate:
    """What is let in: as many as can be collected in time, and as much as may be spent."""
    run, rpm = at.settings.run, at.settings.api.rpm
    history = await model_history(ledger)
    known = {model: found.cost for model, found in history.items() if found.cost is not None}
    admission = Admission(run.concurrency, rpm, run.retention_s, time.time())
    return Gate(
        admission, Budget(run.budget, {**run.prices, **known}), Breaker(run.breaker), options.limit
    )


def _history_governor(access: Access, governor: Governor, at: Workplace, see: Observer) -> Governor:
    """The history's own budget, unless it is on the API's own host."""
    if access.history_url == access.base_url:
        return governor
    return Governor(Pace(at.settings.api.rpm), Random(), see)


def _is_simulated(at: Workplace) -> bool:
    """A loopback API is a simulated one, too: its results are none to keep beside real ones."""
    host = urlsplit(at.settings.api.base_url).hostname or ""
    return at.simulated or host in ("localhost", "::1") or host.startswith("127.")


def _tally(before: dict[str, Counts], begun: Begun, at: Workplace) -> Tally:
    states: dict[State, int] = {}
    spent = 0.0
    for name in begun.names:
        entry = before.get(name, Counts(name))
        spent += entry.spent
        for state, count in entry.states.items():
            states[state] = states.get(state, 0) + count
    return Tally(states, started_at=begun.started, spent_before=spent, rpm=at.settings.api.rpm)


def _heading(begun: Begun, at: Workplace) -> Heading:
    command = " ".join(filter(None, ("runner status", begun.arguments, at.options)))
    return Heading(tuple(begun.names), at.simulated, at.settings.run.concurrency, command)


def _tell(display: Watcher, prepared: Prepared, doubtful: int) -> None:
    for note in prepared.notes:
        display.see(Noted(note))
    if doubtful:
        jobs = "1 job is" if doubtful == 1 else f"{doubtful:,} jobs are"
        text = f"{jobs} in doubt: the last run ended while they were sent; the history is asked"
        display.see(Noted(text, warning=True))


def _planning_progress(options: RunOptions) -> Any:
    def tell(count: int) -> None:
        if count % SLOW_PLANNING_JOBS == 0 and not options.quiet and sys.stderr.isatty():
            click.echo(f"reading the manifest: {count:,} jobs", err=True)

    return tell


__all__ = ["RunOptions", "StoppedEarly", "run_manifests"]
