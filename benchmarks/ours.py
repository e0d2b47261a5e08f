"""The runner's own policies in a plain loop, in the order in which the engine grants its requests."""

from __future__ import annotations

from benchmarks.rivals import Outcome
from benchmarks.world import RETENTION_S, Backend, Night, Window
from runner.policy.admission import Admission
from runner.policy.pace import Pace
from runner.policy.polling import PollSchedule

LONGEST_WAIT_S = 30.0


def ours(night: Night, *, concurrency: int | None = None, metrics: bool = True) -> Outcome:
    """A night by our rules; `metrics`: whether results tell how long they took."""
    backend = Backend(night.model, night.work_s())
    window, outcome = Window(night.window, night.rpm), Outcome()
    pace, schedule = Pace(night.rpm), PollSchedule(night.rpm)
    admission = Admission(concurrency, night.rpm, RETENTION_S, 0.0)
    flight: dict[int, tuple[float, float]] = {}
    left, now = night.jobs, 0.0
    while left or flight:
        if (wait_s := pace.wait_s(now)) > 0:
            now += wait_s
            continue
        schedule.to_submit = left
        key = schedule.pop(now)
        may_submit = left > 0 and len(flight) < admission.most(now)
        if key is None and not may_submit:
            key = schedule.pop_guess(now)
        if key is None and not may_submit:
            times = (schedule.next_due(now), schedule.next_guess(now), now + LONGEST_WAIT_S)
            now = min(time for time in times if time is not None)
            continue
        outcome.refused += window.free_at(now) > now
        outcome.requests += 1
        pace.take(now)
        window.take(now)
        if key is None:
            key = night.jobs - left
            flight[key] = (now, backend.done_at(now))
            schedule.add(key, night.model.name, now, now + RETENTION_S)
            left -= 1
            continue
        submitted, done = flight[key]
        is_lost = now >= submitted + RETENTION_S
        if now < done and not is_lost:
            schedule.running(key, now)
            continue
        schedule.found(key, now, done - submitted if metrics else None)
        schedule.discard(key)
        admission.completed(now)
        outcome.lost += is_lost
        outcome.collected(now, done)
        del flight[key]
    return outcome
