"""Who watches a run: the live display, plain lines, or a line for everything."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Self, TextIO

from runner.assembly.running import Watcher
from runner.events import Answered, Draining, Event, Held, Moved, Noted
from runner.report.tally import Heading, Tally
from runner.report.words import printable


class Trace:
    """`--verbose`: a line for every request and every move."""

    def __init__(
        self, tally: Tally, stream: TextIO | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._tally = tally
        self._stream = stream or sys.stderr
        self._clock = clock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def see(self, event: Event) -> None:
        """Prints the event as a line."""
        now = self._clock()
        self._tally.see(event, now)
        stamp = time.strftime("%H:%M:%S", time.localtime(now)) + f".{int(now % 1 * 1000):03}"
        try:
            print(f"{stamp} {printable(_words(event, now))}", file=self._stream, flush=True)
        except (OSError, ValueError):
            # A log that is gone is no reason to leave jobs behind.
            return


def _words(event: Event, now: float) -> str:
    match event:
        case Moved():
            name = event.job_id or f"{event.count} jobs of {event.model}"
            reason = f" ({event.reason})" if event.reason else ""
            cost = f" ${event.cost:.4f}" if event.cost else ""
            return f"{name}: {event.before} -> {event.after}{cost}{reason}"
        case Answered():
            status = "no answer" if event.status is None else f"HTTP {event.status}"
            return f"{event.call}: {status} in {event.seconds * 1000:.0f} ms"
        case Held():
            return f"nothing is sent for {max(0.0, event.until - now):.1f} s: {event.reason}"
        case Draining():
            return f"no new submits: {event.reason}"
        case Noted():
            return f"warning: {event.text}" if event.warning else event.text


def watcher(tally: Tally, heading: Heading, quiet: bool, verbose: bool) -> Watcher:
    """The right display for the terminal there is and the words that are wanted."""
    if verbose:
        return Trace(tally)
    if not quiet and sys.stderr.isatty():
        from rich.console import Console

        from runner.cli.live import LiveDisplay, can_show

        console = Console(stderr=True)
        if can_show(console):
            return LiveDisplay(tally, heading, console=console)
    from runner.cli.lines import PlainLines

    return PlainLines(tally, heading, quiet=quiet)
