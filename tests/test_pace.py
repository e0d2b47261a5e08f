"""The pace keeps inside the account's rate, wastes little of it, and obeys a 429 in every spelling."""

from __future__ import annotations

import itertools
import json
from bisect import bisect_left
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from benchmarks.accounts import Account, Client
from benchmarks.world import WindowKind
from runner.job import Answer
from runner.policy.pace import (
    BURST_SHARE,
    FIRST_BURST,
    FRESH_S,
    LONGEST_HOLD_S,
    SHORTEST_HOLD_S,
    SLACK_S,
    WINDOW_S,
    Pace,
    hold_until,
)

NOW = datetime(2026, 10, 15, 12, 0, 0, tzinfo=UTC)
NOW_S = NOW.timestamp()
IN_20_S = NOW + timedelta(seconds=20)


@pytest.fixture(autouse=True)
def quick_polls() -> None:
    """The real constants hold here, unlike in the end-to-end tests."""


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
def test_a_request_waits_only_for_a_full_window_or_its_place_in_the_flow(
    gaps: list[float], rpm: int
):
    arrivals = [sum(gaps[: i + 1]) for i in range(len(gaps))]
    times = departures(Pace(rpm), arrivals)
    for place, (arrival, time) in enumerate(zip(arrivals, times, strict=True)):
        if time > max(arrival, times[place - 1] if place else arrival) + 1e-6:
            windows = [times[place - rpm] + WINDOW_S + SLACK_S] if place >= rpm else []
            flow = times[place - 1] + WINDOW_S / rpm if place else 0.0
            assert place >= burst(rpm)
            assert any(time == pytest.approx(window) for window in windows) or time <= flow + 1e-6


def burst(rpm: int) -> int:
    return max(1, int(BURST_SHARE * rpm))


@pytest.mark.parametrize("rpm", [1, 5, 60, 500])
def test_a_backlog_fills_nearly_every_window(rpm: int):
    times = departures(Pace(rpm), [0.0] * (rpm * 20))
    assert len(times) / (times[-1] + WINDOW_S) * 60 >= 0.95 * rpm
    assert times[burst(rpm) - 1] == 0.0
    for place in range(rpm, len(times)):
        assert times[place] - times[place - rpm] <= WINDOW_S + SLACK_S + 1e-6


def test_after_a_burst_requests_flow_evenly():
    times = departures(Pace(100), [0.0] * 100)
    gaps_s = [b - a for a, b in itertools.pairwise(times[burst(100) - 1 :])]
    assert gaps_s == pytest.approx([WINDOW_S / 100] * len(gaps_s))


def test_without_a_known_rate_the_flow_grows_as_long_as_nobody_refuses():
    times = departures(Pace(), [0.0] * 2000)
    assert times[FIRST_BURST - 1] == 0.0
    assert times[FIRST_BURST] > 0.0
    assert times[-1] < WINDOW_S
    late = bisect_left(times, times[-1] - 1)
    early = bisect_left(times, 2.0) - bisect_left(times, 1.0)
    assert len(times) - late > 20 * early


def test_without_a_known_rate_and_without_demand_nothing_waits_and_nothing_grows():
    arrivals = [2.0 * n for n in range(500)]
    pace = Pace()
    assert departures(pace, arrivals) == arrivals
    assert sum(pace.wait_s(1000.0) > 0 or pace.take(1000.0) is not None for _ in range(100)) > 70


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


KINDS: list[WindowKind] = ["fixed", "sliding"]
NIGHT_S = 2400.0


def alone(account: Account, pace: Pace, seconds: float = NIGHT_S) -> Client:
    client = Client(pace)
    account.run(seconds, [client])
    assert client.left_while_held == 0
    return client


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("phase_s", [0.0, 45.0])
@pytest.mark.parametrize("rpm", [5, 60, 300])
def test_a_given_rate_is_filled_and_never_refused(kind: WindowKind, phase_s: float, rpm: int):
    client = alone(Account(kind, rpm, phase_s), Pace(rpm))
    assert client.refused == []
    assert len(client.passed) >= 0.97 * rpm * NIGHT_S / 60


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("rpm", "phase_s"), [(60, 0.0), (120, 20.0), (300, 45.0), (600, 20.0)])
def test_a_rate_that_nobody_told_is_learned_from_refusals(
    kind: WindowKind, phase_s: float, rpm: int
):
    account, pace = Account(kind, rpm, phase_s), Pace()
    client = Client(pace)
    account.run(NIGHT_S, [client])
    assert pace.rpm == pytest.approx(rpm, rel=0.05)
    assert client.refused_share < 0.02
    assert len(client.passed) >= 0.95 * rpm * NIGHT_S / 60


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rpm", [60, 120, 300, 600])
def test_even_a_thousand_jobs_are_hardly_slowed_by_learning(kind: WindowKind, rpm: int):
    seconds = 2000 / rpm * 60
    client = alone(Account(kind, rpm, 20.0), Pace(), seconds)
    assert client.refused_share < 0.04
    assert len(client.passed) >= 0.85 * 2000


