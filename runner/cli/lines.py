"""Progress as plain lines, for logs, pipes and cron mails: few of them, however long the night."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Self, TextIO

from runner.events import Draining, Event, Held, Moved, Noted
from runner.job import RETRYABLE_STATES, State
from runner.report.tally import Heading, Progress, Tally
from runner.report.words import dollars, duration, printable, roughly

FIRST_LINE_S = 5.0
SHORTEST_HOLD_S = 10.0
RATE_LIMIT = "rate limit"
FREQUENT_LINES = 10
OCCASIONAL_LINES = 10
MOST_FAILURES = 5
MOST_HOLDS = 10
MOST_WARNINGS = 20
MOST_NOTES = 10
REMEMBERED_NOTES = 50


class Allowance:
    """Lets `most` lines of a kind through, then says once that there are more."""

    def __init__(self, most: int, closing: str) -> None:
        self._left = most
        self._closing = closing

    def pass_on(self, line: str) -> str | None:
        """The line to print instead of `line`, if any."""
        self._left -= 1
        if self._left >= 0:
            return line
        return self._closing if self._left == -1 else None


class Schedule:
    """When the next progress line is due: often at first, then ever less."""

    def __init__(self, started_at: float, every_s: float) -> None:
        self._every_s = every_s
        self._lines = 0
        self._due_at = started_at + min(FIRST_LINE_S, every_s)

    def is_due(self, now: float) -> bool:
        """Whether a line may be printed at `now`."""
        return now >= self._due_at

    def printed(self, now: float) -> None:
        """A line was printed at `now`."""
        self._lines += 1
        if self._lines <= FREQUENT_LINES:
            factor = 1
        elif self._lines <= FREQUENT_LINES + OCCASIONAL_LINES:
            factor = 5
        else:
            factor = 15
        self._due_at = now + factor * self._every_s


class PlainLines:
    """Watches a run and prints a line now and then; a lost log never stops the run."""

    def __init__(
        self,
        tally: Tally,
        heading: Heading,
        *,
        stream: TextIO | None = None,
        every_s: float = 60.0,
        quiet: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tally = tally
        self._heading = heading
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._clock = clock
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._schedule = Schedule(clock(), every_s)
        self._shown = tally.at(clock()).counts
        self._last_hold = ""
        self._noted: deque[str] = deque(maxlen=REMEMBERED_NOTES)
        self._failures = Allowance(
            MOST_FAILURES, f"… further failures are in `{printable(heading.failures_command)}`"
        )
        self._holds = Allowance(MOST_HOLDS, "… further waits are not named here")
        self._warnings = Allowance(MOST_WARNINGS, "… further warnings are not shown here")
        self._notes = Allowance(MOST_NOTES, "… further notes are not shown here")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Print the first line and go on in the background."""
        if self._quiet:
            return
        self._print(_opening(self._heading, self._tally.at(self._clock())))
        self._thread = threading.Thread(target=self._watch, name="progress lines", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Print nothing more by itself."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(timeout=1.0)

    def see(self, event: Event) -> None:
        """Count the event, and print at once what should not wait."""
        with self._lock:
            now = self._clock()
            self._tally.see(event, now)
            line = self._immediate(event, now)
            if line is not None:
                self._print(line)

    def tick(self) -> None:
        """Print a progress line if one is due and something has changed."""
        with self._lock:
            now = self._clock()
            if self._quiet or not self._schedule.is_due(now):
                return
            progress = self._tally.at(now)
            if progress.counts == self._shown:
                return
            self._shown = progress.counts
            self._schedule.printed(now)
            self._print(progress_line(progress))

    def _watch(self) -> None:
        while not self._stopped.wait(1.0):
            self.tick()

    def _immediate(self, event: Event, now: float) -> str | None:
        if isinstance(event, Noted):
            return self._note(event)
        if self._quiet:
            return None
        match event:
            case Moved() if event.after in RETRYABLE_STATES:
                return self._failures.pass_on(_failure_line(event))
            case Held():
                return self._hold(event, now)
            case Draining():
                in_flight = self._tally.at(now).in_flight
                rest = f"; finishing {in_flight:,} in flight" if in_flight else ""
                return f"stopping: {printable(event.reason)}{rest}"
        return None

    def _hold(self, event: Held, now: float) -> str | None:
        """Long holds; and of an outage the first, which is short."""
        reason, last = printable(event.reason), self._last_hold
        self._last_hold = reason
        wait_s = event.until - now
        if wait_s < SHORTEST_HOLD_S and reason in (RATE_LIMIT, last):
            return None
        return self._holds.pass_on(f"waiting {duration(wait_s)}: {reason}")

    def _note(self, event: Noted) -> str | None:
        text = printable(event.text)
        if (self._quiet and not event.warning) or text in self._noted:
            return None
        self._noted.append(text)
        if event.warning:
            return self._warnings.pass_on(f"warning: {text}")
        return self._notes.pass_on(text)

    def _print(self, line: str) -> None:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self._clock()))
        try:
            self._stream.write(f"{stamp}  {line}\n")
            self._stream.flush()
        except (OSError, ValueError):
            # The reader is gone or the stream closed; the jobs are paid for and go on.
            self._stopped.set()


def progress_line(progress: Progress) -> str:
    """All that matters of a moment, on one line."""
    counts = progress.counts
    parts = [f"{counts.get(State.SAVED, 0):,}/{progress.total:,} saved"]
    if progress.in_flight:
        parts.append(f"{progress.in_flight:,} in flight")
    if completed := counts.get(State.COMPLETED):
        parts.append(f"{completed:,} to download")
    if pending := counts.get(State.PENDING):
        parts.append(f"{pending:,} pending")
    ended_short = [state for state in State if state in RETRYABLE_STATES and counts.get(state)]
    parts += [f"{counts[state]:,} {state.value.replace('_', ' ')}" for state in ended_short]
    parts.append(dollars(progress.spent_run))
    if progress.rate_limited:
        parts.append(f"{progress.rate_limited:,} refused (429)")
    if progress.saved_per_minute:
        parts.append(f"{progress.saved_per_minute:.1f}/min")
    if progress.eta_s:
        parts.append(f"about {roughly(progress.eta_s)} left")
    return ", ".join(parts)


def _opening(heading: Heading, progress: Progress) -> str:
    names = printable(", ".join(heading.names))
    left = progress.total - progress.settled
    simulated = " (SIMULATED)" if heading.simulated else ""
    saved = progress.counts.get(State.SAVED, 0)
    until = f", {heading.deadline}" if heading.deadline else ""
    todo = f"{left:,} of {progress.total:,} to do, {saved:,} saved"
    return f"runner: {names}{simulated}: {todo}{until}"


def _failure_line(event: Moved) -> str:
    reason = printable(event.reason or "") or "no reason given"
    return f"{printable(event.job_id)} {event.after.value.replace('_', ' ')}: {reason}"
