"""There is money for another job only where all that is open could be paid as well."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.policy.budget import Budget

PRICES = {"imagen": 0.04}


def test_without_a_limit_everything_is_allowed_and_the_price_is_learned() -> None:
    budget = Budget(None, {})
    for key in range(1000):
        assert budget.allows("imagen")
        budget.reserve(key, "imagen")
        budget.settle(key, "imagen", 0.04)
    assert budget.price("imagen") == pytest.approx(0.04)
    assert budget.spent == pytest.approx(40.0)


def test_forty_cents_are_ten_jobs_of_four_cents() -> None:
    budget = Budget(0.40, PRICES)
    sent = 0
    while budget.allows("imagen"):
        budget.reserve(sent, "imagen")
        sent += 1
    assert sent == 10


def test_what_is_open_is_reserved_until_it_is_settled() -> None:
    budget = Budget(0.04, PRICES)
    budget.reserve(1, "imagen")
    assert budget.reserved == pytest.approx(0.04)
    assert not budget.allows("imagen")
    budget.settle(1, "imagen", None)
    assert budget.reserved == 0
    assert budget.allows("imagen")


def test_a_job_is_reserved_once_however_often_it_is_said() -> None:
    budget = Budget(1.0, PRICES)
    for _ in range(3):
        budget.reserve(1, "imagen")
    assert budget.reserved == pytest.approx(0.04)


def test_a_model_of_unknown_price_goes_one_job_at_a_time() -> None:
    budget = Budget(1.0, PRICES)
    assert budget.allows("novel")
    budget.reserve(1, "novel")
    assert not budget.allows("novel")
    assert budget.allows("imagen")
    budget.settle(1, "novel", 0.30)
    assert budget.price("novel") == 0.30
    for key in (2, 3):
        assert budget.allows("novel")
        budget.reserve(key, "novel")
    assert not budget.allows("novel")


def test_a_model_of_unknown_price_is_not_begun_when_the_limit_is_reached() -> None:
    budget = Budget(0.04, PRICES)
    budget.reserve(1, "imagen")
    assert not budget.allows("novel")


def test_a_limit_of_nothing_allows_nothing() -> None:
    budget = Budget(0.0, PRICES)
    assert not budget.allows("imagen")
    assert not budget.allows("novel")


def test_a_model_that_costs_nothing_is_never_stopped() -> None:
    budget = Budget(0.0, {"free": 0.0})
    assert budget.allows("free")


def test_the_price_follows_what_jobs_cost() -> None:
    budget = Budget(None, PRICES)
    for key in range(60):
        budget.settle(key, "imagen", 0.08)
    assert budget.price("imagen") == pytest.approx(0.08, rel=0.01)


def test_a_job_that_costs_nothing_teaches_nothing() -> None:
    budget = Budget(1.0, PRICES)
    budget.settle(1, "imagen", None)
    assert budget.price("imagen") == 0.04
    assert budget.spent == 0


@given(
    st.floats(0, 2),
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["paid", "failed", "doubt"]))),
)
def test_where_prices_hold_nothing_is_spent_beyond_the_limit(
    limit: float, jobs: list[tuple[str, str]]
) -> None:
    prices = {"a": 0.04, "b": 0.25}
    budget = Budget(limit, prices)
    doubtful = 0.0
    for key, (model, fate) in enumerate(jobs):
        if not budget.allows(model):
            continue
        budget.reserve(key, model)
        if fate == "doubt":
            doubtful += prices[model]
        else:
            budget.settle(key, model, prices[model] if fate == "paid" else None)
        assert budget.spent + doubtful <= limit + 1e-5
        assert budget.reserved == pytest.approx(doubtful)


def test_a_dearer_job_counts_at_once_for_all_that_are_open() -> None:
    budget = Budget(0.40, PRICES)
    for key in range(5):
        budget.reserve(key, "imagen")
    assert budget.allows("imagen")

    budget.settle(0, "imagen", 0.08)

    assert budget.price("imagen") == 0.08
    assert not budget.allows("imagen")
