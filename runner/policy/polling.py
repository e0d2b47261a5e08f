"""Which job in flight is worth the next request, from how long the latest jobs of its model took.

A job that still ran at age a is *surely ready* at the age by which SURE of the latest MEMORY jobs that
took longer than a were done, and *worth a guess* at the age by which 1 / (1 + x) of them were, where

    x = GUESS_SHARE * requests a second * median latency / jobs in flight

is what the rate leaves for guesses, in requests a job: who asks when a share p is done asks 1 / p times.
What is surely ready goes before a submit and a guess after it. Nobody is asked for the last time when
the API forgets him: no wait takes more than a third of what is left until then.

Source: hazard rates of interval-censored latencies, in the form of order statistics; compared with
other rules in docs/performance.md.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, sqrt

SURE = 0.99
PATIENCE = 1.2
GUESS_SHARE = 0.08
BLOCKED_SHARE = 0.3
MISS = 1.15
MEMORY = 100
REMEMBERED = 20
# While nothing is known of a model, its oldest jobs are asked at growing ages, and nobody else.
SCOUTS = 3
ENOUGH = 10
SCOUTS_S = 10.0
SCOUT_FIRST_S = 1.0
SCOUT_GROWTH = 1.25
# Until then a submit is worth more than asking for what nobody knows anything about.
SCOUT_DUE_S = 120.0
# A job that outlasts all that is known is asked again at this multiple of its age.
AGAIN = 1.2
# No job is asked again before it is older by this share.
LEAST_GROWTH = 0.03
SHORTEST_WAIT_S = 0.25
# Where no rate is known, guesses are bought as if it were this one.
ASSUMED_RPM = 600.0
# Below this share of the retention a job is asked by its deadline and not by its turn.
URGENT_SHARE = 0.25

Heap = list[tuple[float, int]]


@dataclass(slots=True)
class _Flight:
    model: str
    started: float
    deadline: float
    teaches: bool
    due: float = inf
    guess: float = inf
    fresh: bool = True
    scout: bool = False
    missed_s: float = 0.0
    found_s: float | None = None
    measured: bool = False


@dataclass(slots=True)
class _Model:
    """How long the latest jobs took, in seconds: in order of time, and of size."""

    recent: deque[float] = field(default_factory=deque)
    ordered: list[float] = field(default_factory=list)
    fresh: Heap = field(default_factory=list)
    scouts: int = 0

    def learn(self, latency_s: float) -> None:
        if len(self.recent) == MEMORY:
            gone = self.recent.popleft()
            del self.ordered[bisect_right(self.ordered, gone) - 1]
        self.recent.append(latency_s)
        insort(self.ordered, latency_s)

    @property
    def is_known(self) -> bool:
        return len(self.ordered) >= ENOUGH

    def age_s(self, share: float, ran_s: float = 0.0) -> float:
        """The age by which this share of those that still ran at `ran_s` are done; inf if unknown."""
        if not self.is_known:
            return inf
        place = bisect_right(self.ordered, ran_s)
        longer = len(self.ordered) - place
        if not longer:
            return ran_s * (1 + (AGAIN - 1) * share)
        # The less is known, the more is allowed for.
        return self.ordered[place + min(longer - 1, int(share * longer))] * (
            1 + 1 / len(self.ordered)
        )


class PollSchedule:
    """The jobs in flight and when each is to be asked. Keys are the ledger's; times are one clock's.

    `rpm`: the requests a minute that the account has for this run, as far as known; it may change.
    `remembered`: what an earlier schedule's `remembered()` gave.
    """

    def __init__(
        self, rpm: float | None = None, remembered: Mapping[str, Sequence[float]] | None = None
    ) -> None:
        self.rpm = rpm
        self.to_submit: int | None = None
        self._flights: dict[int, _Flight] = {}
        self._models: dict[str, _Model] = {}
        self._waiting: dict[str, _Model] = {}
        self._by_due: Heap = []
        self._by_guess: Heap = []
        self._by_deadline: Heap = []
        self._ready: set[int] = set()
        self._ready_by_due: Heap = []
        self._ready_by_deadline: Heap = []
        for model, latencies_s in (remembered or {}).items():
            known = self._models.setdefault(model, _Model())
            for latency_s in latencies_s:
                known.learn(latency_s)

    def __len__(self) -> int:
        return len(self._flights)

    def add(
        self, key: int, model: str, started: float, deadline: float, *, teaches: bool = True
    ) -> None:
        """Takes a job in that was submitted at `started` and is forgotten by the API at `deadline`.

        `teaches` False: nobody was there to ask it in time, so that the age at which it is found
        says nothing of its model.
        """
        known = self._models.setdefault(model, _Model())
        flight = self._flights[key] = _Flight(model, started, deadline, teaches)
        heapq.heappush(self._by_deadline, (deadline, key))
        if not teaches and not known.is_known:
            flight.fresh = False
            self._again(key, flight, started, SCOUT_FIRST_S)
            return
        heapq.heappush(known.fresh, (started, key))
        self._waiting[model] = known

    def next_due(self, now: float) -> float | None:
        """When the next job is surely ready; at most `now` when one is, None when there is none."""
        self._gather(now)
        if self._ready:
            return now
        times = [self._first_due(known) for known in self._waiting.values()]
        times += [self._by_due[0][0]] if self._by_due else []
        return min(times, default=None)

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

    def next_guess(self, now: float) -> float | None:
        """When the next job is worth a request that nothing else needs; None when there is none."""
        first = self._first_guess(now)
        return None if first is None else first[0]

    def pop_guess(self, now: float) -> int | None:
        """The job most worth a spare request now, or None; given as `pop` gives."""
        first = self._first_guess(now)
        if first is None or first[0] > now:
            return None
        key = first[1]
        self._take(key)
        return key

    def running(self, key: int, now: float) -> None:
        """The asked job still runs: learns from it and asks it again later."""
        flight = self._flights[key]
        known = self._models[flight.model]
        age_s = max(now - flight.started, SHORTEST_WAIT_S)
        if not flight.missed_s and known.is_known:
            known.learn(age_s * MISS)
        flight.missed_s = age_s
        if known.is_known:
            due_s, guess_s = (
                PATIENCE * known.age_s(SURE, age_s),
                known.age_s(self._guess(known), age_s),
            )
        else:
            due_s = guess_s = age_s * (SCOUT_GROWTH if flight.scout else AGAIN)
        least_s = LEAST_GROWTH * age_s
        self._again(key, flight, now, max(due_s - age_s, least_s), max(guess_s - age_s, least_s))

    def later(self, key: int, now: float, wait_s: float) -> None:
        """The job could not be asked: again after `wait_s` seconds; nothing is learned."""
        self._again(key, self._flights[key], now, wait_s)

    def found(self, key: int, now: float, total_time_s: float | None = None) -> None:
        """The asked job has ended; `total_time_s`: its seconds of queue and work, once they are told.

        It stays until it is discarded.
        """
        flight = self._flights[key]
        if flight.found_s is None:
            flight.found_s = max(now - flight.started, SHORTEST_WAIT_S)
        if total_time_s is None or flight.measured:
            return
        flight.measured = True
        self._models[flight.model].learn(
            min(max(total_time_s, flight.missed_s, SHORTEST_WAIT_S), flight.found_s)
        )

    def discard(self, key: int) -> None:
        """Forgets a job; learns from when it was found, where nobody said how long it took."""
        flight = self._flights.pop(key, None)
        self._ready.discard(key)
        if flight is None:
            return
        known = self._models[flight.model]
        known.scouts -= flight.scout
        if flight.measured or flight.found_s is None or not flight.teaches:
            return
        if flight.missed_s:
            known.learn(sqrt(flight.missed_s * flight.found_s))
        else:
            # It may have been done long before; a little less each time finds out.
            known.learn(min(flight.found_s, known.age_s(SURE)) / (1 + LEAST_GROWTH))

    def next_deadline(self) -> float | None:
        """When the API forgets the first of the jobs in flight."""
        while self._by_deadline and self._by_deadline[0][1] not in self._flights:
            heapq.heappop(self._by_deadline)
        return self._by_deadline[0][0] if self._by_deadline else None

    def remembered(self) -> dict[str, list[float]]:
        """What was learned, model by model, for the schedule of another run; plain JSON."""
        return {
            name: _thinned(known.ordered) for name, known in self._models.items() if known.ordered
        }

    def _rate(self) -> float:
        """Requests a second."""
        return (ASSUMED_RPM if self.rpm is None else self.rpm) / 60

    def _guess(self, known: _Model) -> float:
        """The share of a model's jobs that should be done before one is asked on a guess."""
        median_s = known.ordered[len(known.ordered) // 2]
        share = BLOCKED_SHARE if self.to_submit else GUESS_SHARE
        spare = share * self._rate() * median_s / len(self._flights)
        return max(1 - SURE, min(SURE, 1 / (1 + spare)))

    def _is_endgame(self, sure_s: float) -> bool:
        """Whether the rate could ask for all jobs that are left in the time that one of them takes.

        The last submit then decides when all is done, and submits go before results.
        """
        if not self.to_submit:
            return False
        return self.to_submit + len(self._flights) < self._rate() * sure_s

    def _first_due(self, known: _Model) -> float:
        """When the oldest job of a model that was not asked yet is surely ready."""
        started, key = known.fresh[0]
        sure_s = PATIENCE * known.age_s(SURE)
        if not known.is_known and known.scouts < SCOUTS:
            sure_s = SCOUT_DUE_S
        elif self._is_endgame(sure_s):
            sure_s = inf
        # However long a model takes, the first ask leaves room for many more before the deadline.
        return started + min(sure_s, (self._flights[key].deadline - started) / 3)

    def _first_guess(self, now: float) -> tuple[float, int] | None:
        self._gather(now)
        heap = self._by_guess
        while heap and (
            (flight := self._flights.get(heap[0][1])) is None or flight.guess != heap[0][0]
        ):
            heapq.heappop(heap)
        first = heap[0] if heap else None
        for known in self._waiting.values():
            started, key = known.fresh[0]
            if known.is_known:
                at = min(started + known.age_s(self._guess(known)), self._first_due(known))
            elif known.scouts < max(SCOUTS, min(ENOUGH, self._rate() * SCOUTS_S)):
                at = started + SCOUT_FIRST_S
            else:
                continue
            if first is None or at < first[0]:
                first = (at, key)
        return first

    def _again(
        self, key: int, flight: _Flight, now: float, wait_s: float, guess_s: float | None = None
    ) -> None:
        remaining_s = max(flight.deadline - now, 0.0)
        # Past the deadline there is nothing left to hurry for.
        latest_s = remaining_s / 3 if remaining_s > 3 * SHORTEST_WAIT_S else wait_s
        flight.due = now + max(SHORTEST_WAIT_S, min(wait_s, latest_s))
        heapq.heappush(self._by_due, (flight.due, key))
        if guess_s is not None:
            flight.guess = now + max(SHORTEST_WAIT_S, guess_s)
            if flight.guess < flight.due:
                heapq.heappush(self._by_guess, (flight.guess, key))

    def _take(self, key: int) -> None:
        """Out of all heaps: the job is ready, or on its way to be asked."""
        flight = self._flights[key]
        flight.due = flight.guess = inf
        if flight.fresh:
            flight.fresh = False
            known = self._models[flight.model]
            flight.scout = not known.is_known
            known.scouts += flight.scout

    def _clean(self, model: str) -> bool:
        """Whether a model has jobs that were not asked yet; the oldest of them is then on top."""
        fresh = self._models[model].fresh
        while fresh and ((flight := self._flights.get(fresh[0][1])) is None or not flight.fresh):
            heapq.heappop(fresh)
        if not fresh:
            del self._waiting[model]
        return bool(fresh)

    def _gather(self, now: float) -> None:
        for model, known in list(self._waiting.items()):
            while self._clean(model) and (due := self._first_due(known)) <= now:
                self._make_ready(due, known.fresh[0][1])
        while self._by_due and self._by_due[0][0] <= now:
            due, key = heapq.heappop(self._by_due)
            flight = self._flights.get(key)
            if flight is not None and flight.due == due:
                self._make_ready(due, key)
        # What is not due any more must not stand in front of what is.
        while self._by_due and (
            (flight := self._flights.get(self._by_due[0][1])) is None
            or flight.due != self._by_due[0][0]
        ):
            heapq.heappop(self._by_due)

    def _make_ready(self, due: float, key: int) -> None:
        self._take(key)
        self._ready.add(key)
        heapq.heappush(self._ready_by_due, (due, key))
        heapq.heappush(self._ready_by_deadline, (self._flights[key].deadline, key))

    def _first_ready(self, heap: Heap) -> int:
        while heap[0][1] not in self._ready:
            heapq.heappop(heap)
        return heap[0][1]


def _thinned(ordered: Sequence[float]) -> list[float]:
    """Some values that stand for all, evenly spaced by rank."""
    count = min(REMEMBERED, len(ordered))
    return [round(ordered[(2 * n + 1) * len(ordered) // (2 * count)], 3) for n in range(count)]
