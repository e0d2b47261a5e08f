"""Whether another job may be sent: room in flight, the run's limit, its budget, the balance."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from runner.gate import OPEN_STATES, Gate
from runner.job import TRANSITIONS, State, StepResult
from runner.ledger import Record
from runner.policy.admission import Admission
from runner.policy.breaker import Breaker
from runner.policy.budget import Budget

NOW = 1_790_000_000.0


def gate(
    concurrency: int = 4, limit: int | None = None, budget: float | None = None, breaker: int = 3
) -> Gate:
    return Gate(
        Admission(concurrency, None, 3600.0, NOW),
        Budget(budget, {"imagen": 0.04}),
        Breaker(breaker),
        limit,
    )


def record(key: int = 1, state: State = State.PENDING, model: str = "imagen") -> Record:
    return Record(key, f"j{key}", "m", model, {}, "{id}.{ext}", state)


def move(at: Gate, key: int, *path: State, **result: Any) -> None:
    """Leads a job along these states; the result belongs to the last step."""
    for number, (before, after) in enumerate(pairwise(path), 2):
        told = StepResult(after, **(result if number == len(path) else {}))
        at.moved(record(key), before, told, NOW)


P, S, F = State.PENDING, State.SUBMITTING, State.SUBMITTED


def test_there_is_room_up_to_the_concurrency_and_again_when_a_job_is_over() -> None:
    at = gate(concurrency=2)
    move(at, 1, P, S, F)
    assert at.has_room(NOW)
    move(at, 2, P, S)
    assert not at.has_room(NOW)
    move(at, 1, F, State.COMPLETED, cost=0.04)
    assert at.has_room(NOW)
    assert at.in_flight == 1


@pytest.mark.parametrize("end", sorted(TRANSITIONS[S] - {F}))
def test_a_submit_that_leads_to_nothing_leaves_its_room(end: State) -> None:
    at = gate(concurrency=1)
    move(at, 1, P, S, end)
    assert (at.in_flight, at.submitting) == (0, 0)
    assert at.has_room(NOW)


def test_the_limit_counts_what_may_have_been_accepted() -> None:
    at = gate(limit=2)
    move(at, 1, P, S, F)
    move(at, 2, P, S, State.IN_DOUBT)
    assert at.limit_reached is not None
    assert "limit of 2" in at.limit_reached
    assert not at.has_room(NOW)


@pytest.mark.parametrize("end", [P, State.INVALID, State.FAILED])
def test_the_limit_does_not_count_what_was_refused(end: State) -> None:
    at = gate(limit=1)
    move(at, 1, P, S, end)
    assert at.limit_reached is None
    assert at.has_room(NOW)


def test_what_is_being_sent_keeps_the_limit_without_reaching_it() -> None:
    at = gate(limit=1)
    move(at, 1, P, S)
    assert not at.has_room(NOW)
    assert at.limit_reached is None


def test_what_an_earlier_run_sent_takes_room_and_money_but_not_the_limit() -> None:
    at = gate(concurrency=2, limit=1, budget=0.08)
    at.inherit(record(1, F))
    at.inherit(record(2, State.IN_DOUBT))
    assert at.in_flight == 1
    assert at.limit_reached is None
    assert not at.can_pay(record(3))


def test_an_empty_balance_leaves_no_room() -> None:
    at = gate()
    at.balance_is_empty = True
    assert not at.has_room(NOW)


@pytest.mark.parametrize("state", sorted(OPEN_STATES))
def test_money_is_reserved_while_the_outcome_is_open(state: State) -> None:
    at = gate(budget=0.04)
    path = {
        State.SUBMITTING: (P, S),
        State.SUBMITTED: (P, S, F),
        State.IN_DOUBT: (P, S, State.IN_DOUBT),
        State.EXPIRED: (P, S, F, State.EXPIRED),
    }[state]
    move(at, 1, *path)
    assert not at.can_pay(record(2))
    assert "$0.04 may be due" in at.budget_reached


@pytest.mark.parametrize(
    "path",
    [
        (P, S, P),
        (P, S, State.INVALID),
        (P, S, F, State.FAILED),
        (P, S, F, State.BLOCKED),
        (P, S, State.IN_DOUBT, P),
        (P, S, State.IN_DOUBT, F, State.FAILED),
        (P, S, F, State.EXPIRED, State.FAILED),
    ],
)
def test_what_was_not_charged_is_given_back(path: tuple[State, ...]) -> None:
    at = gate(budget=0.04)
    move(at, 1, *path)
    assert at.can_pay(record(2))


def test_what_was_charged_is_spent() -> None:
    at = gate(budget=0.08)
    move(at, 1, P, S, F, State.COMPLETED, cost=0.04)
    assert at.can_pay(record(2))
    move(at, 2, P, S, State.IN_DOUBT, F, State.COMPLETED, cost=0.04)
    assert not at.can_pay(record(3))
    assert "$0.08 spent" in at.budget_reached
    assert "may be due" not in at.budget_reached


@pytest.mark.parametrize("before", [State.IN_DOUBT, State.EXPIRED])
def test_what_may_have_been_paid_is_spent_when_its_job_is_sent_again(before: State) -> None:
    at = gate(budget=0.04)
    move(at, 1, P, S, *([before] if before is State.IN_DOUBT else [F, before]))
    at.moved(record(1), before, StepResult(P, paid_perhaps=True), 0.0)
    assert not at.can_pay(record(1))


def test_a_price_that_is_not_told_is_spent_all_the_same() -> None:
    at = gate(budget=0.04)
    move(at, 1, P, S, F, State.COMPLETED)
    assert not at.can_pay(record(2))


def test_files_that_are_gone_are_not_paid_for_twice() -> None:
    at = gate(budget=0.08)
    move(at, 1, P, S, F, State.COMPLETED, cost=0.04)
    move(at, 1, State.COMPLETED, State.EXPIRED)
    assert at.can_pay(record(2))


def test_equal_failures_in_a_row_stop_the_model_with_words() -> None:
    at = gate(breaker=3)
    failed = StepResult(State.FAILED, reason="CUDA out of memory")
    said = [at.tripped(record(key), failed) for key in range(3)]
    assert said[:2] == [None, None]
    assert said[2] == "3 jobs in a row ended with: CUDA out of memory"


def test_refused_parameters_are_failures_too() -> None:
    at = gate(breaker=1)
    assert at.tripped(record(), StepResult(State.INVALID, reason="no such style"))


@pytest.mark.parametrize(
    "state", [P, F, State.BLOCKED, State.IN_DOUBT, State.EXPIRED, State.SAVED, None]
)
def test_other_ends_neither_stop_a_model_nor_begin_a_new_row(state: State | None) -> None:
    at = gate(breaker=2)
    failed = StepResult(State.FAILED, reason="no")
    assert at.tripped(record(), failed) is None
    for _ in range(20):
        assert at.tripped(record(), StepResult(state, reason="blocked")) is None
    assert at.tripped(record(), failed) is not None


def test_a_completed_job_begins_a_new_row() -> None:
    at = gate(breaker=2)
    for _ in range(5):
        assert at.tripped(record(), StepResult(State.FAILED, reason="no")) is None
        assert at.tripped(record(), StepResult(State.COMPLETED)) is None
