"""The policies that ours is compared with: plain loops behind an exact limiter, and an oracle."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.world import RETENTION_S, Backend, Night, Window


@dataclass(slots=True)
class Outcome:
    """What a policy made of a night; times in seconds."""

    requests: int = 0
    refused: int = 0
    lost: int = 0
    makespan_s: float = 0.0
    lags_s: list[float] = field(default_factory=list)

    def collected(self, now: float, done: float) -> None:
        """A result is there, which was ready at `done`."""
        self.lags_s.append(now - done)
        self.makespan_s = now


@dataclass(frozen=True, slots=True)
class Loop:
    """`workers` loops that submit a job, ask for it after each of its waits, and take the next one."""

    name: str
    wait_s: Callable[[int], float]
    workers: int
    result_first: bool

    def run(self, night: Night) -> Outcome:
        """Every request waits its turn, in the order in which they come; the limiter refuses none."""
        backend = Backend(night.model, night.work_s())
        window, outcome = Window(night.window, night.rpm), Outcome()
        left, number, clock = night.jobs, 0, 0.0
        # When a request is wanted, for which job: (submitted, done, asks so far); None is a submit.
        wants: list[tuple[float, int, tuple[float, float, int] | None]] = []
        for _ in range(min(self.workers, left)):
            wants.append((0.0, number, None))
            number, left = number + 1, left - 1
        while wants:
            wanted, _, job = heapq.heappop(wants)
            clock = window.free_at(max(clock, wanted))
            window.take(clock)
            outcome.requests += 1
            number += 1
            if job is None:
                job = (clock, backend.done_at(clock), 0)
                heapq.heappush(wants, (clock + self.wait_s(0), number, job))
                continue
            submitted, done, asks = job
            is_lost = clock >= submitted + RETENTION_S
            if not is_lost and clock < done:
                heapq.heappush(
                    wants, (clock + self.wait_s(asks + 1), number, (submitted, done, asks + 1))
                )
                continue
            if not is_lost and not self.result_first and asks >= 0:
                heapq.heappush(wants, (clock, number, (submitted, done, -1)))
                continue
            outcome.lost += is_lost
            outcome.collected(clock, done)
            if left:
                left -= 1
                heapq.heappush(wants, (clock, number, None))
        return outcome


def fixed(seconds: float) -> Callable[[int], float]:
    """Always the same wait."""
    return lambda _: seconds


def exponential(asks: int) -> float:
    """1, 2, 4, … seconds, at most 30."""
    return min(30.0, 2.0 ** min(asks, 5))


def _loops() -> list[Loop]:
    kinds = {"1 s": fixed(1.0), "5 s": fixed(5.0), "1→30 s": exponential}
    return [
        Loop(f"{name}{' rf' if result_first else ''} W{workers}", wait_s, workers, result_first)
        for name, wait_s in kinds.items()
        for result_first in (False, True)
        for workers in (64, 256)
    ]


# The first is the official client's: status each second, then the result, 64 threads.
LOOPS = _loops()


def oracle(night: Night, orders: tuple[bool, ...] = (True, False)) -> Outcome:
    """Knows when each job is done and asks no earlier; the better of two orders of work.

    True: collects first what is ready. False: submits first, as much as half the hour can collect.
    """
    outcomes = [_oracle(night, collect_first) for collect_first in orders]
    kept = [outcome for outcome in outcomes if not outcome.lost] or outcomes
    return min(kept, key=lambda outcome: outcome.makespan_s)


def _oracle(night: Night, collect_first: bool) -> Outcome:
    backend = Backend(night.model, night.work_s())
    window, outcome = Window(night.window, night.rpm), Outcome()
    flight: list[tuple[float, float]] = []
    left, clock = night.jobs, 0.0
    # What half an hour can collect.
    most = night.rpm * RETENTION_S / 60 / 2
    while left or flight:
        clock = window.free_at(clock)
        ready = bool(flight) and flight[0][0] <= clock
        may_submit = left > 0 and len(flight) < most
        if ready and (collect_first or not may_submit):
            done, submitted = heapq.heappop(flight)
            outcome.lost += clock >= submitted + RETENTION_S
            outcome.collected(clock, done)
        elif may_submit:
            heapq.heappush(flight, (backend.done_at(clock), clock))
            left -= 1
        else:
            clock = flight[0][0]
            continue
        outcome.requests += 1
        window.take(clock)
    return outcome


def lower_bound_s(night: Night) -> float:
    """No policy is faster: two requests a job at full rate, the backend at work throughout, each chain."""
    work_s = night.work_s()
    requests = 2 * night.jobs
    # The last request of a full window may leave at its very beginning.
    bound_s = (requests - 1) // night.rpm * 60.0
    if night.model.servers:
        bound_s = max(bound_s, sum(work_s) / night.model.servers)
    return max(bound_s, *work_s)
