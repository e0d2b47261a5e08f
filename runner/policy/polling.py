"""Which job in flight is worth the next request, from how long the latest jobs of its model took.

A job that still ran at age a is *surely ready* at PATIENCE times the age by which SURE of the jobs
that took longer than a were done; and *worth a guess* at the age by which 1 / (1 + x) of them were,

    x = share of the rate that guesses may use * requests a second * median latency / jobs in flight,

the spare requests that a job can have in its life: who asks when a share p is done asks 1 / p times.
What is surely ready goes before a submit, a guess after it. A first ask in vain counts as a job that
takes EARLY times as long, so that a model that slows down is not asked by all its jobs in vain.

While nothing is known of a model its oldest jobs, the scouts, are asked at growing ages, and nobody
else. Near the end, once all that is left could be asked for in the time that one job takes, the last
submit decides when all is done: then submits go before results. No wait takes more than a third of
what is left until the API forgets the job.

Source: hazards from order statistics instead of the single first-ask age of a step rule; measured
beside other rules in docs/performance.md.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, sqrt

from runner.policy.latencies import AGAIN, ENOUGH, SURE, Latencies

PATIENCE = 1.2
EARLY = 1.15
# Shares of the rate that guesses may use: when nothing is left to submit, and when there is no room.
LAST_SHARE = 0.08
BLOCKED_SHARE = 0.3
SCOUTS = ENOUGH
SCOUT_FIRST_S = 1.0
SCOUT_GROWTH = 1.25
# Until this age a submit is worth more than asking for what nobody knows anything about.
SCOUT_DUE_S = 120.0
# A job is not asked again before it is older by this share.
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
    """What is known of a model, and its jobs that were not asked yet, the oldest on top."""

    latencies: Latencies = field(default_factory=Latencies)
    fresh: Heap = field(default_factory=list)
    scouts: int = 0


class PollSchedule:
    """The jobs in flight and when each is to be asked. Keys are the ledger's; times are one clock's.

    `rpm`: the requests a minute that the run has, as far as known, and `to_submit`: how many jobs are
    still to be sent, None for many; the caller keeps both up to date. `remembered`: what
    `remembered()` gave at the end of an earlier run.
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
            self._models[model] = _Model(Latencies(latencies_s))

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
        if teaches or known.latencies.are_known:
            heapq.heappush(known.fresh, (started, key))
            self._waiting[model] = known
        else:
            flight.fresh = False
            self._again(key, flight, started, SCOUT_FIRST_S)

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
        self._take(first[1])
        return first[1]

    def running(self, key: int, now: float) -> None:
        """The asked job still runs: learns from it and asks it again later."""
        flight = self._flights[key]
        latencies = self._models[flight.model].latencies
        age_s = max(now - flight.started, SHORTEST_WAIT_S)
        if not latencies.are_known:
            guess_s = age_s * (SCOUT_GROWTH if flight.scout else AGAIN)
            due_s = max(guess_s, SCOUT_DUE_S) if flight.scout else guess_s
        else:
            if not flight.missed_s:
                latencies.learn(age_s * EARLY)
            due_s = PATIENCE * latencies.age_s(SURE, age_s)
            guess_s = latencies.age_s(self._odds(latencies), age_s)
        flight.missed_s = age_s
        least_s = LEAST_GROWTH * age_s
        self._again(key, flight, now, max(due_s - age_s, least_s), max(guess_s - age_s, least_s))

    def later(self, key: int, now: float, wait_s: float) -> None:
        """The job could not be asked: again after `wait_s` seconds; nothing is learned."""
        self._again(key, self._flights[key], now, wait_s)

    def hasten(self, key: int, now: float) -> None:
        """The job should be asked at once; one that is given out or ready is going to be."""
        flight = self._flights[key]
        if flight.fresh or flight.due < inf:
            self._again(key, flight, now, 0.0)

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
        told_s = max(total_time_s, flight.missed_s, SHORTEST_WAIT_S)
        self._models[flight.model].latencies.learn(min(told_s, flight.found_s))

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
            known.latencies.learn(sqrt(flight.missed_s * flight.found_s))
        else:
            # It may have been done long before; asking a little earlier each time finds out.
            at_most_s = min(flight.found_s, known.latencies.sure_s)
            known.latencies.learn(at_most_s / (1 + LEAST_GROWTH))

    def next_deadline(self) -> float | None:
        """When the API forgets the first of the jobs in flight."""
        while self._by_deadline and self._by_deadline[0][1] not in self._flights:
            heapq.heappop(self._by_deadline)
        return self._by_deadline[0][0] if self._by_deadline else None

    def remembered(self) -> dict[str, list[float]]:
        """What was learned, model by model, for the schedule of another run; plain JSON."""
        found = {name: known.latencies.remembered() for name, known in self._models.items()}
        return {name: latencies_s for name, latencies_s in found.items() if latencies_s}

    def _requests_s(self, seconds: float) -> float:
        return (ASSUMED_RPM if self.rpm is None else self.rpm) / 60 * seconds

    def _odds(self, latencies: Latencies) -> float:
        """The share of a model's jobs that should be done before one is asked on a guess."""
        share = LAST_SHARE if self.to_submit == 0 else BLOCKED_SHARE
        spare = share * self._requests_s(latencies.median_s) / len(self._flights)
        return max(1 - SURE, min(SURE, 1 / (1 + spare)))

    def _first_due(self, known: _Model) -> float:
        """When the oldest job of a model that was not asked yet is surely ready."""
        started, key = known.fresh[0]
        sure_s = PATIENCE * known.latencies.sure_s
        if not known.latencies.are_known and known.scouts < SCOUTS:
            sure_s = SCOUT_DUE_S
        elif self.to_submit and self.to_submit + len(self._flights) < self._requests_s(sure_s):
            sure_s = inf
        # However long a model takes, the first ask leaves room for many more before the deadline.
        return started + min(sure_s, (self._flights[key].deadline - started) / 3)

    def _first_guess(self, now: float) -> tuple[float, int] | None:
        self._gather(now)
        self._clean(self._by_guess, "guess")
        first = self._by_guess[0] if self._by_guess else None
        for known in self._waiting.values():
            started, key = known.fresh[0]
            if known.latencies.are_known:
                at = started + known.latencies.age_s(self._odds(known.latencies))
            elif known.scouts < SCOUTS:
                at = started + SCOUT_FIRST_S
            else:
                continue
            at = min(at, self._first_due(known))
            if first is None or at < first[0]:
                first = (at, key)
        return first

    def _again(
        self, key: int, flight: _Flight, now: float, wait_s: float, guess_s: float = inf
    ) -> None:
        remaining_s = max(flight.deadline - now, 0.0)
        # Past the deadline there is nothing left to hurry for.
        latest_s = remaining_s / 3 if remaining_s > 3 * SHORTEST_WAIT_S else wait_s
        flight.due = now + max(SHORTEST_WAIT_S, min(wait_s, latest_s))
        flight.guess = now + max(SHORTEST_WAIT_S, guess_s)
        heapq.heappush(self._by_due, (flight.due, key))
        if flight.guess < flight.due:
            heapq.heappush(self._by_guess, (flight.guess, key))

    def _take(self, key: int) -> None:
        """The job is ready, or on its way to be asked: it waits for nothing."""
        flight = self._flights[key]
        flight.due = flight.guess = inf
        if flight.fresh:
            known = self._models[flight.model]
            flight.fresh, flight.scout = False, not known.latencies.are_known
            known.scouts += flight.scout

    def _gather(self, now: float) -> None:
        """Makes ready what is due, and leaves on top of each heap what still waits."""
        emptied = []
        for model, known in self._waiting.items():
            self._clean(known.fresh)
            while known.fresh and (due := self._first_due(known)) <= now:
                self._make_ready(due, known.fresh[0][1])
                self._clean(known.fresh)
            if not known.fresh:
                emptied.append(model)
        for model in emptied:
            del self._waiting[model]
        self._clean(self._by_due, "due")
        while self._by_due and self._by_due[0][0] <= now:
            self._make_ready(*self._by_due[0])
            self._clean(self._by_due, "due")

    def _clean(self, heap: Heap, stamp: str = "") -> None:
        """Takes off the top what does not wait there any more."""
        while heap:
            time, key = heap[0]
            flight = self._flights.get(key)
            if flight and (getattr(flight, stamp) == time if stamp else flight.fresh):
                return
            heapq.heappop(heap)

    def _make_ready(self, due: float, key: int) -> None:
        self._take(key)
        self._ready.add(key)
        heapq.heappush(self._ready_by_due, (due, key))
        heapq.heappush(self._ready_by_deadline, (self._flights[key].deadline, key))

    def _first_ready(self, heap: Heap) -> int:
        while heap[0][1] not in self._ready:
            heapq.heappop(heap)
        return heap[0][1]
