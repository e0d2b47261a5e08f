"""What a tally tells of a run, from its events and the time alone."""

from __future__ import annotations

import itertools
import random
import tracemalloc

import pytest

from runner.events import Answered, Call, Draining, Held, Moved, Noted
from runner.job import State
from runner.report.tally import LAST_FAILURES, Tally, Window

START = 1_760_000_000.0


def tally(pending: int = 100, **others: int) -> Tally:
    counts = {State.PENDING: pending} | {State(name): count for name, count in others.items()}
    return Tally(counts, started_at=START, spent_before=2.0, rpm=50)


def move(
    before: State, after: State, job_id: str = "a", cost: float | None = None, reason: str = ""
) -> Moved:
    return Moved(job_id, "animals", "imagen", before, after, cost, reason)


def settle_one(counted: Tally, now: float) -> None:
    """The whole way of one job, settled at `now`."""
    counted.see(move(State.PENDING, State.SUBMITTING), now)
    counted.see(move(State.SUBMITTING, State.SUBMITTED), now)
    counted.see(move(State.SUBMITTED, State.COMPLETED, cost=0.02), now)
    counted.see(move(State.COMPLETED, State.SAVED), now)


def test_a_job_is_counted_in_one_state_at_a_time() -> None:
    counted = tally(pending=3, saved=2)
    counted.see(move(State.PENDING, State.SUBMITTING), START)
    assert counted.at(START).counts == {State.PENDING: 2, State.SUBMITTING: 1, State.SAVED: 2}
    assert counted.at(START).total == 5


def test_submitting_and_submitted_are_in_flight() -> None:
    progress = tally(pending=3, submitting=2, submitted=4, completed=1).at(START)
    assert progress.in_flight == 6


def test_a_job_that_was_not_counted_before_joins_the_total() -> None:
    counted = tally(pending=0)
    counted.see(move(State.SUBMITTED, State.COMPLETED), START)
    assert counted.at(START).counts == {State.COMPLETED: 1}


def test_money_of_this_run_is_kept_apart_from_money_before() -> None:
    counted = tally()
    counted.see(move(State.SUBMITTED, State.COMPLETED, cost=0.5), START)
    progress = counted.at(START)
    assert (progress.spent_run, progress.spent_before, progress.spent) == (0.5, 2.0, 2.5)


def test_requests_are_counted_by_kind_and_over_the_last_minute() -> None:
    counted = tally()
    for second in range(90):
        counted.see(Answered(Call.STATUS, 200, 0.1), START + second)
    counted.see(Answered(Call.SUBMIT, 429, 0.1), START + 89)
    progress = counted.at(START + 89)
    assert progress.requests == {Call.STATUS: 90, Call.SUBMIT: 1}
    assert progress.requests_total == 91
    assert progress.requests_last_minute == 61
    assert progress.rate_limited == 1
    assert counted.at(START + 149).requests_last_minute == 0


def test_the_rate_may_be_learned_during_the_run() -> None:
    counted = Tally({}, started_at=START)
    assert counted.at(START).rpm is None
    counted.rpm = 60
    assert counted.at(START).rpm == 60


def test_a_hold_counts_down_and_is_over() -> None:
    counted = tally()
    counted.see(Held(START + 30, "rate limit"), START)
    assert counted.at(START + 10).hold_s == 20
    assert counted.at(START + 10).hold_reason == "rate limit"
    assert counted.at(START + 30).hold_s == 0
    assert counted.at(START + 30).hold_reason == ""


def test_of_two_holds_the_one_that_ends_later_is_told() -> None:
    counted = tally()
    counted.see(Held(START + 30, "long"), START)
    counted.see(Held(START + 5, "short"), START + 1)
    assert counted.at(START + 2).hold_reason == "long"


def test_only_the_last_failures_are_kept() -> None:
    counted = tally()
    for number in range(20):
        counted.see(move(State.SUBMITTED, State.FAILED, f"job-{number}", reason="no"), START)
    failures = counted.at(START).failures
    assert [failure.job_id for failure in failures] == [f"job-{n}" for n in range(15, 20)]
    assert len(failures) == LAST_FAILURES


def test_a_doubt_that_was_resolved_is_no_failure_any_more() -> None:
    counted = tally()
    counted.see(move(State.SUBMITTING, State.IN_DOUBT, "a"), START)
    counted.see(move(State.IN_DOUBT, State.SUBMITTED, "a"), START)
    assert counted.at(START).failures == ()


def test_the_pace_is_that_of_the_last_minutes() -> None:
    counted = tally(pending=1000)
    for second in range(0, 600, 6):
        settle_one(counted, START + second)
    assert counted.at(START + 600).saved_per_minute == pytest.approx(10, rel=0.1)
    assert counted.at(START + 800).saved_per_minute == 0
    assert counted.at(START + 600).saved_run == 100


