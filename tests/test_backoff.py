"""Waiting grows with every failure, stays below its cap, and is spread out."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.policy.backoff import BASE_S, CAP_S, full_jitter


class Highest(Random):
    """Draws the upper end every time, so that the ceiling shows."""

    def uniform(self, a: float, b: float) -> float:
        return b


@given(
    attempt=st.integers(-5, 10_000),
    seed=st.integers(),
    base_s=st.floats(0.01, 100),
    cap_s=st.floats(0.01, 1000),
)
def test_a_wait_lies_between_nothing_and_the_cap(
    attempt: int, seed: int, base_s: float, cap_s: float
):
    assert 0 <= full_jitter(attempt, Random(seed), base_s, cap_s) <= cap_s


@pytest.mark.parametrize(
    ("attempt", "ceiling_s"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (8, 60), (5000, 60)]
)
def test_the_ceiling_doubles_until_the_cap(attempt: int, ceiling_s: float):
    assert full_jitter(attempt, Highest()) == ceiling_s


def test_the_first_wait_is_the_shortest_whatever_number_it_is_given():
    assert full_jitter(0, Highest()) == full_jitter(-3, Highest()) == BASE_S


def test_clamping_comes_before_jitter_so_that_late_attempts_stay_spread():
    waits = [full_jitter(40, Random(seed)) for seed in range(500)]
    assert sum(wait > CAP_S * 0.99 for wait in waits) < 25
    assert abs(sum(waits) / len(waits) - CAP_S / 2) < CAP_S / 10


def test_the_same_seed_gives_the_same_wait():
    assert full_jitter(3, Random(5)) == full_jitter(3, Random(5))
