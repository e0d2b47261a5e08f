"""The same final error again and again stops its model, and no other."""

from __future__ import annotations

import pytest

from runner.policy.breaker import Breaker


def trips_at(breaker: Breaker, reasons: list[str], model: str = "imagen") -> int | None:
    """After how many failures the model should be stopped."""
    for number, reason in enumerate(reasons, 1):
        if breaker.failed(model, reason):
            return number
    return None


def test_the_tenth_equal_error_in_a_row_trips() -> None:
    assert trips_at(Breaker(10), ["CUDA out of memory"] * 20) == 10


def test_it_goes_on_saying_so() -> None:
    breaker = Breaker(2)
    assert [breaker.failed("imagen", "no") for _ in range(4)] == [False, True, True, True]


def test_other_errors_begin_a_new_row() -> None:
    assert trips_at(Breaker(3), ["a", "a", "b", "a", "a", "b"] * 5) is None


def test_a_completed_job_begins_a_new_row() -> None:
    breaker = Breaker(3)
    for _ in range(10):
        assert trips_at(breaker, ["no", "no"]) is None
        breaker.succeeded("imagen")


def test_models_are_counted_apart() -> None:
    breaker = Breaker(2)
    assert not breaker.failed("imagen", "no")
    assert not breaker.failed("other", "no")
    breaker.succeeded("other")
    assert breaker.failed("imagen", "no")


def test_zero_never_trips() -> None:
    assert trips_at(Breaker(0), ["no"] * 1000) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Request 7 failed", "Request 12 failed"),
        (
            "no 1f0e9c1e-7a55-4d7b-8f6e-0123456789ab",
            "no 9b2f9c1e-7a55-4d7b-8f6e-ba9876543210",
        ),
        ("object deadbeefdeadbeef is gone", "object 0123456789abcdef is gone"),
        ("value 'red' refused", "value 'blue' refused"),
        ('value "red" refused', 'value "blue" refused'),
        ("Out of memory", "out of MEMORY"),
    ],
)
def test_what_differs_between_jobs_does_not_make_another_error(one: str, other: str) -> None:
    assert trips_at(Breaker(2), [one, other]) == 2


def test_an_error_of_another_kind_is_another_error() -> None:
    assert trips_at(Breaker(2), ["out of memory", "out of time"]) is None
