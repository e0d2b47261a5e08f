"""When the last submit may leave: early enough to be collected, and not a minute earlier."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from runner.events import Moved
from runner.job import State
from runner.policy.curfew import (
    ENOUGH,
    Curfew,
    Deadline,
    next_time_of_day,
    no_submits_words,
)

HOUR_S = 3600.0


def curfew(
    known: dict[str, list[float]] | None = None,
    pending: dict[str, int] | None = None,
    deadline: float = HOUR_S,
    longest_s: float = 900.0,
) -> Curfew:
    waiting = {"imagen": 100} if pending is None else pending
    return Curfew(deadline, 0.0, known=known or {}, pending=waiting, longest_s=longest_s)


def move(job: str, before: State, after: State, model: str = "imagen") -> Moved:
    return Moved(job, "animals", model, before, after)


def send(rule: Curfew, job: str, now: float, model: str = "imagen") -> None:
    rule.see(move(job, State.PENDING, State.SUBMITTING, model), now)


def save(rule: Curfew, job: str, now: float, model: str = "imagen") -> None:
    rule.see(move(job, State.COMPLETED, State.SAVED, model), now)


def need_s(rule: Curfew, now: float = 0.0) -> float:
    return HOUR_S - rule.last_submit(now)


def test_the_ledgers_times_count_until_the_run_has_its_own():
    rule = curfew({"imagen": [100.0] * 20})
    assert need_s(rule) == pytest.approx(112.0)
    for n in range(ENOUGH):
        send(rule, str(n), 0.0)
        save(rule, str(n), 10.0)
    assert need_s(rule, 10.0) == pytest.approx(13.0)


def test_nearly_all_jobs_have_time_and_one_straggler_takes_nobody_elses():
    rule = curfew({"imagen": [10.0] * 98 + [3000.0] * 2})
    assert need_s(rule) == pytest.approx(13.0)


def test_a_model_that_nobody_knows_is_given_a_minute_and_then_what_its_first_job_took():
    rule = curfew()
    assert need_s(rule) == 60.0
    send(rule, "fox", 0.0)
    save(rule, "fox", 20.0)
    assert need_s(rule, 20.0) == pytest.approx(24.0)


def test_in_a_short_run_an_unknown_model_is_tried_all_the_same():
    rule = curfew(deadline=20.0)
    assert rule.last_submit(0.0) == 10.0


def test_the_slowest_model_that_still_has_jobs_decides():
    rule = curfew({"imagen": [10.0], "video": [300.0]}, {"imagen": 5, "video": 1})
    assert need_s(rule) == pytest.approx(332.0)
    send(rule, "clip", 0.0, "video")
    assert need_s(rule) == pytest.approx(332.0)
    save(rule, "clip", 300.0, "video")
    assert need_s(rule, 300.0) == pytest.approx(13.0)


def test_a_job_that_goes_back_to_the_queue_waits_again_and_is_not_on_its_way():
    rule = curfew({"imagen": [10.0]}, {"imagen": 1})
    send(rule, "fox", 0.0)
    rule.see(move("fox", State.SUBMITTING, State.PENDING), 1.0)
    assert need_s(rule, 500.0) == pytest.approx(13.0)
    rule.see(move("fox", State.PENDING, State.FAILED), 2.0)
    assert need_s(rule, 500.0) == 0.0


def test_when_the_api_is_slower_than_ever_the_ages_of_what_is_in_flight_count():
    rule = curfew({"imagen": [10.0] * 20})
    for n in range(4):
        send(rule, str(n), 0.0)
    assert need_s(rule, 200.0) == pytest.approx(200.0)


def test_nothing_to_send_and_nothing_in_flight_needs_no_time():
    assert need_s(curfew({"imagen": [10.0]}, {})) == 0.0


def test_no_more_time_is_left_than_a_drain_may_last():
    assert need_s(curfew({"imagen": [3000.0]}, longest_s=900.0)) == 900.0


def test_the_words_name_the_deadline_and_the_time_since_which_nothing_is_sent(berlin: None):
    seven = epoch("2026-11-25T06:00:00")
    deadline = Deadline(seven, "until 07:00")
    assert no_submits_words(deadline, seven - 720) == "until 07:00: no new submits from 06:48"
    assert no_submits_words(deadline, seven - 5) == "until 07:00: no new submits from 06:59:55"


# The time of day


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Clocks go forward on 29 March 2026 at 2:00 and back on 25 October at 3:00."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def epoch(utc: str) -> float:
    return datetime.fromisoformat(utc).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("now", "text", "expected"),
    [
        pytest.param("2026-11-25T20:00:00", "07:00", "2026-11-26T06:00:00", id="tomorrow"),
        pytest.param("2026-11-25T01:00:00", "7:00", "2026-11-25T06:00:00", id="today"),
        pytest.param("2026-11-25T06:00:00", "07:00", "2026-11-26T06:00:00", id="just now"),
        pytest.param("2026-11-30T23:30:00", "00:15", "2026-12-01T23:15:00", id="next month"),
        pytest.param("2026-03-28T21:00:00", "07:00", "2026-03-29T05:00:00", id="a short night"),
        pytest.param("2026-10-24T20:00:00", "07:00", "2026-10-25T06:00:00", id="a long night"),
        pytest.param("2026-03-28T23:00:00", "02:30", "2026-03-29T01:30:00", id="leapt over"),
        pytest.param("2026-10-24T23:00:00", "02:30", "2026-10-25T00:30:00", id="the first 2:30"),
        pytest.param("2026-10-25T00:45:00", "02:30", "2026-10-25T01:30:00", id="the second 2:30"),
    ],
)
def test_a_time_of_day_is_the_next_that_clocks_here_show(
    berlin: None, now: str, text: str, expected: str
):
    assert next_time_of_day(text, epoch(now)) == epoch(expected)


@pytest.mark.parametrize("text", ["", "7", "24:00", "07:60", "7am", "07:00:00", "-1:00", "٠٧:٠٠"])
def test_anything_else_is_no_time_of_day(text: str):
    with pytest.raises(ValueError, match="07:00"):
        next_time_of_day(text, 0.0)
