"""The only clock and the only sleeper of a run: every request to a host asks its governor first."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from enum import IntEnum
from random import Random

import anyio

from runner.clock import Clock
from runner.events import Held, Observer
from runner.job import Answer
from runner.policy.backoff import full_jitter
from runner.policy.pace import Pace, hold_until

JITTER_S = (0.05, 0.75)
# One process after the other must not wake for every short pause of the network.
UNREACHABLE_CAP_S = 60.0


class Urgency(IntEnum):
    """Who goes first when the rate is short; the smaller the sooner."""

    COLLECT = 0
    POLL = 1
    SUBMIT = 2
    # What is asked aside is little and must not wait for ever: it takes its turn among the submits.
    ASIDE = 2
    GUESS = 3


class Bell:
    """Wakes one waiting loop; a ring while nobody waits is not lost."""

    def __init__(self) -> None:
        self._rung = False
        self._waiter: asyncio.Future[None] | None = None

    def ring(self) -> None:
        """Wakes whoever waits, or the next one who will."""
        self._rung = True
        _wake(self._waiter)

    async def wait(self, timeout_s: float | None = None) -> None:
        """Returns at the next ring or after `timeout_s` seconds."""
        # Rung several times for each job: an event and a cancel scope each time would cost more than it.
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        alarm = None if timeout_s is None else loop.call_later(timeout_s, _wake, self._waiter)
        if self._rung:
            _wake(self._waiter)
        try:
            await self._waiter
        finally:
            if alarm is not None:
                alarm.cancel()
            self._waiter, self._rung = None, False


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


class Governor:
    """Grants turns at a host's pace. `run` must be under way in the engine's task group."""

    def __init__(
        self, pace: Pace, rng: Random, observer: Observer, clock: Clock | None = None
    ) -> None:
        self._clock = clock or Clock()
        self._pace = pace
        self._rng = rng
        self._observer = observer
        self._waiting: list[tuple[Urgency, int, anyio.Event]] = []
        self._numbers = itertools.count()
        self._bell = Bell()
        self._streak = 0
        self.server = self._clock.server
        self.ever_reached = False

    def now(self) -> float:
        """Epoch seconds of a clock that does not jump within a run."""
        return self._clock.now()

    async def sleep(self, seconds: float) -> None:
        """Waits; everything in a run that waits for time waits here."""
        await anyio.sleep(seconds)

    async def turn(self, urgency: Urgency) -> None:
        """Returns when one request may leave; the caller sends it at once."""
        now = self._clock.monotonic()
        if not self._waiting and self._pace.wait_s(now) <= 0:
            self._pace.take(now)
            return
        granted = anyio.Event()
        ticket = (urgency, next(self._numbers), granted)
        heapq.heappush(self._waiting, ticket)
        self._bell.ring()
        try:
            await granted.wait()
        except BaseException:
            if not granted.is_set():
                self._waiting.remove(ticket)
                heapq.heapify(self._waiting)
            raise

    async def run(self) -> None:
        """Grants the turns that have to wait, the most urgent first."""
        while True:
            if not self._waiting:
                await self._bell.wait()
                continue
            wait_s = self._pace.wait_s(self._clock.monotonic())
            if wait_s > 0:
                await self.sleep(wait_s)
                continue
            _, _, granted = heapq.heappop(self._waiting)
            self._pace.take(self._clock.monotonic())
            granted.set()

    def rate_limited(self, answer: Answer) -> float:
        """A 429: nothing leaves before its reset, plus jitter. Returns when that is."""
        now, passed = self.now(), self._clock.monotonic()
        wait_s = hold_until(answer, now) - now
        self._pace.refused(passed, passed + wait_s, passed - answer.seconds)
        return self._hold(wait_s + self._rng.uniform(*JITTER_S), "rate limit")

    def unreachable(self, reason: str) -> float:
        """No connection could be made: waits before the next, the longer the more often it fails."""
        # Requests that left together and failed together are one failure.
        if self._clock.monotonic() >= self._pace.held_until:
            self._streak += 1
        # Never quite at once: a refused connection answers in no time at all.
        wait_s = 0.25 + full_jitter(self._streak, self._rng, cap_s=UNREACHABLE_CAP_S)
        return self._hold(wait_s, f"cannot connect: {reason}")

    @property
    def rpm(self) -> float | None:
        """The requests a minute that are allowed, as far as that is known."""
        return self._pace.rpm

    def remembered(self) -> dict[str, float]:
        """What was learned of the rate, for a later run."""
        return self._pace.remembered(self.now())

    def reached(self, answer: Answer) -> None:
        """The host answered, and perhaps told its time."""
        self._streak = 0
        self.ever_reached = True
        self.server.hear(answer.server_time, self.now(), answer.seconds)

    def _hold(self, seconds: float, reason: str) -> float:
        now = self.now()
        if self._pace.hold(self._clock.monotonic() + seconds):
            self._observer(Held(now + seconds, reason))
        return now + seconds