def test_a_quick_first_job_is_no_pace_of_sixty_a_minute() -> None:
    counted = tally()
    settle_one(counted, START + 1)
    assert counted.at(START + 1).saved_per_minute == 1


def test_the_time_left_is_unknown_until_some_jobs_are_settled() -> None:
    counted = tally()
    assert counted.at(START + 60).eta_s is None
    settle_one(counted, START + 60)
    settle_one(counted, START + 61)
    assert counted.at(START + 61).eta_s is None
    settle_one(counted, START + 62)
    assert counted.at(START + 62).eta_s is not None


def test_the_time_left_of_a_steady_run_is_told_within_a_tenth() -> None:
    counted = tally(pending=2000)
    for second in range(1000):
        settle_one(counted, START + second)
    assert counted.at(START + 1000).eta_s == pytest.approx(1000, rel=0.1)


def test_the_time_left_follows_a_run_that_becomes_slower() -> None:
    counted = tally(pending=10_000)
    now = START
    for _ in range(1000):
        now += 1
        settle_one(counted, now)
    for _ in range(200):
        now += 10
        settle_one(counted, now)
    assert counted.at(now).eta_s == pytest.approx(88_000, rel=0.2)


def test_the_time_left_does_not_jump_when_jobs_come_in_batches() -> None:
    counted = tally(pending=4000)
    rng = random.Random(1)
    told: list[float] = []
    for second in range(1800):
        if second % 20 == 0:
            for _ in range(rng.randint(10, 22)):
                settle_one(counted, START + second)
        eta_s = counted.at(START + second).eta_s
        if second > 300 and eta_s is not None:
            told.append(eta_s)
    changes = [abs(after - before) / before for before, after in itertools.pairwise(told)]
    assert max(changes) < 0.1


def test_the_time_left_of_slow_jobs_is_told_and_steady() -> None:
    counted = tally(pending=100)
    told = []
    for minute in range(0, 90, 3):
        settle_one(counted, START + minute * 60)
        told.append(counted.at(START + minute * 60).eta_s)
    late = [eta_s for eta_s in told[10:] if eta_s is not None]
    assert len(late) == 20
    assert late[-1] == pytest.approx(70 * 180, rel=0.15)


def test_a_stalled_run_promises_no_time() -> None:
    counted = tally()
    for second in range(20):
        settle_one(counted, START + second)
    assert counted.at(START + 60).eta_s is not None
    assert counted.at(START + 3600).eta_s is None


def test_a_run_with_nothing_left_has_no_time_left() -> None:
    assert tally(pending=0, saved=5).at(START + 60).eta_s == 0


def test_a_draining_run_does_not_count_on_pending_jobs() -> None:
    counted = tally(pending=1000, submitted=10)
    for second in range(60):
        settle_one(counted, START + second)
    before_s = counted.at(START + 60).eta_s
    counted.see(Draining("interrupted"), START + 60)
    after_s = counted.at(START + 60).eta_s
    assert before_s is not None
    assert after_s is not None
    assert after_s == pytest.approx(before_s * 10 / 950)
    assert counted.at(START + 60).draining == "interrupted"


def test_jobs_of_a_stopped_model_do_not_promise_a_quick_end() -> None:
    counted = tally(pending=1000)
    for _ in range(500):
        counted.see(move(State.PENDING, State.FAILED), START + 20)
    assert counted.at(START + 20).eta_s is None


def test_a_note_changes_no_count() -> None:
    counted = tally()
    before = counted.at(START)
    counted.see(Noted("anything", warning=True), START)
    assert counted.at(START) == before


def test_a_progress_does_not_change_after_it_was_taken() -> None:
    counted = tally(pending=1)
    before = counted.at(START)
    counted.see(move(State.PENDING, State.SUBMITTING), START)
    assert before.counts == {State.PENDING: 1}


def test_a_window_counts_what_is_inside_its_span() -> None:
    window = Window(10.0, 1.0)
    for second in range(20):
        window.add(START + second)
    assert window.count(START + 19) == 10


def test_memory_does_not_grow_with_the_jobs_of_a_night() -> None:
    counted = tally(pending=1_000_000)
    tracemalloc.start()
    try:
        for number in range(5_000):
            settle_one(counted, START + number * 6)
            counted.see(Answered(Call.STATUS, 200, 0.1), START + number * 6)
            failed = move(State.SUBMITTED, State.FAILED, f"job-{number}", reason="no")
            counted.see(failed, START + number * 6)
        used_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used_bytes < 50_000
