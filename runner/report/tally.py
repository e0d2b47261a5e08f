"""Keeps the count of a run from its events, for every display; memory does not grow with the jobs."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass

from runner.events import Answered, Call, Draining, Event, Held, Moved
from runner.job import IN_FLIGHT_STATES, RETRYABLE_STATES, TERMINAL_STATES, State

LAST_FAILURES = 5
RATE_WINDOW_S = 60.0
PACE_WINDOW_S = 180.0
# What happened this long ago counts for a third in the forecast.
FADE_S = 450.0
# The run's own average joins the forecast with the weight of this many jobs: slow models do not jump.
STEADYING_JOBS = 5.0
FORECAST_AFTER_JOBS = 3
FORECAST_AFTER_S = 10.0
STALLED_S = 900.0
TOO_MANY_REQUESTS = 429


@dataclass(frozen=True, slots=True)
class Heading:
    """What does not change during a run: its manifests' names, its bounds, where to look further.

    `deadline` as it was asked for: `until 07:00`.
    """

    names: tuple[str, ...]
    simulated: bool = False
    concurrency: int | None = None
    failures_command: str = "runner jobs --state failed"
    deadline: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """A job that ended short of `saved`, and why."""

    job_id: str
    state: State
    reason: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How a run stands at `now` (epoch seconds); money in US dollars."""

    now: float
    elapsed_s: float
    counts: Mapping[State, int]
    saved_run: int = 0
    spent_run: float = 0.0
    spent_before: float = 0.0
    requests: Mapping[Call, int] | None = None
    requests_last_minute: int = 0
    rpm: int | None = None
    rate_limited: int = 0
    hold_s: float = 0.0
    hold_reason: str = ""
    draining: str | None = None
    failures: tuple[Failure, ...] = ()
    saved_per_minute: float = 0.0
    eta_s: float | None = None

    @property
    def total(self) -> int:
        """All jobs of the run's manifests."""
        return sum(self.counts.values())

    @property
    def in_flight(self) -> int:
        """Jobs that the API may be working on."""
        return sum(self.counts.get(state, 0) for state in IN_FLIGHT_STATES)

    @property
    def settled(self) -> int:
        """Jobs with which nothing more is done."""
        return sum(self.counts.get(state, 0) for state in TERMINAL_STATES)

    @property
    def ended_short(self) -> int:
        """Settled jobs that are not saved."""
        return sum(self.counts.get(state, 0) for state in RETRYABLE_STATES)

    @property
    def spent(self) -> float:
        """Everything these manifests have cost, this run included."""
        return self.spent_before + self.spent_run

    @property
    def requests_total(self) -> int:
        """Requests of this run that count against the account's rate."""
        return sum((self.requests or {}).values())


