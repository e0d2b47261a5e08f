"""A run's own clock never jumps, and the server's time is known between two bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.clock import WIDEST_S, Clock, ServerTime

NOW = 1_790_000_000.0


class SetClock(Clock):
    """A wall clock that anybody may set, beside one that nobody can."""

    def __init__(self) -> None:
        super().__init__()
        self.wall_s, self.steady_s = NOW, 50.0

    def wall(self) -> float:
        return self.wall_s

    def steady(self) -> float:
        return self.steady_s


@pytest.mark.parametrize("jump_s", [-86400.0, -290.0, -0.5, 0.5, 290.0, 86400.0])
def test_a_clock_that_is_set_within_a_run_moves_nothing(jump_s: float):
    clock = SetClock()
    assert clock.now() == NOW
    clock.wall_s += jump_s
    clock.steady_s += 7.0
    assert clock.now() == NOW + 7.0


def test_time_that_a_computer_sleeps_through_counts():
    clock = SetClock()
    clock.now()
    clock.steady_s += 8 * 3600.0
    assert clock.now() == NOW + 8 * 3600.0


def test_the_systems_own_clocks_tell_the_time():
    clock = Clock()
    assert abs(clock.now() - clock.wall()) < 1.0
    assert clock.steady() <= clock.steady()


def test_before_any_answer_nothing_is_known_of_the_server():
    server = ServerTime()
    server.hear(None, NOW, 0.1)
    assert not server.is_known
    assert (server.earliest(NOW), server.latest(NOW), server.ours(NOW)) == (None, None, None)


@given(
    ahead_s=st.floats(-1e6, 1e6),
    answers=st.lists(st.tuples(st.floats(0.0, 9.0), st.floats(0.0, 9.0)), min_size=1, max_size=9),
)
def test_the_servers_time_lies_between_its_bounds(
    ahead_s: float, answers: list[tuple[float, float]]
):
    server, at = ServerTime(), NOW
    for up_s, down_s in answers:
        at += up_s + down_s
        server.hear(float(int(at - down_s + ahead_s)), at, up_s + down_s)
    earliest, latest = server.earliest(at), server.latest(at)
    assert earliest is not None
    assert latest is not None
    assert earliest - 1e-3 <= at + ahead_s <= latest + 1e-3
    assert latest - earliest <= WIDEST_S


def test_many_answers_narrow_it_down():
    server = ServerTime()
    server.hear(NOW, NOW + 5.0, 9.0)
    server.hear(NOW + 10.0, NOW + 10.2, 0.4)
    server.hear(NOW + 20.0, NOW + 20.9, 0.2)
    earliest, latest = server.earliest(0.0), server.latest(0.0)
    assert (earliest, latest) == (pytest.approx(-0.2), pytest.approx(0.3))


def test_where_answers_contradict_each_other_the_newer_one_tells():
    server = ServerTime()
    server.hear(NOW, NOW, 0.0)
    server.hear(NOW + 3610.0, NOW + 10.0, 0.0)
    assert server.earliest(NOW + 10.0) == NOW + 3610.0
    assert server.ours(NOW + 3610.0) == NOW + 10.0


def test_an_answer_from_before_a_sleep_does_not_tell_the_time():
    server = ServerTime()
    server.hear(NOW, NOW + 8 * 3600.0, 8 * 3600.0)
    assert not server.is_known
