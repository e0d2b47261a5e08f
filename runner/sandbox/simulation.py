"""What all routes of one sandbox share: options, book, clock, rate windows, log."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from random import Random

from aiohttp import web

from runner.sandbox.answers import error_answer
from runner.sandbox.book import Book
from runner.sandbox.journal import Journal
from runner.sandbox.latency import Schedule
from runner.sandbox.options import Options
from runner.sandbox.rate import SlidingWindow, Window, reset_text
from runner.sandbox.requestlog import RequestLog
from runner.sandbox.studio import Studio


class Simulation:
    """The state of one sandbox between its start and its stop."""

    def __init__(self, options: Options, clock: Callable[[], float]) -> None:
        self.options = options
        self.book = Book(options)
        self.journal = Journal(options.journal)
        self.log = RequestLog()
        self.rng = Random(options.seed)
        self.schedule = Schedule(options.latency)
        window = SlidingWindow if options.sliding else Window
        self.api_window = window(options.rpm, options.window_s)
        self.history_window = window(options.history_rpm, options.window_s)
        self.studio = Studio(options.picture_px)
        self.origin = ""
        self.fetches: Counter[tuple[str, int]] = Counter()
        self._clock = clock
        self._closing = asyncio.Event()

    def now(self) -> float:
        """The server's time."""
        return self._clock() + self.options.clock_skew_s

    def remember(self) -> None:
        """Take in what the journal has of an earlier run."""
        for record in self.journal.open():
            self.book.add(record)
            self.book.posts_by_body[record.body_key] += 1
            if record.finished_at > self.now():
                self.schedule.remember(record.finished_at)

    async def nap(self, duration_s: float) -> None:
        """Wait, but not beyond the end of the sandbox."""
        try:
            async with asyncio.timeout(duration_s):
                await self._closing.wait()
        except TimeoutError:
            return

    def rate_limited(self, window: Window | SlidingWindow | None = None) -> web.Response:
        """A 429 that tells when the window lets requests in again; the API's own, unless one is named."""
        ends_at = (window or self.api_window).ends_at(self.now())
        reset = reset_text(ends_at, self.options.reset_format)
        return error_answer(429, "Rate limit exceeded", {"x-rate-limit-reset-at-utc": reset})

    def wake(self) -> None:
        """End all naps, for the sandbox is going to stop."""
        self._closing.set()

    def close(self) -> None:
        """Let go of thread and file."""
        self.studio.close()
        self.journal.close()
