"""How many jobs may be in flight, so that every result can be collected before the API forgets it.

Little's law: jobs in flight are completions a second times the time each spends there. No more are let in
than are completed and asked for within a quarter of the retention. While nothing is known of the
backend, as many as two minutes of the rate can send, and one more for each completion.
"""

from __future__ import annotations

from collections import deque

SHARE = 0.25
# A submit and one GET; a job costs more, and what was observed then counts.
LEAST_REQUESTS = 2
LEAST = 8
# A backend that finishes fewer than so many jobs in an hour is rare.
UNPROVEN_MOST = 1000
UNPROVEN_MINUTES = 2
PROVEN = 1
# Where the rate is not known yet.
UNPROVEN_RPM = 60
OBSERVED_S = 300.0
SHORTEST_OBSERVED_S = 60.0
ENOUGH = 20


def unproven(rpm: float | None) -> int:
    """How many may be in flight before anything has come back, at a rate as far as it is known."""
    return int(min(UNPROVEN_MOST, UNPROVEN_MINUTES * (UNPROVEN_RPM if rpm is None else rpm)))


class Admission:
    """The most jobs in flight, from the rate that is allowed and the completions that are seen.

    `concurrency`: what the user allows, None for as many as rate and retention bear. `rpm`: the rate
    as far as known; it may change. Times are epoch seconds.
    """

    def __init__(
        self, concurrency: int | None, rpm: float | None, retention_s: float, started: float
    ) -> None:
        self.rpm = rpm
        self._concurrency = concurrency
        self._retention_s = retention_s
        self._started = started
        self._completed = 0
        self._first: float | None = None
        self._recent: deque[float] = deque()

    def completed(self, now: float) -> None:
        """A job left the flight."""
        self._completed += 1
        self._first = now if self._first is None else self._first
        self._recent.append(now)

    def most(self, now: float) -> int:
        """The most jobs that may be in flight now."""
        while self._recent and self._recent[0] <= now - OBSERVED_S:
            self._recent.popleft()
        most: float = unproven(self.rpm) + PROVEN * self._completed
        if (rate := self._completions_per_second(now)) is not None:
            most = min(most, SHARE * self._retention_s * rate)
        most = max(LEAST, int(most))
        return most if self._concurrency is None else max(1, min(self._concurrency, most))

    def _completions_per_second(self, now: float) -> float | None:
        allowed = self.rpm / 60 / LEAST_REQUESTS if self.rpm is not None else None
        if len(self._recent) < ENOUGH and now - self._started < OBSERVED_S:
            return allowed
        # How long the first job took says nothing of how many are completed a second.
        elapsed_s = now - (self._started if self._first is None else self._first)
        span_s = min(OBSERVED_S, max(SHORTEST_OBSERVED_S, elapsed_s))
        observed = len(self._recent) / span_s
        return observed if allowed is None else min(observed, allowed)
