"""The one way of a run, whoever asks for it: adopt, work, close. Who watches is the caller's business."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Protocol, Self
from urllib.parse import urlsplit

from runner.assembly.closing import Begun, close_run
from runner.assembly.company import Companion, accompanied
from runner.assembly.control import Control
from runner.assembly.planning import estimate_run, remember_observed
from runner.assembly.session import Prepared, Progress, Workplace, adopt, check_origin
from runner.errors import MissingKeyError, RunnerError
from runner.events import Ending, Event, Noted, Observer
from runner.governor import Governor
from runner.inventory import Inventory
from runner.job import State
from runner.ledger import Counts, Ledger
from runner.ledger.reading import counts
from runner.policy.curfew import Deadline
from runner.policy.pace import Pace
from runner.report.summary import Summary
from runner.report.tally import Tally

if TYPE_CHECKING:
    from runner.assembly.alerts import Alerts
    from runner.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a run beside its settings; `arguments` and `options` as they were typed, for hints."""

    limit: int | None = None
    wait_for_credits: bool = False
    arguments: str = ""
    options: str = ""
    deadline: Deadline | None = None


class Watcher(Protocol):
    """Sees every event of a run, as a context manager around it."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def see(self, event: Event) -> None:
        """Takes an event in; never raises into the run."""


@dataclass(frozen=True, slots=True)
class Audience:
    """Who follows a run: a watcher made for its tally, and whoever is told how planning goes on."""

    watcher: Callable[[Tally, Begun], Watcher]
    planning: Progress


async def run_to_end(
    manifests: Sequence[Manifest], at: Workplace, asked: Asked, control: Control, audience: Audience
) -> Summary | None:
    """Does whatever of the manifests is not done; None when it was ended before anything was sent.

    The caller holds the ledger's lock.
    """
    async with await Ledger.open(at.ledger) as ledger:
        # Inside of the ledger's own block: that is left in order, whatever is cancelled.
        with control.start:
            return await _on_ledger(ledger, manifests, at, asked, control, audience)
    return None


async def _on_ledger(
    ledger: Ledger,
    manifests: Sequence[Manifest],
    at: Workplace,
    asked: Asked,
    control: Control,
    audience: Audience,
) -> Summary:
    await check_origin(ledger, simulated=_is_simulated(at))
    prepared = await adopt(ledger, manifests, at.output, audience.planning)
    names = [manifest.name for manifest in manifests]
    doubtful = await ledger.doubt_interrupted(time.time())
    before = await counts(ledger)
    estimate = None
    if _any_in(before, State.PENDING, State.SUBMITTED):
        estimate = await estimate_run(ledger, at, prepared.keys, asked.limit)
    begun = Begun(names, prepared.keys, time.time(), asked.arguments, asked.options, estimate)
    tally = _tally(before, begun, at)
    watcher = audience.watcher(tally, begun)
    needed = _needs_api(at, before) or await _lacks_files(ledger, at, prepared, before)
    alerts = await _alerts(at, begun, watcher.see, needed)
    if not needed:
        summary = await close_run(ledger, at, begun, Ending(), tally.at(time.time()))
        if alerts is not None:
            await alerts.ended(summary, ledger, idle=True)
        return summary
    # Not before there is something to do: a run without is over in a moment.
    from runner.assembly.working import Task, work

    task = Task(prepared.keys, asked.limit, asked.wait_for_credits)
    with watcher:
        _tell(watcher, prepared, doubtful)
        companions: list[Companion] = [alerts] if alerts else []
        if asked.deadline is not None:
            companions.append(await _deadline_watch(ledger, at, prepared, asked.deadline))
        try:
            begin = partial(work, ledger, at, task)
            ending = await accompanied(begin, watcher.see, control.take, companions)
        except RunnerError as error:
            if alerts is not None:
                await alerts.failed(error)
            raise
        progress = tally.at(time.time())
        inherited = sum(entry.states.get(State.SUBMITTED, 0) for entry in before.values())
        await remember_observed(ledger, progress, inherited, at.settings.api.rpm)
        gallery = ""
        if at.settings.run.gallery:
            from runner.assembly.gallery import gallery_of_run

            gallery = await gallery_of_run(ledger, at, control, watcher.see)
        summary = replace(await close_run(ledger, at, begun, ending, progress), gallery=gallery)
        if alerts is not None:
            await alerts.ended(summary, ledger)
    return summary


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
    async for _ in Inventory(ledger, governor, at.output).take(prepared.keys):
        # One is enough to know: the run looks for the others.
        return True
    return False


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


def _tell(watcher: Watcher, prepared: Prepared, doubtful: int) -> None:
    for note in prepared.notes:
        watcher.see(Noted(note))
    if doubtful:
        jobs = "1 job is" if doubtful == 1 else f"{doubtful:,} jobs are"
        text = f"{jobs} in doubt: the last run ended while they were sent; the history is asked"
        watcher.see(Noted(text, warning=True))
