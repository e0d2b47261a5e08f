"""No more jobs are in flight than can be collected before the API forgets them."""

from __future__ import annotations

import heapq
from random import Random

import pytest

from runner.policy.admission import (
    ENOUGH,
    LEAST,
    OBSERVED_S,
    SHARE,
    SHORTEST_OBSERVED_S,
    UNPROVEN_MINUTES,
    UNPROVEN_MOST,
    UNPROVEN_RPM,
    Admission,
)
from runner.policy.pace import Pace
from runner.policy.polling import PollSchedule

HOUR_S = 3600.0
START = 1_790_000_000.0


def test_what_is_unproven_is_bounded_by_what_the_rate_can_send_in_two_minutes() -> None:
    assert Admission(1000, 60, HOUR_S, START).most(START) == UNPROVEN_MINUTES * 60
    assert Admission(None, 60, HOUR_S, START).most(START) == UNPROVEN_MINUTES * 60


def test_without_a_rate_an_assumed_one_counts() -> None:
    assert Admission(100, None, HOUR_S, START).most(START + 10) == 100
    assert Admission(None, None, HOUR_S, START).most(START + 10) == UNPROVEN_MINUTES * UNPROVEN_RPM


def test_an_unproven_backend_is_never_trusted_with_more_than_a_slow_one_does_in_an_hour() -> None:
    assert Admission(None, 60_000, HOUR_S, START).most(START) == UNPROVEN_MOST


def test_each_completion_lets_one_more_in() -> None:
    admission = Admission(None, 60, HOUR_S, START)
    for n in range(5):
        admission.completed(START + n)
    assert admission.most(START + 10) == UNPROVEN_MINUTES * 60 + 5


def test_a_rate_that_becomes_known_counts_from_then_on() -> None:
    admission = Admission(None, None, HOUR_S, START)
    admission.rpm = 12
    assert admission.most(START + 1) == UNPROVEN_MINUTES * 12


def test_how_long_the_first_job_takes_does_not_count_as_slowness() -> None:
    admission = Admission(None, 600, HOUR_S, START)
    for n in range(30):
        admission.completed(START + 280 + n / 5)
    assert admission.most(START + 300) == int(SHARE * HOUR_S * 30 / SHORTEST_OBSERVED_S)


def test_it_is_never_more_than_the_concurrency() -> None:
    admission = Admission(100, 6000, HOUR_S, START)
    for n in range(3000):
        admission.completed(START + n / 100)
    assert admission.most(START + 30) == 100


@pytest.mark.parametrize(("concurrency", "most"), [(100, LEAST), (3, 3), (1, 1)])
def test_a_tiny_rate_leaves_a_few(concurrency: int, most: int) -> None:
    assert Admission(concurrency, 1, HOUR_S, START).most(START) == most


def test_completions_that_are_seen_count_more_than_the_rate_that_is_allowed() -> None:
    admission = Admission(1000, 600, HOUR_S, START)
    for n in range(30):
        admission.completed(START + n * 10)
    assert admission.most(START + 300) == int(SHARE * HOUR_S * 29 / OBSERVED_S)


def test_a_few_completions_are_no_experience_yet() -> None:
    admission = Admission(1000, None, HOUR_S, START)
    for n in range(ENOUGH - 1):
        admission.completed(START + n)
    assert admission.most(START + 60) == UNPROVEN_MINUTES * UNPROVEN_RPM + ENOUGH - 1


def test_a_long_silence_is_experience() -> None:
    assert Admission(1000, None, HOUR_S, START).most(START + OBSERVED_S) == LEAST


def test_old_completions_are_forgotten() -> None:
    admission = Admission(1000, None, HOUR_S, START)
    for n in range(300):
        admission.completed(START + n)
    assert admission.most(START + 300) == UNPROVEN_MINUTES * UNPROVEN_RPM + 300
    assert admission.most(START + 700) == LEAST


@pytest.mark.parametrize("jump_s", [-86400.0, 86400.0])
def test_a_clock_that_jumps_stops_nothing_for_good(jump_s: float) -> None:
    admission = Admission(50, 60, HOUR_S, START)
    for n in range(100):
        admission.completed(START + n)
    assert admission.most(START + jump_s) >= 1
    for n in range(400):
        admission.completed(START + jump_s + n)
    assert admission.most(START + jump_s + 400) >= LEAST


def simulate(rpm: int, servers: int, work_s: float, jobs: int, retention_s: float) -> int:
    """A night of one model before a queue; how many results were forgotten before they were asked."""
    rng = Random(11)
    now, lost, left = START, 0, jobs
    pace, schedule = Pace(rpm), PollSchedule()
    admission = Admission(100, rpm, retention_s, START)
    free_at = [START] * servers
    done: dict[int, float] = {}
    flight: dict[int, float] = {}
    while left or flight:
        due = schedule.next_due(now)
        if wait_s := pace.wait_s(now):
            now += wait_s
            continue
        if due is not None and due <= now:
            key = schedule.pop(now)
            assert key is not None
            pace.take(now)
            if now >= flight[key] + retention_s:
                lost += 1
            elif now < done[key]:
                schedule.running(key, now)
                continue
            else:
                schedule.found(key, now)
                # The result costs a request of its own.
                now += pace.wait_s(now)
                pace.take(now)
                lost += now >= flight[key] + retention_s
            schedule.discard(key)
            del flight[key]
            admission.completed(now)
        elif left and len(flight) < admission.most(now):
            pace.take(now)
            start = max(now, heapq.heappop(free_at))
            done[left] = start + work_s * rng.uniform(0.8, 1.2)
            heapq.heappush(free_at, done[left])
            flight[left] = now
            schedule.add(left, "slow", now, now + retention_s)
            left -= 1
        else:
            # The loop looks now and then, as the engine does, whatever it waits for.
            now += min(30.0, due - now) if due is not None else 30.0
    return lost


@pytest.mark.parametrize(
    ("rpm", "servers", "work_s"),
    [
        pytest.param(3, 50, 20.0, id="a tiny rate before a quick model"),
        pytest.param(2, 4, 60.0, id="a tiny rate and a queue"),
        pytest.param(60, 2, 60.0, id="a slow queue"),
        pytest.param(600, 8, 120.0, id="a good rate before a slow queue"),
        pytest.param(5, 1, 240.0, id="a tiny rate before one slow server"),
    ],
)
def test_a_whole_night_loses_nothing_to_retention(rpm: int, servers: int, work_s: float) -> None:
    assert simulate(rpm, servers, work_s, jobs=400, retention_s=HOUR_S) == 0
