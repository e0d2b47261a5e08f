"""Tells people how a run fares: when it pauses while it goes on, and how it ended."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence

import anyio
import anyio.to_thread

from runner.assembly.control import Stoppable
from runner.assembly.session import Workplace
from runner.errors import EXIT_KEY_REFUSED, EXIT_STOPPED_EARLY
from runner.events import Answered, Event, Held, Noted, Observer
from runner.job import RETRYABLE_STATES
from runner.ledger import Ledger
from runner.ledger.reading import Selection, listed
from runner.notify import Notice, Notifier
from runner.report.notices import Sender, ended_notice, failed_notice, paused_notice
from runner.report.summary import Summary

# An API that is not reached for so long is worth a word.
SILENCE_S = 600.0
BETWEEN_PAUSES_S = 1800.0
MOST_FAILURES = 5


class Alerts:
    """Sends notices on the occasions that the settings name; `warn` is told of those that fail."""

    def __init__(
        self,
        notifier: Notifier,
        at: Workplace,
        names: Sequence[str],
        warn: Observer,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._notifier = notifier
        self._settings = at.settings.notify
        self._sender = Sender(tuple(names), platform.node() or "this computer", at.simulated)
        self._warn = warn
        self._clock = clock
        self._heard_at = clock()
        self._told_at = float("-inf")
        self._queue: list[Notice] = []
        self._rings = anyio.Event()

    def see(self, event: Event) -> None:
        """Notices when the run waits for something that it cannot bring about itself."""
        match event:
            case Answered(status=int()):
                self._heard_at = self._clock()
            case Noted(pause=True):
                self._pause(event.text)
            case Held() if self._clock() - self._heard_at >= SILENCE_S:
                self._pause(event.reason)

    async def accompany(self, engine: Stoppable) -> None:
        """Sends what comes up during the run."""
        while True:
            await self._rings.wait()
            self._rings = anyio.Event()
            while self._queue:
                await self._send(self._queue.pop(0))

    async def ended(self, summary: Summary, ledger: Ledger, *, idle: bool = False) -> None:
        """Tells how the run ended; `idle`: there was nothing to do."""
        early = summary.exit_code in (EXIT_STOPPED_EARLY, EXIT_KEY_REFUSED)
        if ("idle" if idle else "stop" if early else "end") not in self._settings.on:
            return
        told = self._settings.prompts and not idle
        failures = await _failures(ledger, self._sender.names) if told else []
        await self._send(ended_notice(self._sender, summary, failures))

    async def failed(self, error: Exception) -> None:
        """Tells which error ended the run."""
        if "stop" in self._settings.on:
            await self._send(failed_notice(self._sender, str(error)))

    def _pause(self, reason: str) -> None:
        now = self._clock()
        if "pause" not in self._settings.on or now - self._told_at < BETWEEN_PAUSES_S:
            return
        self._told_at = now
        self._queue.append(paused_notice(self._sender, reason))
        self._rings.set()

    async def _send(self, notice: Notice) -> None:
        for fault in await anyio.to_thread.run_sync(self._notifier.send, notice):
            self._warn(Noted(f"a notification was not sent: {fault}", warning=True))


async def alerts_for(at: Workplace, names: Sequence[str], warn: Observer) -> Alerts | None:
    """The alerts that the settings ask for; None without. Raises UsageError before anything is sent."""
    urls = [url.get_secret_value() for url in at.settings.notify.urls]
    if not urls:
        return None
    # Apprise takes a second to read its hundred services.
    notifier = await anyio.to_thread.run_sync(Notifier, urls)
    return Alerts(notifier, at, names, warn)


async def _failures(ledger: Ledger, names: Sequence[str]) -> list[str]:
    lines: list[str] = []
    states = tuple(state for state in RETRYABLE_STATES)
    async for job in listed(ledger, Selection(tuple(names), states)):
        if len(lines) == MOST_FAILURES:
            return [*lines, "…"]
        prompt = job.params.get("prompt", job.id)
        lines.append(f"{job.state.replace('_', ' ')}: {prompt} ({job.error or 'no reason given'})")
    return lines
