"""How long the latest jobs of a model took, as order statistics."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterable
from math import inf

MEMORY = 100
REMEMBERED = 20
# Fewer say nothing yet: the first to be done are not like the rest.
ENOUGH = 10
# A job that outlasts all that is known is expected to take this multiple of its age.
AGAIN = 1.2


class Latencies:
    """Seconds from submission to the end of the last MEMORY jobs, in order of time and of size."""

    def __init__(self, remembered_s: Iterable[float] = ()) -> None:
        self._latest: deque[float] = deque()
        self._ordered: list[float] = []
        for latency_s in remembered_s:
            self.learn(latency_s)

    @property
    def are_known(self) -> bool:
        """Whether they are enough to go by."""
        return len(self._ordered) >= ENOUGH

    @property
    def median_s(self) -> float:
        """Half of the jobs took longer; call it when they are known."""
        return self._ordered[len(self._ordered) // 2]

    def learn(self, latency_s: float) -> None:
        """Takes one in, and forgets the oldest."""
        if len(self._latest) == MEMORY:
            del self._ordered[bisect_right(self._ordered, self._latest.popleft()) - 1]
        self._latest.append(latency_s)
        insort(self._ordered, latency_s)

    def age_s(self, share: float, ran_s: float = 0.0) -> float:
        """The age by which this share of the jobs that still ran at `ran_s` were done; inf if unknown."""
        if not self.are_known:
            return inf
        place = bisect_right(self._ordered, ran_s)
        longer = len(self._ordered) - place
        if not longer:
            return ran_s * (1 + (AGAIN - 1) * share)
        age_s = self._ordered[place + min(longer - 1, int(share * longer))]
        # The less is known, the more is allowed for.
        return age_s * (1 + 1 / len(self._ordered))

    def remembered(self) -> list[float]:
        """Some values that stand for all, evenly spaced by rank; plain JSON."""
        known = len(self._ordered)
        count = min(REMEMBERED, known)
        places = ((2 * n + 1) * known // (2 * count) for n in range(count))
        return [round(self._ordered[place], 3) for place in places]
