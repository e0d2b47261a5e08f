"""Which job in flight is worth the next request: the step rule over learned ages.

One number per model, the age at which a job is first asked, follows what first asks find: up by
`e^STEP_UP` after one that came too early, down by a ninth of that after one that did not, so that
about nine in ten find the job done. A job asked too early is asked again at `AGAIN` times its age.
The first jobs of a model, and now and then another, are scouts: asked at geometrically growing ages,
so that the number starts right and a speed-up is noticed.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from math import exp

STEP_UP = 0.108
STEP_DOWN = STEP_UP / 9
AGAIN = 1.2
SCOUT_FIRST_S = 1.0
SCOUT_GROWTH = 1.5
SCOUTS = 3
SCOUT_EVERY = 300
SHORTEST_WAIT_S = 0.25
# Below this share of the retention a job is asked by its deadline and not by its turn.
URGENT_SHARE = 0.25


@dataclass(slots=True)
class _Flight:
    model: str
    started: float
    deadline: float
    due: float
    scout: bool
    teaches: bool
    asks: int = 0
    found: bool = False


@dataclass(slots=True)
class _Learned:
    first_ask_s: float = SCOUT_FIRST_S
    seen: int = 0
    scouted: int = 0


class PollSchedule:
    """The jobs in flight and when each is to be asked. Keys are the ledger's; times are one clock's."""

    def __init__(self) -> None:
        self._flights: dict[int, _Flight] = {}
        self._learned: dict[str, _Learned] = {}
        self._by_due: list[tuple[float, int]] = []
        self._by_deadline: list[tuple[float, int]] = []
        self._ready: set[int] = set()
        self._ready_by_due: list[tuple[float, int]] = []
        self._ready_by_deadline: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._flights)

    def add(
        self, key: int, model: str, started: float, deadline: float, *, teaches: bool = True
    ) -> None:
        """Takes a job in that was submitted at `started` and is forgotten by the API at `deadline`.

        `teaches` False: nobody was there to ask it in time, so that its age says nothing of its model.
        """
        learned = self._learned.setdefault(model, _Learned())
        scout = teaches and (learned.seen < SCOUTS or learned.seen % SCOUT_EVERY == 0)
        learned.seen += teaches
        flight = _Flight(model, started, deadline, started, scout, teaches)
        flight.due = self._first_due(flight)
        self._flights[key] = flight
        self._push(key, flight)

    def next_due(self, now: float) -> float | None:
        """When the next job wants to be asked; at most `now` when one is ready, None without jobs."""
        self._gather(now)
        if self._ready:
            return now
        return self._by_due[0][0] if self._by_due else None

    def pop(self, now: float) -> int | None:
        """The job most worth a request now, or None; it is not given again before it is put back."""
        self._gather(now)
        if not self._ready:
            return None
        key = self._first_ready(self._ready_by_deadline)
        flight = self._flights[key]
        # Judged now and not when it became due: it may have waited for its turn since then.
        if flight.deadline - now >= URGENT_SHARE * (flight.deadline - flight.started):
            key = self._first_ready(self._ready_by_due)
        self._ready.remove(key)
        return key

    def running(self, key: int, now: float) -> None:
        """The asked job still runs: learns from it and asks it again later."""
        flight = self._flights[key]
        learned = self._learned[flight.model]
        age_s = max(now - flight.started, SHORTEST_WAIT_S)
        flight.asks += 1
        if flight.scout and learned.scouted < SCOUTS:
            # Before the first scouts are home, nobody younger than they are is asked.
            learned.first_ask_s = max(learned.first_ask_s, age_s)
        elif flight.asks == 1 and not flight.scout and flight.teaches:
            learned.first_ask_s = max(learned.first_ask_s, age_s * exp(STEP_UP))
        growth = SCOUT_GROWTH if flight.scout else AGAIN
        self._again(key, flight, now, age_s * (growth - 1))

    def later(self, key: int, now: float, wait_s: float) -> None:
        """The job could not be asked: again after `wait_s` seconds; nothing is learned."""
        self._again(key, self._flights[key], now, wait_s)

    def found(self, key: int, now: float) -> None:
        """The asked job has ended: learns from it, once. It stays until it is discarded."""
        flight = self._flights[key]
        if flight.found:
            return
        flight.found = True
        learned = self._learned[flight.model]
        age_s = max(now - flight.started, SHORTEST_WAIT_S)
        if flight.scout:
            learned.scouted += 1
            if learned.scouted <= SCOUTS:
                learned.first_ask_s = max(learned.first_ask_s, age_s)
            else:
                learned.first_ask_s = min(learned.first_ask_s, age_s * exp(STEP_UP))
        elif flight.asks == 0 and flight.teaches:
            learned.first_ask_s = max(SHORTEST_WAIT_S, learned.first_ask_s * exp(-STEP_DOWN))

    def discard(self, key: int) -> None:
        """Forgets a job."""
        self._flights.pop(key, None)
        self._ready.discard(key)

    def next_deadline(self) -> float | None:
        """When the API forgets the first of the jobs in flight."""
        while self._by_deadline and self._by_deadline[0][1] not in self._flights:
            heapq.heappop(self._by_deadline)
        return self._by_deadline[0][0] if self._by_deadline else None

    def _first_due(self, flight: _Flight) -> float:
        wait_s = SCOUT_FIRST_S if flight.scout else self._learned[flight.model].first_ask_s
        # However long a model takes, the first ask leaves room for many more before the deadline.
        return flight.started + min(wait_s, (flight.deadline - flight.started) / 3)

    def _is_early(self, flight: _Flight, now: float) -> bool:
        """Whether what was learned since the job was taken in puts its first ask off."""
        first_due = self._first_due(flight)
        if flight.asks or flight.found or first_due <= now:
            return False
        flight.due = first_due
        return True

    def _push(self, key: int, flight: _Flight) -> None:
        heapq.heappush(self._by_due, (flight.due, key))
        heapq.heappush(self._by_deadline, (flight.deadline, key))

    def _again(self, key: int, flight: _Flight, now: float, wait_s: float) -> None:
        remaining_s = max(flight.deadline - now, 0.0)
        # Past the deadline there is nothing left to hurry for.
        latest_s = remaining_s / 3 if remaining_s > 3 * SHORTEST_WAIT_S else wait_s
        flight.due = now + max(SHORTEST_WAIT_S, min(wait_s, latest_s))
        heapq.heappush(self._by_due, (flight.due, key))

    def _gather(self, now: float) -> None:
        while self._by_due:
            due, key = self._by_due[0]
            flight = self._flights.get(key)
            if flight is not None and flight.due == due:
                if due > now:
                    return
                if self._is_early(flight, now):
                    heapq.heapreplace(self._by_due, (flight.due, key))
                    continue
                self._ready.add(key)
                heapq.heappush(self._ready_by_due, (due, key))
                heapq.heappush(self._ready_by_deadline, (flight.deadline, key))
            heapq.heappop(self._by_due)

    def _first_ready(self, heap: list[tuple[float, int]]) -> int:
        while heap[0][1] not in self._ready:
            heapq.heappop(heap)
        return heap[0][1]
