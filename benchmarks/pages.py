"""The history route beside the result route: pages of another host decide jobs that cost only a submit."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from statistics import median

from benchmarks.ours import LONGEST_WAIT_S, ours
from benchmarks.rivals import Outcome
from benchmarks.world import MODELS, RETENTION_S, Backend, Model, Night
from runner.policy.admission import Admission
from runner.policy.pace import Pace
from runner.policy.pages import LATE_S, ROWS, PagePolls
from runner.policy.polling import PollSchedule

RPM = 50
HISTORY_RPM = 60
# Rows appear so many seconds after their job is done; a few never do.
ROW_LATE_S = (1.0, 10.0)
ROW_LOST_SHARE = 0.02


class PagedNight:
    """A night by the history route: requests to the API's host count, pages have their own budget."""

    def __init__(self, night: Night) -> None:
        self.outcome, self.pages_asked = Outcome(), 0
        self._night, self._rng = night, Random(night.seed + 1)
        self._backend = Backend(night.model, night.work_s())
        self._pace, self._page_pace = Pace(night.rpm), Pace(HISTORY_RPM)
        self._schedule, self._pages = PollSchedule(night.rpm), PagePolls()
        self._admission = Admission(None, night.rpm, RETENTION_S, 0.0)
        # When each job was submitted, is done, and appears in the history.
        self._flight: dict[int, tuple[float, float, float]] = {}
        self._sent = 0

    def run(self) -> PagedNight:
        """Goes from event to event until all jobs are collected."""
        now = 0.0
        while self._sent < self._night.jobs or self._flight:
            moments = [self._page_round(now), self._request(now), now + LONGEST_WAIT_S]
            now = min(moment for moment in moments if moment is not None)
        return self

    def _page_round(self, now: float) -> float | None:
        """Asks for pages if it is time; returns when it next is."""
        firsts = (self._schedule.next_guess(now), self._schedule.next_due(now))
        first = min((time for time in firsts if time is not None), default=None)
        at = self._pages.next_round(first)
        if at is None or at > now:
            return at
        if (wait_s := self._page_pace.wait_s(now)) > 0:
            return now + wait_s
        count = self._pages.pages(self._sent - 1 - min(self._flight))
        oldest_shown = self._sent - count * ROWS
        shown = [key for key, job in self._flight.items() if job[2] <= now and key >= oldest_shown]
        for key in shown:
            self._end(key, now)
        for _ in range(count):
            self._page_pace.take(now)
        self.pages_asked += count
        self._pages.asked(now, len(shown))
        return now

    def _request(self, now: float) -> float | None:
        """Sends one request to the API's host if one is worth it; returns when to look again."""
        if (wait_s := self._pace.wait_s(now)) > 0:
            return now + wait_s
        self._schedule.to_submit = self._night.jobs - self._sent
        key = self._schedule.pop(now)
        if key is not None and self._pages.defers(key):
            self._schedule.later(key, now, LATE_S)
            return now
        if key is not None:
            self._spend(now)
            if now < self._flight[key][1]:
                self._schedule.running(key, now)
            else:
                self._end(key, now)
            return now
        if self._sent == self._night.jobs or len(self._flight) >= self._admission.most(now):
            return self._schedule.next_due(now)
        self._spend(now)
        done = self._backend.done_at(now)
        is_lost = self._rng.random() < ROW_LOST_SHARE
        row_at = float("inf") if is_lost else done + self._rng.uniform(*ROW_LATE_S)
        self._flight[self._sent] = (now, done, row_at)
        self._schedule.add(self._sent, self._night.model.name, now, now + RETENTION_S)
        self._sent += 1
        return now

    def _spend(self, now: float) -> None:
        self._pace.take(now)
        self.outcome.requests += 1

    def _end(self, key: int, now: float) -> None:
        submitted, done, _ = self._flight.pop(key)
        self.outcome.lost += now >= submitted + RETENTION_S
        self._schedule.found(key, now, done - submitted)
        self._schedule.discard(key)
        self._pages.discard(key)
        self._admission.completed(now)
        self.outcome.collected(now, done)


def measure_pages(model: Model, jobs: int, seeds: Sequence[int]) -> tuple[float, float, float, int]:
    """Requests a job on the API's host, throughput over the result route's, pages a job, lost."""
    nights = [Night(model, RPM, "fixed", jobs, seed) for seed in seeds]
    paged = [PagedNight(night).run() for night in nights]
    direct = [ours(night) for night in nights]
    pairs = zip(direct, paged, strict=True)
    return (
        median(night.outcome.requests / jobs for night in paged),
        median(one.makespan_s / other.outcome.makespan_s for one, other in pairs),
        median(night.pages_asked / jobs for night in paged),
        max(night.outcome.lost for night in paged),
    )


def pages_table(jobs: int, seeds: Sequence[int]) -> str:
    """One line a model."""
    lines = [f"history route at {RPM} rpm   requests a job   × result route   pages a job   lost"]
    for model in MODELS:
        requests, faster, pages, lost = measure_pages(model, jobs, seeds)
        lines.append(f"{model.name:25}{requests:17.2f}{faster:17.2f}{pages:14.2f}{lost:7d}")
    return "\n".join(lines)
