"""The pace keeps inside the account's rate, wastes little of it, and obeys a 429 in every spelling."""

from __future__ import annotations

from bisect import bisect_left
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runner.job import Answer
from runner.policy.pace import LONGEST_HOLD_S, SHORTEST_HOLD_S, SLACK_S, WINDOW_S, Pace, hold_until

NOW = datetime(2026, 10, 15, 12, 0, 0, tzinfo=UTC)
NOW_S = NOW.timestamp()
IN_20_S = NOW + timedelta(seconds=20)


def departures(pace: Pace, arrivals: list[float]) -> list[float]:
    """When requests that arrive at these times leave, each as early as the pace allows."""
    times: list[float] = []
    now = 0.0
    for arrival in arrivals:
        now = max(now, arrival)
        while (wait_s := pace.wait_s(now)) > 0:
            now += wait_s
        pace.take(now)
        times.append(now)
    return times


def most_in_a_window(times: list[float]) -> int:
    # The window's far end is left out: a request a whole window later belongs to the next.
    return max((bisect_left(times, t + WINDOW_S) - i for i, t in enumerate(times)), default=0)


gaps = st.lists(st.floats(0, 90) | st.just(0.0), min_size=1, max_size=120)


@given(gaps=gaps, rpm=st.integers(1, 40))
def test_no_minute_holds_more_requests_than_the_rate_allows(gaps: list[float], rpm: int):
    arrivals = [sum(gaps[: i + 1]) for i in range(len(gaps))]
    times = departures(Pace(rpm), arrivals)
    assert most_in_a_window(times) <= rpm


@given(gaps=gaps, rpm=st.integers(1, 40))
def test_a_request_waits_only_for_a_full_window(gaps: list[float], rpm: int):
    arrivals = [sum(gaps[: i + 1]) for i in range(len(gaps))]
    times = departures(Pace(rpm), arrivals)
    for place, (arrival, time) in enumerate(zip(arrivals, times, strict=True)):
        held_up = time > max(arrival, times[place - 1] if place else arrival)
        if held_up:
            assert place >= rpm
            assert time == pytest.approx(times[place - rpm] + WINDOW_S + SLACK_S)


@pytest.mark.parametrize("rpm", [1, 5, 60, 500])
def test_a_backlog_fills_nearly_every_window(rpm: int):
    times = departures(Pace(rpm), [0.0] * (rpm * 20))
    assert times[-1] == pytest.approx(19 * (WINDOW_S + SLACK_S))
    assert len(times) / (times[-1] + WINDOW_S) * 60 >= 0.98 * rpm


@given(gaps=gaps)
def test_without_a_known_rate_nothing_waits(gaps: list[float]):
    arrivals = [sum(gaps[: i + 1]) for i in range(len(gaps))]
    assert departures(Pace(), arrivals) == arrivals


@pytest.mark.parametrize("rpm", [None, 10])
def test_nothing_leaves_while_the_pace_is_held(rpm: int | None):
    pace = Pace(rpm)
    assert pace.hold(100.0)
    assert pace.wait_s(40.0) == 60.0
    assert pace.wait_s(100.0) == 0.0


def test_a_hold_is_never_shortened():
    pace = Pace()
    pace.hold(100.0)
    assert not pace.hold(50.0)
    assert not pace.hold(100.0)
    assert pace.wait_s(0.0) == 100.0


def test_the_longer_of_hold_and_window_counts():
    pace = Pace(1)
    pace.take(0.0)
    pace.hold(10.0)
    assert pace.wait_s(0.0) == WINDOW_S + SLACK_S
    pace.hold(300.0)
    assert pace.wait_s(0.0) == 300.0


def limited(
    reset: str | None = None, retry_after: str | None = None, server: datetime | None = None
) -> Answer:
    time = server.timestamp() if server else None
    return Answer(429, reset=reset, retry_after=retry_after, server_time=time)


