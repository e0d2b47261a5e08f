"""Forecasts: arithmetic over samples that never promises more than is known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.policy.forecast import Bounds, Known, Load, forecast, quantile

SAMPLE = Known(20, 0, [0.04] * 20, [3.0] * 20, [3.0] * 20, [0.1] * 20, [1000.0] * 20)
KNOWN = {"imagen": SAMPLE}


def loads(jobs: int) -> list[Load]:
    return [Load("imagen", jobs)]


@given(st.integers(0, 5000), st.integers(1, 500), st.integers(1, 200), st.integers(1, 2000))
def test_more_jobs_never_cost_or_take_less(jobs: int, more: int, concurrency: int, rpm: int):
    bounds = Bounds(concurrency, rpm)
    fewer, many = (forecast(loads(n), KNOWN, bounds) for n in (jobs, jobs + more))
    assert (many.cost or 0) > (fewer.cost or 0)
    assert many.requests > fewer.requests
    assert (many.seconds or 0) >= (fewer.seconds or 0) - 61


@given(st.integers(1, 500), st.floats(0, 100), st.integers(0, 500))
def test_a_budget_and_a_limit_are_kept_and_the_rest_is_counted(
    jobs: int, budget: float, limit: int
):
    found = forecast(loads(jobs), KNOWN, Bounds(8, budget=budget, limit=limit))
    assert found.submits + found.left == jobs
    assert found.submits <= limit
    assert (found.cost or 0) <= budget + 1e-6


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_a_quantile_is_one_of_the_values(values: list[float], share: float):
    assert quantile(values, share) in values


def test_it_is_a_guess_until_enough_jobs_have_finished():
    assert forecast(loads(5), KNOWN, Bounds(8)).guesses == ()
    unknown = forecast(loads(5), {}, Bounds(8))
    assert unknown.guesses == ("no job of imagen finished in this ledger yet",)
    assert (unknown.cost, unknown.seconds, unknown.size_bytes) == (None, None, None)
    stated = forecast(loads(5), {"imagen": Known(stated_price=0.1)}, Bounds(8))
    assert stated.cost == pytest.approx(0.5)
    assert "the config's" in stated.guesses[0]
