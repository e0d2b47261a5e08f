"""A run from the outside: lock, plan, engine, display, summary."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio
import click

from runner import __version__
from runner.assembly.company import Companion, Stoppable, accompanied
from runner.assembly.place import Place
from runner.assembly.session import (
    Prepared,
    Workplace,
    adopt,
    check_origin,
    load_manifests,
    shell,
    workplace,
)
from runner.cli.closing import Begun, close_run, exit_status
from runner.cli.logfile import LogFile, logged
from runner.cli.watching import watcher
from runner.errors import EXIT_STOPPED_EARLY, MissingKeyError, RunnerError
from runner.events import Ending, Noted, Observer
from runner.governor import Governor
from runner.inventory import Inventory
from runner.job import State
from runner.ledger import Counts, Ledger, LedgerLock
from runner.ledger.reading import counts
from runner.policy.curfew import Deadline
from runner.policy.pace import Pace
from runner.report.summary import summary_json
from runner.report.tally import Heading, Tally

if TYPE_CHECKING:
    from runner.assembly.alerts import Alerts

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
    deadline: Deadline | None = None
    log_file: Path | None = None

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
    """What signals act on: the engine, once there is one; what comes before it until then.

    `log` is where it is all written down, if that was asked for.
    """

    log: LogFile | None = None
    engine: Stoppable | None = None
    signals: int = 0
    start: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    def take(self, engine: Stoppable) -> None:
        """From here on signals are for the engine; one that came just before as well."""
        self.engine = engine
        if self.signals:
            engine.drain("a signal")


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
    place_of_work = {"ledger": str(at.ledger), "output": str(at.output), "simulated": at.simulated}
    begun = {"version": __version__, "manifests": [m.name for m in manifests], **place_of_work}
    with lock, logged(options.log_file, begun) as log:
        return anyio.run(_run, manifests, at, options, shell(paths), log)


async def _run(
    manifests: Any, at: Workplace, options: RunOptions, arguments: str, log: LogFile | None
) -> int:
    control = _Control(log)
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
            elif control.signals == 1 and not control.engine.is_draining():
                control.engine.drain(name)
            else:
                control.engine.stop(f"a second {name}" if control.signals > 1 else name)


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
    ending, log = Ending(), control.log
    see = display.see if log is None else log.beside(display.see)
    needed = _needs_api(at, before) or await _lacks_files(ledger, at, prepared, before)
    alerts = await _alerts(at, begun, see, needed)
    if needed:
        from runner.assembly.working import Task, work

        task = Task(prepared.keys, options.limit, options.wait_for_credits)
        with display:
            _tell(see, prepared, doubtful)
            companions: list[Companion] = [alerts] if alerts else []
            if options.deadline is not None:
                companions.append(await _deadline_watch(ledger, at, prepared, options.deadline))
            try:
                begin = partial(work, ledger, at, task)
                ending = await accompanied(begin, see, control.take, companions)
            except RunnerError as error:
                _warn(await alerts.failed(error) if alerts else [])
                raise
    progress = tally.at(time.time())
    summary = await close_run(ledger, at, begun, ending, progress)
    if log is not None:
        log.write("ended", summary_json(summary))
    status = exit_status(summary, as_json=options.as_json)
    _warn(await alerts.ended(summary, ledger, idle=not needed) if alerts else [])
    return status


async def _alerts(at: Workplace, begun: Begun, see: Observer, needed: bool) -> Alerts | None:
    """Who tells people how the run fares; nobody where that is not wanted. Raises UsageError."""
    if not at.settings.notify.urls:
        return None
    from runner.notify import check_installed

    check_installed()
    if not needed and "idle" not in at.settings.notify.on:
        return None
    from runner.assembly.alerts import alerts_for

    return await alerts_for(at, begun.names, see)


async def _deadline_watch(
    ledger: Ledger, at: Workplace, prepared: Prepared, deadline: Deadline
) -> Companion:
    from runner.assembly.deadline import deadline_watch

    return await deadline_watch(ledger, deadline, prepared.keys, at.settings.run.drain_s)


def _warn(faults: Sequence[str]) -> None:
    for fault in faults:
        click.echo(f"warning: {fault}", err=True)


def _needs_api(at: Workplace, before: dict[str, Counts]) -> bool:
    """Whether anything is left to send or to ask for. Raises MissingKeyError."""
    if not _any_in(before, State.PENDING, State.SUBMITTED, State.IN_DOUBT, State.EXPIRED):
        return False
    if at.settings.api.key is None and not at.simulated:
        raise MissingKeyError(
            "no API key: set SEGMIND_API_KEY or `api.key` in the config, or try it with --sandbox"
        )
    return True


async def _lacks_files(
    ledger: Ledger, at: Workplace, prepared: Prepared, before: dict[str, Counts]
) -> bool:
    """Whether files are still to be fetched, or are gone from the disk."""
    if _any_in(before, State.COMPLETED):
        return True
    governor = Governor(Pace(), Random(), lambda _: None)
    found = [each async for each in Inventory(ledger, governor, at.output).take(prepared.keys)]
    return bool(found)


def _any_in(before: dict[str, Counts], *states: State) -> bool:
    return any(entry.states.get(state, 0) for entry in before.values() for state in states)


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


def _tell(see: Observer, prepared: Prepared, doubtful: int) -> None:
    for note in prepared.notes:
        see(Noted(note))
    if doubtful:
        jobs = "1 job is" if doubtful == 1 else f"{doubtful:,} jobs are"
        text = f"{jobs} in doubt: the last run ended while they were sent; the history is asked"
        see(Noted(text, warning=True))


def _planning_progress(options: RunOptions) -> Any:
    def tell(count: int) -> None:
        if count % SLOW_PLANNING_JOBS == 0 and not options.quiet and sys.stderr.isatty():
            click.echo(f"reading the manifest: {count:,} jobs", err=True)

    return tell
