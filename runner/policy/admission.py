"""How many jobs may be in flight, so that every result can be collected before the API forgets it.

Little's law: jobs in flight are completions a second times the time each spends there. No more are let in
than are completed and asked for within a quarter of the retention.
"""

from __future__ import annotations

from collections import deque

SHARE = 0.25
# A submit and one GET; a job costs more, and what was observed then counts.
LEAST_REQUESTS = 2
LEAST = 8
OBSERVED_S = 300.0
SHORTEST_OBSERVED_S = 60.0
ENOUGH = 20


class Admission:
    """The most jobs in flight, from the rate that is allowed and the completions that are seen."""

    def __init__(
        self, concurrency: int, rpm: int | None, retention_s: float, started: float
    ) -> None:
        self._concurrency = concurrency
        self._rpm = rpm
        self._retention_s = retention_s
        self._started = started
        self._completions: deque[float] = deque()

    def completed(self, now: float) -> None:
        """A job left the flight."""
        self._completions.append(now)

    def most(self, now: float) -> int:
        """The most jobs that may be in flight now."""
        while self._completions and self._completions[0] <= now - OBSERVED_S:
            self._completions.popleft()
        rate = self._completions_per_second(now)
        if rate is None:
            return self._concurrency
        collectable = int(SHARE * self._retention_s * rate)
        return max(1, min(self._concurrency, max(LEAST, collectable)))

    def _completions_per_second(self, now: float) -> float | None:
        allowed = self._rpm / 60 / LEAST_REQUESTS if self._rpm is not None else None
        elapsed_s = now - self._started
        if len(self._completions) < ENOUGH and elapsed_s < OBSERVED_S:
            return allowed
        span_s = min(OBSERVED_S, max(SHORTEST_OBSERVED_S, elapsed_s))
        observed = len(self._completions) / span_s
        return observed if allowed is None else min(observed, allowed)