@pytest.mark.parametrize("kind", KINDS)
def test_a_tiny_rate_is_learned_without_many_refusals(kind: WindowKind):
    client = alone(Account(kind, 5), Pace(), 4 * NIGHT_S)
    assert client.refused_share < 0.05
    assert len(client.passed) >= 0.93 * 5 * 4 * NIGHT_S / 60


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("before", "after"), [(300, 150), (60, 120)])
def test_a_rate_that_changes_is_noticed(kind: WindowKind, before: int, after: int):
    account, pace = Account(kind, before, change=(NIGHT_S / 2, after)), Pace()
    client = Client(pace)
    account.run(NIGHT_S, [client])
    late = sum(time > 0.75 * NIGHT_S for time in client.passed)
    assert late >= 0.9 * after * NIGHT_S / 60 / 4
    assert pace.rpm == pytest.approx(after, rel=0.1)
    assert client.refused_share < 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_requests_that_are_free_are_not_held_for_counted_ones(kind: WindowKind):
    client = alone(Account(kind, 60, free_share=0.5), Pace())
    assert len(client.passed) >= 1.5 * 60 * NIGHT_S / 60
    assert client.refused_share < 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_a_slow_network_costs_a_given_rate_hardly_a_refusal(kind: WindowKind):
    client = alone(Account(kind, 300, travel_s=(0.05, 2.5)), Pace(300))
    assert client.refused_share < 0.01
    assert len(client.passed) >= 0.93 * 300 * NIGHT_S / 60


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given_rpm", [None, 60])
def test_two_clients_of_one_account_both_get_on_and_waste_little(
    kind: WindowKind, given_rpm: int | None
):
    clients = [Client(Pace(given_rpm)), Client(Pace(given_rpm))]
    Account(kind, 60, 20.0, seed=3).run(2 * NIGHT_S, clients)
    shares = [len(client.passed) / (60 * 2 * NIGHT_S / 60) for client in clients]
    assert sum(shares) >= 0.9
    assert min(shares) >= 0.2
    assert max(client.refused_share for client in clients) < 0.05


def test_refusals_of_requests_that_left_together_are_one_event():
    together, apart = Pace(), Pace()
    for pace in (together, apart):
        for n in range(10):
            pace.take(n / 10)
    for n in range(4):
        together.refused(1.2 + n / 100, 60.0, left=0.6 + n / 10)
    assert together.rpm == 6
    apart.refused(1.2, 60.0, left=0.6)
    apart.refused(70.0, 120.0, left=69.0)
    assert apart.rpm != 6


def test_a_reset_that_is_not_told_leaves_what_passed_in_the_last_minute():
    pace = Pace()
    for n in range(30):
        pace.take(float(n))
    pace.refused(30.0, 30.0 + 3 * WINDOW_S, left=29.5)
    assert pace.rpm == 29


def test_a_given_rate_is_never_exceeded_whatever_was_refused():
    pace = Pace(10)
    for n in range(10):
        pace.take(6.0 * n)
    pace.refused(55.0, 60.0, left=54.0)
    assert pace.rpm is not None
    assert pace.rpm < 10
    departures(pace, [60.0] * 200)
    assert pace.rpm == 10


def test_what_was_learned_is_remembered_and_used_at_once():
    learned = Pace()
    for n in range(31):
        learned.take(float(n))
    learned.refused(31.0, 61.0, left=30.0)
    kept = json.loads(json.dumps(learned.remembered(NOW_S)))
    assert Pace(remembered=kept, at=NOW_S + 3600).rpm == learned.rpm
    assert Pace(remembered=kept, at=NOW_S + 2 * FRESH_S).rpm is None
    assert Pace(7, kept, NOW_S).rpm == 7


def test_nothing_is_remembered_of_what_was_given_or_never_refused():
    assert Pace(60).remembered(NOW_S) == {}
    assert Pace().remembered(NOW_S) == {}
    assert Pace(remembered={}, at=NOW_S).rpm is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pace", ["given", "remembered"])
def test_what_an_earlier_run_used_of_a_window_is_not_taken_for_a_smaller_rate(
    kind: WindowKind, pace: str
):
    before = Client(Pace(60), ends=45.0)
    after = Client(Pace(60) if pace == "given" else Pace(None, {"rpm": 60.0, "at": NOW_S}, NOW_S))
    after.begins = 50.0
    account = Account(kind, 60, 0.0)
    # The first one is killed, and the next one begins in the same minute.
    account.run(600.0, [before, after])
    since = [at for at in after.passed if at > 180.0]
    assert len(since) >= 0.95 * 60 * (600.0 - 180.0) / 60


def test_a_refusal_while_little_is_sent_halves_the_rate_at_most():
    pace = Pace(100)
    for n in range(100):
        pace.take(100.0 * n)
    pace.refused(9901.0, 9960.0, left=9900.5)
    assert pace.rpm is not None
    assert pace.rpm >= 50