class Window:
    """How often something happened in the last `span_s`, counted in buckets of `bucket_s`."""

    def __init__(self, span_s: float, bucket_s: float) -> None:
        self._span_s = span_s
        self._bucket_s = bucket_s
        self._buckets: deque[list[int]] = deque()

    def add(self, now: float) -> None:
        """Count one at `now`."""
        index = int(now // self._bucket_s)
        if self._buckets and self._buckets[-1][0] >= index:
            self._buckets[-1][1] += 1
        else:
            self._buckets.append([index, 1])
            self._forget(now)

    def count(self, now: float) -> int:
        """How many there were in the span that ends `now`."""
        self._forget(now)
        return sum(count for _, count in self._buckets)

    def _forget(self, now: float) -> None:
        oldest = int((now - self._span_s) // self._bucket_s)
        while self._buckets and self._buckets[0][0] <= oldest:
            self._buckets.popleft()


class Forecast:
    """Jobs settled per second: recent ones weigh most, the run's own average keeps it steady."""

    def __init__(self, started_at: float) -> None:
        self._started_at = started_at
        self._weight = 0.0
        self._last_at = started_at
        self._count = 0

    def add(self, now: float) -> None:
        """A job was settled at `now`."""
        self._weight = self._faded(now) + 1.0
        self._last_at = now
        self._count += 1

    def seconds_for(self, jobs: int, now: float) -> float | None:
        """How long `jobs` more may take; None while nobody can tell."""
        elapsed_s = now - self._started_at
        if jobs <= 0:
            return 0.0
        if self._count < FORECAST_AFTER_JOBS or elapsed_s < FORECAST_AFTER_S:
            return None
        if now - self._last_at > STALLED_S:
            return None
        # The integral of the fading weight over the run so far: at the start there is less of it.
        recent_s = FADE_S * (1.0 - math.exp(-elapsed_s / FADE_S))
        steadying_s = STEADYING_JOBS * elapsed_s / self._count
        return jobs * (recent_s + steadying_s) / (self._faded(now) + STEADYING_JOBS)

    def _faded(self, now: float) -> float:
        return self._weight * math.exp(-max(0.0, now - self._last_at) / FADE_S)


class Tally:
    """Counts by state, money, requests, pace and forecast of one run; the caller brings the time."""

    def __init__(
        self,
        counts: Mapping[State, int],
        *,
        started_at: float,
        spent_before: float = 0.0,
        rpm: int | None = None,
    ) -> None:
        self.rpm = rpm
        self._counts: Counter[State] = Counter({state: n for state, n in counts.items() if n > 0})
        self._started_at = started_at
        self._spent_before = spent_before
        self._spent_run = 0.0
        self._saved_run = 0
        self._requests: Counter[Call] = Counter()
        self._rate_limited = 0
        self._hold: Held | None = None
        self._draining: str | None = None
        self._failures: deque[Failure] = deque(maxlen=LAST_FAILURES)
        self._recent_requests = Window(RATE_WINDOW_S, 1.0)
        self._recent_saved = Window(PACE_WINDOW_S, 5.0)
        self._forecast = Forecast(started_at)

    def see(self, event: Event, now: float) -> None:
        """Take an event into account."""
        match event:
            case Moved():
                self._moved(event, now)
            case Answered():
                self._answered(event, now)
            case Held():
                # Of two holds both are kept, so the later end counts.
                if self._hold is None or event.until >= self._hold.until:
                    self._hold = event
            case Draining():
                self._draining = event.reason

    def at(self, now: float) -> Progress:
        """How the run stands at `now`."""
        elapsed_s = max(0.0, now - self._started_at)
        hold = self._hold if self._hold is not None and self._hold.until > now else None
        return Progress(
            now=now,
            elapsed_s=elapsed_s,
            counts={state: n for state in State if (n := self._counts[state])},
            saved_run=self._saved_run,
            spent_run=self._spent_run,
            spent_before=self._spent_before,
            requests=dict(self._requests),
            requests_last_minute=self._recent_requests.count(now),
            rpm=self.rpm,
            rate_limited=self._rate_limited,
            hold_s=hold.until - now if hold else 0.0,
            hold_reason=hold.reason if hold else "",
            draining=self._draining,
            failures=tuple(self._failures),
            saved_per_minute=self._pace(now, elapsed_s),
            eta_s=self._forecast.seconds_for(self._left(), now),
        )

    def _moved(self, event: Moved, now: float) -> None:
        # A job that was not counted at the start joins the total.
        self._counts[event.before] = max(0, self._counts[event.before] - event.count)
        self._counts[event.after] += event.count
        self._spent_run += event.cost or 0.0
        if event.after is State.SAVED:
            self._saved_run += 1
            self._recent_saved.add(now)
        # A pending job that ends was never sent: it says nothing of the pace of the others.
        was_worked_on = event.before not in TERMINAL_STATES | {State.PENDING}
        if was_worked_on and event.after in TERMINAL_STATES:
            self._forecast.add(now)
        self._remember_failure(event)

    def _remember_failure(self, event: Moved) -> None:
        if event.before in RETRYABLE_STATES:
            kept = [failure for failure in self._failures if failure.job_id != event.job_id]
            self._failures = deque(kept, maxlen=LAST_FAILURES)
        if event.after in RETRYABLE_STATES:
            name = event.job_id or f"{event.count:,} jobs of {event.model}"
            self._failures.append(Failure(name, event.after, event.reason or ""))

    def _answered(self, event: Answered, now: float) -> None:
        self._requests[event.call] += 1
        self._recent_requests.add(now)
        if event.status == TOO_MANY_REQUESTS:
            self._rate_limited += 1

    def _pace(self, now: float, elapsed_s: float) -> float:
        # A minute at least: a job saved in the first second is no sixty a minute.
        span_s = min(PACE_WINDOW_S, max(elapsed_s, RATE_WINDOW_S))
        return self._recent_saved.count(now) * 60.0 / span_s

    def _left(self) -> int:
        """Jobs that this run may still settle: a draining run leaves the pending ones."""
        left = sum(n for state, n in self._counts.items() if state not in TERMINAL_STATES)
        return left if self._draining is None else left - self._counts[State.PENDING]
