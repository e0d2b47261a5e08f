"""A simulated API in virtual time: how long jobs take, and how many requests a minute are let through."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import exp, floor
from random import Random
from typing import Literal

WINDOW_S = 60.0
RETENTION_S = 3600.0

WindowKind = Literal["fixed", "sliding"]


@dataclass(frozen=True, slots=True)
class Model:
    """How long jobs take: log-normal around `median_s`; a share of them around `slow_s`.

    `servers`: so many work at once and the others queue; None when nobody queues.
    """

    name: str
    median_s: float
    sigma: float
    slow_s: float = 0.0
    slow_share: float = 0.0
    servers: int | None = None

    def draw_s(self, rng: Random) -> float:
        """One job's seconds of work."""
        median_s = self.slow_s if rng.random() < self.slow_share else self.median_s
        return median_s * exp(rng.gauss(0.0, self.sigma))


IMAGE = Model("image", 12.0, 0.4)
COLD_STARTS = Model("cold starts", 10.0, 0.15, 60.0, 0.2)
QUEUE = Model("8 servers", 12.0, 0.15, servers=8)
VIDEO = Model("video", 150.0, 0.35)
MODELS = (IMAGE, COLD_STARTS, QUEUE, VIDEO)


@dataclass(frozen=True, slots=True)
class Night:
    """One cell of the table and a seed: everything that is drawn is drawn once, for all policies alike."""

    model: Model
    rpm: int
    window: WindowKind
    jobs: int
    seed: int

    def work_s(self) -> list[float]:
        """What each job takes, in the order of submission."""
        rng = Random(self.seed)
        return [self.model.draw_s(rng) for _ in range(self.jobs)]


class Backend:
    """Works jobs off in the order in which they are submitted."""

    def __init__(self, model: Model, work_s: Sequence[float]) -> None:
        self._work_s: Iterator[float] = iter(work_s)
        self._free_at = [0.0] * (model.servers or 0)

    def done_at(self, now: float) -> float:
        """When a job that is submitted now is done."""
        work_s = next(self._work_s)
        if not self._free_at:
            return now + work_s
        return_at = max(now, self._free_at[0]) + work_s
        heapq.heapreplace(self._free_at, return_at)
        return return_at


@dataclass(slots=True)
class Window:
    """The server's account of one minute. A fixed window begins at `phase_s` seconds."""

    kind: WindowKind
    rpm: int
    phase_s: float = 0.0
    taken: deque[float] = field(default_factory=deque)

    def free_at(self, now: float) -> float:
        """When the next request is let through: at once, or when the window has room again."""
        if self.kind == "sliding":
            while self.taken and self.taken[0] <= now - WINDOW_S:
                self.taken.popleft()
            return now if len(self.taken) < self.rpm else self.taken[0] + WINDOW_S
        begin = floor((now - self.phase_s) / WINDOW_S) * WINDOW_S + self.phase_s
        while self.taken and self.taken[0] < begin:
            self.taken.popleft()
        return now if len(self.taken) < self.rpm else begin + WINDOW_S

    def take(self, now: float) -> None:
        """A request is let through now."""
        self.taken.append(now)
