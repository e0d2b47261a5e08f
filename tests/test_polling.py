"""The poll schedule asks about when a job is done, and in time before the API forgets it."""

from __future__ import annotations

import itertools
from math import exp
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.policy.polling import (
    AGAIN,
    SCOUT_EVERY,
    SCOUT_FIRST_S,
    SCOUT_GROWTH,
    SCOUTS,
    SHORTEST_WAIT_S,
    STEP_DOWN,
    STEP_UP,
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


def end(schedule: PollSchedule, key: int, now: float) -> None:
    schedule.found(key, now)
    schedule.discard(key)


def scouted(first_ask_s: float, model: str = "imagen") -> PollSchedule:
    """A schedule that has learned this age from its scouts."""
    schedule = PollSchedule()
    for key in range(-SCOUTS, 0):
        schedule.add(key, model, 0.0, HOUR_S)
    for key in range(-SCOUTS, 0):
        schedule.pop(first_ask_s)
        end(schedule, key, first_ask_s)
    return schedule


def first_ask(
    schedule: PollSchedule, key: int, started: float = 0.0, model: str = "imagen"
) -> float:
    """The age at which a new job would be asked first."""
    schedule.add(key, model, started, started + HOUR_S)
    due = schedule.next_due(started - 1)
    assert due is not None
    return due - started


def test_an_empty_schedule_has_nothing_to_ask():
    schedule = PollSchedule()
    assert (schedule.next_due(0.0), schedule.pop(0.0), schedule.next_deadline()) == (None,) * 3
    assert len(schedule) == 0


def test_a_job_is_given_once_until_it_is_put_back():
    schedule = PollSchedule()
    schedule.add(1, "imagen", 0.0, HOUR_S)
    assert schedule.pop(SCOUT_FIRST_S - 0.01) is None
    assert schedule.pop(SCOUT_FIRST_S) == 1
    assert drain(schedule, HOUR_S) == []
    schedule.running(1, 2.0)
    assert drain(schedule, HOUR_S) == [1]


def test_scouts_are_asked_at_geometrically_growing_ages():
    schedule = PollSchedule()
    schedule.add(1, "imagen", 0.0, HOUR_S)
    ages = []
    for _ in range(8):
        due = schedule.next_due(0.0)
        assert due is not None
        ages.append(due)
        assert schedule.pop(due) == 1
        schedule.running(1, due)
    assert ages[0] == SCOUT_FIRST_S
    assert [b / a for a, b in itertools.pairwise(ages)] == pytest.approx([SCOUT_GROWTH] * 7)


def test_after_the_scouts_the_first_ask_comes_at_the_oldest_age_they_saw():
    schedule = PollSchedule()
    for key, age_s in enumerate((9.0, 14.0, 11.0)):
        schedule.add(key, "imagen", 0.0, HOUR_S)
        schedule.pop(age_s)
        end(schedule, key, age_s)
    assert first_ask(schedule, 9) == 14.0


def test_each_model_is_learned_for_itself():
    schedule = scouted(100.0, "video")
    assert first_ask(schedule, 1, model="imagen") == SCOUT_FIRST_S
    schedule.discard(1)
    assert first_ask(schedule, 2, model="video") == 100.0


def test_a_first_ask_that_comes_too_early_raises_the_age():
    schedule = scouted(10.0)
    schedule.add(1, "imagen", 0.0, HOUR_S)
    assert schedule.pop(10.0) == 1
    schedule.running(1, 10.0)
    schedule.discard(1)
    assert first_ask(schedule, 2) == pytest.approx(10.0 * exp(STEP_UP))


def test_a_first_ask_that_finds_the_job_done_lowers_it_a_ninth_as_much():
    schedule = scouted(10.0)
    schedule.add(1, "imagen", 0.0, HOUR_S)
    assert schedule.pop(10.0) == 1
    end(schedule, 1, 10.0)
    assert first_ask(schedule, 2) == pytest.approx(10.0 * exp(-STEP_DOWN))
    assert pytest.approx(STEP_UP / 9) == STEP_DOWN


def test_only_the_first_ask_teaches():
    schedule = scouted(10.0)
    schedule.add(1, "imagen", 0.0, HOUR_S)
    schedule.pop(10.0)
    schedule.running(1, 10.0)
    for now in (12.0, 14.4, 17.3):
        schedule.pop(now)
        schedule.running(1, now)
    end(schedule, 1, 20.0)
    assert first_ask(schedule, 2) == pytest.approx(10.0 * exp(STEP_UP))


def test_a_job_that_could_not_be_asked_teaches_nothing():
    schedule = scouted(10.0)
    schedule.add(1, "imagen", 0.0, HOUR_S)
    schedule.pop(10.0)
    schedule.later(1, 10.0, 60.0)
    schedule.discard(1)
    assert first_ask(schedule, 2) == 10.0


def test_an_end_teaches_once_however_often_it_is_told():
    schedule = scouted(10.0)
    schedule.add(1, "imagen", 0.0, HOUR_S)
    schedule.pop(10.0)
    for _ in range(5):
        schedule.found(1, 10.0)
    schedule.discard(1)
    assert first_ask(schedule, 2) == pytest.approx(10.0 * exp(-STEP_DOWN))


def test_a_job_asked_too_early_is_asked_again_at_a_multiple_of_its_age():
    schedule = scouted(10.0)
    schedule.add(1, "imagen", 0.0, HOUR_S)
    schedule.pop(10.0)
    schedule.running(1, 10.0)
    assert schedule.next_due(10.0) == pytest.approx(10.0 * AGAIN)


def test_the_age_never_falls_below_the_shortest_wait():
    schedule = scouted(SHORTEST_WAIT_S)
    for key in range(1, 200):
        schedule.add(key, "imagen", 0.0, HOUR_S)
        schedule.pop(HOUR_S)
        end(schedule, key, SHORTEST_WAIT_S)
    assert first_ask(schedule, 1000) >= SHORTEST_WAIT_S


def test_about_nine_in_ten_first_asks_find_the_job_done():
    rng, schedule = Random(3), scouted(12.0)
    hits = 0
    for key in range(4000):
        latency_s = rng.lognormvariate(2.5, 0.3)
        schedule.add(key, "imagen", 0.0, HOUR_S)
        asked = False
        while True:
            now = schedule.next_due(0.0)
            assert now is not None
            assert schedule.pop(now) == key
            if now >= latency_s:
                hits += not asked
                end(schedule, key, now)
                break
            asked = True
            schedule.running(key, now)
    assert 0.86 < hits / 4000 < 0.94


def test_now_and_then_a_scout_notices_that_a_model_became_faster():
    schedule = scouted(100.0)
    asked_at_once = []
    for key in range(SCOUT_EVERY + 1):
        if first_ask(schedule, key) == SCOUT_FIRST_S:
            asked_at_once.append(key)
            end(schedule, key, 5.0)
        schedule.discard(key)
    assert len(asked_at_once) == 1
    assert first_ask(schedule, 9999) == pytest.approx(5.0 * exp(STEP_UP))


def test_a_slow_model_is_first_asked_with_room_for_more_asks_before_the_deadline():
    schedule = scouted(3000.0)
    assert first_ask(schedule, 1) == HOUR_S / 3


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
    assert schedule.pop(now) == 1
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
    schedule = PollSchedule()
    for key, started in ((1, 30.0), (2, 10.0), (3, 20.0)):
        schedule.add(key, "imagen", started, started + HOUR_S)
    assert drain(schedule, 100.0) == [2, 3, 1]


def test_who_is_forgotten_soon_goes_before_who_is_due_earlier():
    schedule = PollSchedule()
    now = HOUR_S * (1 - URGENT_SHARE) + 10
    schedule.add(1, "imagen", now - 100, now - 100 + HOUR_S)
    schedule.add(2, "imagen", 5.0, HOUR_S + 5.0)
    schedule.add(3, "imagen", 0.0, HOUR_S)
    for key in drain(schedule, 50.0):
        schedule.later(key, now - 6 + key, 0.0)
    assert drain(schedule, now) == [3, 2, 1]


def test_a_job_that_becomes_urgent_while_it_waits_for_its_turn_is_moved_up():
    schedule = PollSchedule()
    schedule.add(1, "imagen", 100.0, 100.0 + HOUR_S)
    schedule.add(2, "imagen", 0.0, HOUR_S)
    schedule.pop(1.0)
    schedule.later(2, 1.0, 200.0)
    assert schedule.next_due(210.0) == 210.0  # both are ready now, and the rate is short
    late = HOUR_S * (1 - URGENT_SHARE) + 50
    assert drain(schedule, late) == [2, 1]


def test_the_next_due_time_is_now_when_a_job_is_ready():
    schedule = PollSchedule()
    schedule.add(1, "imagen", 0.0, HOUR_S)
    assert schedule.next_due(0.0) == SCOUT_FIRST_S
    assert schedule.next_due(50.0) == 50.0


def test_a_forgotten_job_is_neither_due_nor_given():
    schedule = PollSchedule()
    schedule.add(1, "imagen", 0.0, HOUR_S)
    schedule.next_due(50.0)
    schedule.discard(1)
    schedule.discard(1)
    assert schedule.next_due(50.0) is None
    assert schedule.pop(50.0) is None
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
        st.tuples(st.sampled_from("apprldf"), st.integers(0, 5), st.floats(0, 600)), max_size=60
    )
)
def test_no_job_is_lost_or_given_twice_whatever_happens(steps: list[tuple[str, int, float]]):
    schedule, now = PollSchedule(), 0.0
    waiting: set[int] = set()
    out: set[int] = set()
    for what, key, step_s in steps:
        now += step_s
        if what == "a" and key not in waiting | out:
            schedule.add(key, "imagen", now, now + HOUR_S)
            waiting.add(key)
        elif what == "p" and (given_key := schedule.pop(now)) is not None:
            assert given_key in waiting
            waiting.remove(given_key)
            out.add(given_key)
        elif what in "rlf" and key in out:
            if what == "f":
                schedule.found(key, now)
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


def test_jobs_that_an_earlier_run_left_teach_nothing_of_how_long_a_model_takes() -> None:
    schedule, now = PollSchedule(), 10_000.0
    for key in range(5):
        schedule.add(key, "imagen", now - 1800, now + 1800, teaches=False)
    for _ in range(5):
        key = schedule.pop(now)
        assert key is not None
        schedule.found(key, now)
        schedule.discard(key)
    for key in range(10, 20):
        schedule.add(key, "imagen", now, now + 3600)
    due = schedule.next_due(now)
    assert due is not None
    assert due <= now + 1.0
