"""How long a simulated job takes, and how a latency is written on a command line.

0                     at once
2s                    log-normal, median 2 s, sigma 0.4
fixed:300ms           always 300 ms
lognormal:12s,0.6     log-normal with this median and sigma
bimodal:10s,60s,0.2   about 10 s, but about 60 s for one job in five
servers:8,12s         a queue in front of 8 servers that take about 12 s each
"""

from __future__ import annotations

import heapq
import math
import re
from dataclasses import dataclass
from random import Random

_DURATION = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(ms|s|m|h)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PLAIN_SIGMA = 0.4
_QUEUE_SHARE = 0.15


@dataclass(frozen=True, slots=True)
class Fixed:
    """Every job takes the same time."""

    duration_s: float

    def draw_s(self, rng: Random) -> float:
        """One job's duration."""
        return self.duration_s


@dataclass(frozen=True, slots=True)
class Lognormal:
    """Most jobs are near the median, a few take much longer."""

    median_s: float
    sigma: float = _PLAIN_SIGMA

    def draw_s(self, rng: Random) -> float:
        """One job's duration."""
        return self.median_s * math.exp(rng.gauss(0.0, self.sigma))


@dataclass(frozen=True, slots=True)
class Bimodal:
    """Warm workers answer fast, a share of the jobs meets a cold one."""

    fast_s: float
    slow_s: float
    slow_share: float

    def draw_s(self, rng: Random) -> float:
        """One job's duration."""
        median_s = self.slow_s if rng.random() < self.slow_share else self.fast_s
        return median_s * math.exp(rng.gauss(0.0, 0.15))


@dataclass(frozen=True, slots=True)
class Servers:
    """A fixed number of servers: the more is submitted at once, the longer the queue."""

    count: int
    service_s: float

    def draw_s(self, rng: Random) -> float:
        """One job's time on its server, without the queue."""
        return self.service_s * math.exp(rng.gauss(0.0, 0.15))


Latency = Fixed | Lognormal | Bimodal | Servers


def parse_latency(text: str) -> Latency:
    """Read a latency as it is written on a command line; ValueError says what is wrong with it."""
    kind, colon, rest = text.strip().partition(":")
    if not colon:
        median_s = _duration_s(kind)
        return Lognormal(median_s) if median_s > 0 else Fixed(0.0)
    fields = [field.strip() for field in rest.split(",")]
    match kind, fields:
        case "fixed", [duration]:
            return Fixed(_duration_s(duration))
        case "lognormal", [median, sigma]:
            return Lognormal(_duration_s(median), _number(sigma, "a sigma", 0.0, 5.0))
        case "bimodal", [fast, slow, share]:
            return Bimodal(_duration_s(fast), _duration_s(slow), _number(share, "a share", 0, 1))
        case "servers", [count, service] if count.isdecimal() and int(count) > 0:
            return Servers(int(count), _duration_s(service))
    raise ValueError(
        f"{text!r} is no latency: write 0, 2s, fixed:300ms, lognormal:12s,0.6, "
        "bimodal:10s,60s,0.2 or servers:8,12s"
    )


class Schedule:
    """Plans when each accepted job starts and finishes."""

    def __init__(self, latency: Latency) -> None:
        self._latency = latency
        self._busy_until: list[float] = []

    def plan(self, now: float, rng: Random) -> tuple[float, float]:
        """When a job accepted now leaves the queue, and when it is finished."""
        duration_s = self._latency.draw_s(rng)
        if not isinstance(self._latency, Servers):
            return now + duration_s * _QUEUE_SHARE, now + duration_s
        started_at = now
        if len(self._busy_until) >= self._latency.count:
            started_at = max(now, heapq.heappop(self._busy_until))
        finished_at = started_at + duration_s
        self.remember(finished_at)
        return started_at, finished_at

    def remember(self, finished_at: float) -> None:
        """Count a job that was planned before a restart among those being worked on."""
        if not isinstance(self._latency, Servers) or not math.isfinite(finished_at):
            return
        heapq.heappush(self._busy_until, finished_at)
        # Fewer servers than the journal's: the ones that get free first are taken away.
        while len(self._busy_until) > self._latency.count:
            heapq.heappop(self._busy_until)


def _duration_s(text: str) -> float:
    if text == "0":
        return 0.0
    found = _DURATION.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is no duration: write a number and ms, s, m or h, as in 300ms")
    return float(found[1]) * _UNIT_S[found[2]]


def _number(text: str, what: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise ValueError(f"{text!r} is not {what} from {low:g} to {high:g}")
    return value
