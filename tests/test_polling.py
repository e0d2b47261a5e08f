"""The poll schedule asks about when a job is done, and in time before the API forgets it."""

from __future__ import annotations

import itertools
import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.policy.latencies import ENOUGH, MEMORY
from runner.policy.polling import (
    EARLY,
    LEAST_GROWTH,
    PATIENCE,
    SCOUT_DUE_S,
    SCOUT_FIRST_S,
    SCOUT_GROWTH,
    SCOUTS,
    SHORTEST_WAIT_S,
    URGENT_SHARE,
    PollSchedule,
)

HOUR_S = 3600.0


@pytest.fixture(autouse=True)
def quick_polls() -> None:
    """The real constants hold here, unlike in the end-to-end tests."""


def drain(schedule: PollSchedule, now: float) -> list[int]:
    """Every job that is ready at this time, in the order it is given."""
    keys = []
    while (key := schedule.pop(now)) is not None:
        keys.append(key)
    return keys


def end(schedule: PollSchedule, key: int, now: float, total_time_s: float | None = None) -> None:
    schedule.found(key, now, total_time_s)
    schedule.discard(key)


def taught(
    latencies_s: list[float], model: str = "imagen", rpm: float | None = None
) -> PollSchedule:
    """A schedule that has seen jobs of a model take so long."""
    schedule = PollSchedule(rpm)
    for key, latency_s in enumerate(latencies_s):
        schedule.add(-key, model, 0.0, HOUR_S)
        end(schedule, -key, HOUR_S - 1, latency_s)
    return schedule


def sure_age(schedule: PollSchedule, key: int = 1, model: str = "imagen") -> float:
    """The age at which a new job would be asked before any submit."""
    schedule.add(key, model, 0.0, HOUR_S)
    due = schedule.next_due(-1.0)
    assert due is not None
    schedule.discard(key)
    return due


def guess_age(schedule: PollSchedule, key: int = 1, model: str = "imagen") -> float:
    """The age at which a new job would be asked with a request that nothing else needs."""
    schedule.add(key, model, 0.0, HOUR_S)
    at = schedule.next_guess(-1.0)
    assert at is not None
    schedule.discard(key)
    return at


def test_a_job_that_is_hastened_is_given_once() -> None:
    schedule = taught([10.0] * ENOUGH)
    for key, started in ((1, 0.0), (2, 1.0), (3, 55.0)):
        schedule.add(key, "imagen", started, HOUR_S)
    assert schedule.pop(60.0) == 1
    for key in (1, 2, 3):
        # One is on its way to be asked, one is ready, one is young.
        schedule.hasten(key, 60.0)
    assert drain(schedule, 61.0) == [2, 3]
    schedule.running(1, 62.0)
    schedule.hasten(1, 62.0)
    assert drain(schedule, 63.0) == [1]


def test_an_empty_schedule_has_nothing_to_ask():
    schedule = PollSchedule()
    assert (schedule.next_due(0.0), schedule.pop(0.0), schedule.next_deadline()) == (None,) * 3
    assert (schedule.next_guess(0.0), schedule.pop_guess(0.0)) == (None, None)
    assert len(schedule) == 0


def test_a_job_is_given_once_until_it_is_put_back():
    schedule = taught([10.0] * ENOUGH)
    schedule.add(1, "imagen", 0.0, HOUR_S)
    assert schedule.pop(9.0) is None
    assert schedule.pop(20.0) == 1
    assert drain(schedule, HOUR_S) == []
    assert schedule.pop_guess(HOUR_S) is None
    schedule.running(1, 20.0)
    assert drain(schedule, HOUR_S) == [1]


def test_a_guess_is_given_once_as_well():
    schedule = taught([10.0] * ENOUGH)
    schedule.add(1, "imagen", 0.0, HOUR_S)
    assert schedule.pop_guess(11.5) == 1
    assert drain(schedule, HOUR_S) == []
    assert schedule.pop_guess(HOUR_S) is None


