"""When a page of the request history is worth asking for: one page tells the state of many jobs.

The history has a host and a rate of its own, so that its pages cost no submits. A round of pages is
asked for every INTERVAL_S while jobs are probably done, and less often as long as rounds decide
nothing. The newest requests come first, and a round turns as many pages as the oldest job in
flight is away from the top. Rows can be late: a job that is surely ready is given LATE_S to appear
before it is asked for by its own request.
"""

from __future__ import annotations

from math import ceil

ROWS = 100
INTERVAL_S = 5.0
LONGEST_INTERVAL_S = 60.0
GROWTH = 1.5
LATE_S = 60.0
# Others on the account put rows of their own between ours.
MARGIN_ROWS = 20
MOST_PAGES = 10


class PagePolls:
    """Rounds of pages, and which jobs they could not decide. Times are one clock's seconds."""

    def __init__(self) -> None:
        self._interval_s = INTERVAL_S
        self._last = -LONGEST_INTERVAL_S
        self._deferred: set[int] = set()

    def next_round(self, first_ready: float | None) -> float | None:
        """When to ask again; `first_ready`: when the first job in flight is probably done."""
        if first_ready is None:
            return None
        return max(first_ready, self._last + self._interval_s)

    def pages(self, submitted_since: int) -> int:
        """How many pages a round has, when so many jobs were sent since the oldest one in flight."""
        return min(MOST_PAGES, ceil((submitted_since + 1 + MARGIN_ROWS) / ROWS))

    def asked(self, now: float, decided: int) -> None:
        """A round ended that decided so many jobs."""
        self._last = now
        longer_s = min(self._interval_s * GROWTH, LONGEST_INTERVAL_S)
        self._interval_s = INTERVAL_S if decided else longer_s

    def defers(self, key: int) -> bool:
        """Whether a job that is surely ready should wait LATE_S for its row; once for each job."""
        if key in self._deferred:
            return False
        self._deferred.add(key)
        return True

    def discard(self, key: int) -> None:
        """Forgets a job."""
        self._deferred.discard(key)