SPELLINGS = {
    "epoch seconds": f"{IN_20_S.timestamp():.0f}",
    "epoch seconds with a fraction": f"{IN_20_S.timestamp():.3f}",
    "epoch milliseconds": f"{IN_20_S.timestamp() * 1000:.0f}",
    "ISO 8601 with Z": "2026-10-15T12:00:20Z",
    "ISO 8601 with an offset": "2026-10-15T14:00:20+02:00",
    "ISO 8601 without a zone is UTC": "2026-10-15T12:00:20",
    "ISO 8601 with microseconds": "2026-10-15T12:00:20.000000+00:00",
    "ISO 8601 with a blank": "2026-10-15 12:00:20",
    "ISO 8601 with a blank and an offset": "2026-10-15 12:00:20+00:00",
    "ISO 8601 in its basic form": "20261015T120020Z",
    "an HTTP date": format_datetime(IN_20_S, usegmt=True),
    "a mail date": "Thu, 15 Oct 2026 14:00:20 +0200",
    "seconds from now": "20",
    "blanks around it": "  2026-10-15T12:00:20Z ",
}


@pytest.mark.parametrize("text", SPELLINGS.values(), ids=SPELLINGS)
def test_a_reset_is_understood_as(text: str):
    assert hold_until(limited(reset=text), NOW_S) == pytest.approx(NOW_S + 20, abs=0.01)


@pytest.mark.parametrize("text", SPELLINGS.values(), ids=SPELLINGS)
def test_a_retry_after_is_understood_as(text: str):
    assert hold_until(limited(retry_after=text), NOW_S) == pytest.approx(NOW_S + 20, abs=0.01)


@pytest.mark.parametrize("offset_s", [-7200, -30, 30, 7200])
@pytest.mark.parametrize("spelling", [s for s in SPELLINGS if s != "seconds from now"])
def test_a_server_whose_clock_is_off_is_held_as_long_as_it_means(spelling: str, offset_s: int):
    ours = NOW + timedelta(seconds=offset_s)
    until = hold_until(limited(reset=SPELLINGS[spelling], server=NOW), ours.timestamp())
    assert until == pytest.approx(ours.timestamp() + 20, abs=0.01)


def test_seconds_from_now_need_no_clock():
    late = NOW + timedelta(hours=3)
    assert hold_until(limited(retry_after="20", server=late), NOW_S) == NOW_S + 20


def test_the_later_of_reset_and_retry_after_counts():
    assert hold_until(limited(reset="20", retry_after="45"), NOW_S) == NOW_S + 45
    assert hold_until(limited(reset="50", retry_after="45"), NOW_S) == NOW_S + 50


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "soon",
        "NaN",
        "inf",
        "-inf",
        "-5",
        "1e400",
        "9" * 400,
        "0x20",
        "{}",
        "12:00",
        "Mon, 01 Jan 99999999999 00:00:00 GMT",
        "Mon, 01 Jan 2024 00:00:00 +999999999999",
        "2026-10-15T12:00:20 bananas",
        "\x00",
    ],
)
def test_what_cannot_be_read_waits_a_whole_window_out(text: str | None):
    assert hold_until(limited(reset=text), NOW_S) == NOW_S + WINDOW_S


def test_what_can_be_read_counts_beside_what_cannot():
    assert hold_until(limited(reset="soon", retry_after="20"), NOW_S) == NOW_S + 20


@pytest.mark.parametrize("text", ["0", "1", "2026-10-15T11:00:00Z", f"{NOW_S - 5:.0f}"])
def test_a_reset_in_the_past_still_pauses_for_a_moment(text: str):
    assert hold_until(limited(reset=text), NOW_S) == NOW_S + SHORTEST_HOLD_S


@pytest.mark.parametrize(
    "text", ["86400", "2999-01-01", f"{NOW_S * 1000 + 1e9:.0f}", "99999999999"]
)
def test_a_reset_in_the_far_future_is_a_misread_header(text: str):
    assert hold_until(limited(reset=text), NOW_S) == NOW_S + LONGEST_HOLD_S


@given(
    reset=st.none() | st.text(max_size=40) | st.floats().map(str) | st.datetimes().map(str),
    retry_after=st.none() | st.text(max_size=40) | st.integers().map(str),
    offset_s=st.none() | st.floats(-1e9, 1e9),
)
@example(reset="0001-01-01T00:00:00+14:00", retry_after="9999-12-31T23:59:59-14:00", offset_s=None)
def test_whatever_a_server_sends_the_hold_is_bounded(
    reset: str | None, retry_after: str | None, offset_s: float | None
):
    server_time = None if offset_s is None else NOW_S + offset_s
    answer = Answer(429, reset=reset, retry_after=retry_after, server_time=server_time)
    assert NOW_S + SHORTEST_HOLD_S <= hold_until(answer, NOW_S) <= NOW_S + LONGEST_HOLD_S