def test_while_a_model_is_unknown_only_its_oldest_jobs_are_asked():
    schedule = PollSchedule()
    for key in range(5 * SCOUTS):
        schedule.add(key, "imagen", key / 100, key / 100 + HOUR_S)
    asked, now = set(), 0.0
    for _ in range(10 * SCOUTS):
        now = schedule.next_guess(now) or 0.0
        key = schedule.pop_guess(now)
        assert key is not None
        asked.add(key)
        schedule.running(key, now)
    assert asked == set(range(SCOUTS))


def test_a_scout_that_still_runs_is_asked_again_when_it_is_older_by_a_share():
    schedule = PollSchedule()
    schedule.add(1, "imagen", 0.0, HOUR_S)
    ages, now = [], SCOUT_FIRST_S
    for _ in range(8):
        assert schedule.pop_guess(now) == 1
        schedule.running(1, now)
        ages.append(now)
        now = schedule.next_guess(now) or 0.0
    assert [b / a for a, b in itertools.pairwise(ages)] == pytest.approx([SCOUT_GROWTH] * 7)


def test_submits_go_before_the_jobs_of_an_unknown_model_for_two_minutes():
    schedule = PollSchedule()
    assert sure_age(schedule) == SCOUT_DUE_S


def test_what_is_surely_ready_is_older_than_nearly_all_that_is_known():
    rng = Random(2)
    latencies_s = [rng.lognormvariate(2.5, 0.3) for _ in range(MEMORY)]
    age_s = sure_age(taught(latencies_s))
    assert sum(latency_s < age_s for latency_s in latencies_s) >= 0.99 * MEMORY
    assert age_s < 2 * max(latencies_s)


def test_the_less_is_known_the_longer_one_waits():
    assert sure_age(taught([10.0] * ENOUGH)) == pytest.approx(10.0 * PATIENCE * (1 + 1 / ENOUGH))
    assert sure_age(taught([10.0] * MEMORY)) == pytest.approx(10.0 * PATIENCE * (1 + 1 / MEMORY))


def test_a_guess_comes_earlier_the_more_requests_are_to_spare():
    latencies_s = [float(n) for n in range(1, MEMORY + 1)]
    ages = []
    for rpm in (5, 50, 500, 5000):
        schedule = taught(latencies_s, rpm=rpm)
        schedule.to_submit = 0
        ages.append(guess_age(schedule))
        assert ages[-1] <= sure_age(schedule)
    assert ages == sorted(ages, reverse=True)
    assert ages[0] > 2 * ages[-1]


def test_a_guess_comes_later_the_more_jobs_share_the_rate():
    schedule = taught([float(n) for n in range(1, MEMORY + 1)], rpm=120)
    schedule.to_submit = 0
    alone = guess_age(schedule)
    for key in range(100, 200):
        schedule.add(key, "imagen", 500.0, 500.0 + HOUR_S)
    assert guess_age(schedule) > alone


def test_cold_starts_are_asked_after_the_warm_ones_and_again_after_the_cold_ones():
    schedule = taught([10.0] * 80 + [60.0] * 20, rpm=6)
    schedule.to_submit = 0
    for key in range(1, 11):
        schedule.add(key, "imagen", 0.0, HOUR_S)
    assert schedule.next_guess(0.0) == pytest.approx(60.0 * 1.01)
    schedule.rpm = 600
    first = schedule.next_guess(0.0)
    assert first == pytest.approx(10.0 * 1.01)
    key = schedule.pop_guess(first or 0.0)
    assert key is not None
    schedule.running(key, 12.0)
    for other in range(1, 11):
        if other != key:
            schedule.discard(other)
    assert schedule.next_guess(12.0) == pytest.approx(60.0, rel=0.03)


def test_each_model_is_learned_for_itself():
    schedule = taught([100.0] * ENOUGH, "video")
    assert sure_age(schedule, 1, "imagen") == SCOUT_DUE_S
    assert sure_age(schedule, 2, "video") == pytest.approx(100.0 * PATIENCE * (1 + 1 / ENOUGH))


def test_a_first_ask_that_comes_too_early_puts_the_others_off():
    schedule = taught([10.0] * MEMORY)
    before = sure_age(schedule)
    for key in range(1, 4):
        schedule.add(key, "imagen", 0.0, HOUR_S)
    for key in drain(schedule, before):
        schedule.running(key, before)
    assert sure_age(schedule, 9) == pytest.approx(before * EARLY * PATIENCE * (1 + 1 / MEMORY))


def test_a_model_that_slows_down_is_not_asked_by_all_its_jobs_in_vain():
    schedule = taught([10.0] * MEMORY)
    for key in range(1, 1001):
        schedule.add(key, "imagen", key / 10, key / 10 + HOUR_S)
    asks, now = 0, 0.0
    while (now := schedule.next_due(now) or 0.0) < 80.0:
        key = schedule.pop(now)
        assert key is not None
        schedule.running(key, now)
        asks += 1
    assert asks < 150


def test_a_model_that_becomes_faster_is_asked_earlier_at_once():
    schedule = taught([100.0] * MEMORY)
    for key in range(1, 200):
        schedule.add(key, "imagen", 0.0, HOUR_S)
    for key in range(500, 500 + MEMORY):
        schedule.add(key, "imagen", 0.0, HOUR_S)
        end(schedule, key, 5.0, 5.0)
    assert schedule.next_due(0.0) == pytest.approx(5.0 * PATIENCE * (1 + 1 / MEMORY))


def test_failures_that_come_back_fast_do_not_hurry_the_others():
    slow, failed = [60.0] * (MEMORY // 2), [1.0] * (MEMORY // 2)
    assert sure_age(taught(slow + failed)) > 60.0


def test_what_a_result_tells_is_bounded_by_what_was_seen():
    schedule = PollSchedule()
    for key in range(ENOUGH):
        schedule.add(key, "imagen", 0.0, HOUR_S)
        schedule.running(key, 8.0)
        end(schedule, key, 12.0, 1e9 if key % 2 else -5.0)
    remembered = schedule.remembered()["imagen"]
    assert (min(remembered), max(remembered)) == (8.0, 12.0)


def test_without_metrics_the_age_lies_between_the_last_two_asks():
    schedule = PollSchedule()
    for key in range(ENOUGH):
        schedule.add(key, "imagen", 0.0, HOUR_S)
        schedule.running(key, 8.0)
        end(schedule, key, 18.0)
    assert schedule.remembered()["imagen"] == [12.0] * ENOUGH


def test_without_metrics_asks_that_always_hit_come_a_little_earlier_each_time():
    schedule = taught([100.0] * MEMORY)
    before = sure_age(schedule)
    for key in range(1, MEMORY + 1):
        schedule.add(key, "imagen", 0.0, HOUR_S)
        end(schedule, key, HOUR_S / 2)
    assert before * 0.9 < sure_age(schedule, 999) < before * PATIENCE


def test_an_end_teaches_once_however_often_it_is_told():
    schedule = taught([10.0] * (ENOUGH - 1))
    schedule.add(1, "imagen", 0.0, HOUR_S)
    for _ in range(5):
        schedule.found(1, 10.0)
    for _ in range(5):
        schedule.found(1, 11.0, 9.0)
    schedule.discard(1)
    assert schedule.remembered()["imagen"] == [9.0] + [10.0] * (ENOUGH - 1)


def test_a_job_that_could_not_be_asked_teaches_nothing():
    schedule = taught([10.0] * MEMORY)
    before = sure_age(schedule)
    schedule.add(2, "imagen", 0.0, HOUR_S)
    schedule.pop(before)
    schedule.later(2, before, 60.0)
    schedule.discard(2)
    assert sure_age(schedule) == before


def test_a_job_asked_too_early_is_asked_again_when_the_others_like_it_were_done():
    schedule = taught([float(n) for n in range(1, MEMORY + 1)], rpm=5)
    schedule.add(1, "imagen", 0.0, HOUR_S)
    schedule.pop(200.0)
    schedule.running(1, 200.0)
    assert schedule.next_due(0.0) == pytest.approx(200.0 * EARLY * PATIENCE, rel=0.02)


def test_no_wait_is_shorter_than_a_share_of_the_age():
    schedule = taught([10.0] * MEMORY, rpm=1e6)
    schedule.to_submit = 0
    schedule.add(1, "imagen", 0.0, HOUR_S)
    schedule.pop(1000.0)
    schedule.running(1, 1000.0)
    assert (schedule.next_guess(0.0) or 0.0) - 1000.0 >= 1000.0 * LEAST_GROWTH - 1e-6


def test_near_the_end_submits_go_before_results():
    schedule = taught([100.0] * MEMORY, rpm=60)
    schedule.add(1, "imagen", 0.0, HOUR_S)
    schedule.to_submit = 1000
    assert schedule.next_due(0.0) == pytest.approx(100.0 * PATIENCE * (1 + 1 / MEMORY))
    schedule.to_submit = 10
    assert schedule.next_due(0.0) == HOUR_S / 3
    assert schedule.next_guess(0.0) == pytest.approx(100.0 * (1 + 1 / MEMORY))
    schedule.to_submit = 0
    assert schedule.next_due(0.0) == pytest.approx(100.0 * PATIENCE * (1 + 1 / MEMORY))


def test_what_was_learned_is_remembered_as_plain_json():
    schedule = taught([float(n) for n in range(1, MEMORY + 1)])
    text = json.dumps(schedule.remembered())
    again = PollSchedule(remembered=json.loads(text))
    assert sure_age(again) == pytest.approx(sure_age(schedule), rel=0.1)
    assert PollSchedule().remembered() == {}


def test_what_is_remembered_gives_way_to_what_is_seen():
    schedule = PollSchedule(remembered={"imagen": [100.0] * 20})
    assert sure_age(schedule) > 100.0
    for key in range(1, MEMORY + 1):
        schedule.add(key, "imagen", 0.0, HOUR_S)
        end(schedule, key, 50.0, 5.0)
    assert sure_age(schedule, 999) < 10.0


def test_a_slow_model_is_first_asked_with_room_for_more_asks_before_the_deadline():
    assert sure_age(taught([3000.0] * ENOUGH)) == HOUR_S / 3


@given(
    age_s=st.floats(0, HOUR_S - 1),
    wait_s=st.floats(0, 10 * HOUR_S),
    still_running=st.booleans(),
)
def test_no_wait_takes_more_than_a_third_of_the_remaining_hour(
    age_s: float, wait_s: float, still_running: bool
):
    schedule = PollSchedule()
    schedule.add(1, "imagen", 0.0, HOUR_S)
    now = max(age_s, SCOUT_FIRST_S)
    assert schedule.pop_guess(now) == 1 or schedule.pop(now) == 1
    if still_running:
        schedule.running(1, now)
    else:
        schedule.later(1, now, wait_s)
    due = schedule.next_due(now - 1)
    assert due is not None
    assert due - now + 1e-6 >= SHORTEST_WAIT_S
    assert due - now <= max((HOUR_S - now) / 3, SHORTEST_WAIT_S) + 1e-6


def test_past_its_deadline_a_job_waits_as_long_as_it_is_told():
    schedule = PollSchedule()
    schedule.add(1, "imagen", 0.0, HOUR_S)
    schedule.pop(HOUR_S + 5)
    schedule.later(1, HOUR_S + 5, 20.0)
    assert schedule.next_due(HOUR_S) == HOUR_S + 25


def test_who_is_due_first_is_asked_first():
    schedule = taught([10.0] * ENOUGH)
    for key, started in ((1, 30.0), (2, 10.0), (3, 20.0)):
        schedule.add(key, "imagen", started, started + HOUR_S)
    assert drain(schedule, 100.0) == [2, 3, 1]


def test_who_is_forgotten_soon_goes_before_who_is_due_earlier():
    schedule = taught([10.0] * ENOUGH)
    now = HOUR_S * (1 - URGENT_SHARE) + 10
    schedule.add(1, "imagen", now - 100, now - 100 + HOUR_S)
    schedule.add(2, "imagen", 5.0, HOUR_S + 5.0)
    schedule.add(3, "imagen", 0.0, HOUR_S)
    for key in drain(schedule, 50.0):
        schedule.later(key, now - 6 + key, 0.0)
    assert drain(schedule, now) == [3, 2, 1]


def test_a_job_that_becomes_urgent_while_it_waits_for_its_turn_is_moved_up():
    schedule = taught([10.0] * ENOUGH)
    schedule.add(1, "imagen", 100.0, 100.0 + HOUR_S)
    schedule.add(2, "imagen", 0.0, HOUR_S)
    schedule.pop(20.0)
    schedule.later(2, 20.0, 200.0)
    assert schedule.next_due(230.0) == 230.0  # both are ready now, and the rate is short
    late = HOUR_S * (1 - URGENT_SHARE) + 50
    assert drain(schedule, late) == [2, 1]


def test_a_forgotten_job_is_neither_due_nor_given():
    schedule = PollSchedule()
    schedule.add(1, "imagen", 0.0, HOUR_S)
    schedule.next_due(500.0)
    schedule.discard(1)
    schedule.discard(1)
    assert schedule.next_due(500.0) is None
    assert (schedule.pop(500.0), schedule.pop_guess(500.0)) == (None, None)
    assert len(schedule) == 0


def test_the_next_deadline_is_the_one_of_a_job_still_in_flight():
    schedule = PollSchedule()
    schedule.add(1, "imagen", 0.0, 100.0)
    schedule.add(2, "imagen", 0.0, 200.0)
    assert schedule.next_deadline() == 100.0
    schedule.discard(1)
    assert schedule.next_deadline() == 200.0


@given(
    steps=st.lists(
        st.tuples(st.sampled_from("apgrldfm"), st.integers(0, 5), st.floats(0, 600)), max_size=60
    ),
    known=st.booleans(),
)
def test_no_job_is_lost_or_given_twice_whatever_happens(
    steps: list[tuple[str, int, float]], known: bool
):
    schedule, now = PollSchedule(remembered={"imagen": [12.0] * 20} if known else None), 0.0
    waiting: set[int] = set()
    out: set[int] = set()
    for what, key, step_s in steps:
        now += step_s
        schedule.to_submit = int(step_s) % 3
        if what == "a" and key not in waiting | out:
            schedule.add(key, "imagen", now, now + HOUR_S, teaches=step_s < 500)
            waiting.add(key)
        elif what in "pg":
            given_key = schedule.pop(now) if what == "p" else schedule.pop_guess(now)
            if given_key is not None:
                assert given_key in waiting
                waiting.remove(given_key)
                out.add(given_key)
        elif what in "rlfm" and key in out:
            if what in "fm":
                schedule.found(key, now, step_s if what == "m" else None)
            schedule.running(key, now) if what == "r" else schedule.later(key, now, step_s)
            out.remove(key)
            waiting.add(key)
        elif what == "d":
            schedule.discard(key)
            waiting.discard(key)
            out.discard(key)
        assert len(schedule) == len(waiting | out)
        due = schedule.next_due(now)
        assert (due is None) == (not waiting)
    assert set(drain(schedule, now + 100 * HOUR_S)) == waiting


def test_jobs_that_an_earlier_run_left_are_asked_at_once_and_their_metrics_teach():
    schedule, now = PollSchedule(), 10_000.0
    for key in range(ENOUGH):
        schedule.add(key, "imagen", now - 1800, now + 1800, teaches=False)
    for key in drain(schedule, now):
        end(schedule, key, now, 12.0)
    assert schedule.remembered() == {"imagen": [12.0] * ENOUGH}


def test_jobs_that_an_earlier_run_left_teach_nothing_without_metrics():
    schedule, now = PollSchedule(), 10_000.0
    for key in range(ENOUGH):
        schedule.add(key, "imagen", now - 1800, now + 1800, teaches=False)
    for key in drain(schedule, now):
        end(schedule, key, now)
    assert schedule.remembered() == {}
