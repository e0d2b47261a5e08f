"""Which GET is asked: what is learned of the result route, and when it is left."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.events import Call
from runner.policy.route import CONTRADICTIONS, TROUBLES, Choice, Route
from runner.policy.verdict import Meaning

NO_NEWS = [Meaning.RATE_LIMITED, Meaning.NEVER_LEFT, Meaning.KEY_REFUSED]
SANE = [Meaning.RUNNING, Meaning.COMPLETED, Meaning.FAILED, Meaning.BLOCKED]


def contradict(route: Route, key: int) -> None:
    route.answered(key, Call.RESULT, Meaning.NOT_FOUND)
    route.answered(key, Call.STATUS, Meaning.RUNNING)


@pytest.mark.parametrize(
    ("choice", "call"),
    [("auto", Call.STATUS), ("status", Call.STATUS), ("result", Call.RESULT)],
)
def test_how_the_first_job_is_asked(choice: Choice, call: Call):
    assert Route(choice).call(1) is call


def test_by_itself_it_asks_one_job_for_its_status_and_the_others_for_their_result():
    route = Route("auto")
    assert route.call(1) is Call.STATUS
    assert route.call(2) is Call.RESULT
    route.answered(1, Call.STATUS, Meaning.RUNNING)
    assert route.call(1) is Call.RESULT


@pytest.mark.parametrize("meaning", [*NO_NEWS, Meaning.UNREADABLE, Meaning.NOT_FOUND])
def test_a_status_that_says_nothing_is_asked_for_again(meaning: Meaning):
    route = Route("auto")
    route.call(1)
    route.answered(1, Call.STATUS, meaning)
    assert route.call(1) is Call.STATUS


def test_asked_for_the_status_it_never_tries_the_result_of_a_job_that_is_not_done():
    route = Route("status")
    route.answered(1, Call.STATUS, Meaning.RUNNING)
    assert route.call(1) is Call.STATUS
    route.answered(1, Call.STATUS, Meaning.COMPLETED)
    assert route.call(1) is Call.RESULT


def test_a_404_of_the_result_is_checked_by_status_for_this_job_alone():
    route = Route("result")
    route.answered(1, Call.RESULT, Meaning.NOT_FOUND)
    assert route.call(1) is Call.STATUS
    assert route.call(2) is Call.RESULT
    route.answered(1, Call.STATUS, Meaning.RUNNING)
    assert route.call(1) is Call.RESULT


def test_errors_that_may_pass_are_checked_when_they_come_again():
    route = Route("result")
    for _ in range(TROUBLES - 1):
        route.answered(1, Call.RESULT, Meaning.UNREADABLE)
        assert route.call(1) is Call.RESULT
    route.answered(1, Call.RESULT, Meaning.UNREADABLE)
    assert route.call(1) is Call.STATUS


@pytest.mark.parametrize("meaning", NO_NEWS)
def test_what_says_nothing_of_the_job_changes_nothing(meaning: Meaning):
    route = Route("result")
    for _ in range(10):
        route.answered(1, Call.RESULT, meaning)
    assert route.call(1) is Call.RESULT


def test_contradictions_in_a_row_make_it_leave_the_result_for_good():
    route = Route("auto")
    route.call(0)
    for key in range(CONTRADICTIONS):
        assert route.direct
        contradict(route, key)
    assert not route.direct
    route.answered(9, Call.STATUS, Meaning.RUNNING)
    assert route.call(9) is Call.STATUS


@pytest.mark.parametrize("meaning", SANE)
def test_a_sane_answer_in_between_forgives_them(meaning: Meaning):
    route = Route("auto")
    route.call(0)
    for key in range(5 * CONTRADICTIONS):
        contradict(route, key)
        route.answered(99, Call.RESULT, meaning)
    assert route.direct


def test_who_was_told_to_use_the_result_stays_with_it():
    route = Route("result")
    for key in range(5 * CONTRADICTIONS):
        contradict(route, key)
    assert route.call(99) is Call.RESULT


def test_a_result_that_is_late_after_its_status_is_asked_for_again_and_is_no_contradiction():
    route = Route("auto")
    for key in range(5 * CONTRADICTIONS):
        route.answered(key, Call.STATUS, Meaning.COMPLETED)
        route.answered(key, Call.RESULT, Meaning.NOT_FOUND)
        assert route.call(key) is Call.RESULT
    assert route.direct


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3), st.sampled_from([Call.STATUS, Call.RESULT]), st.sampled_from(Meaning)
        )
    ),
    st.sampled_from(["auto", "status", "result"]),
)
def test_a_job_that_is_forgotten_leaves_nothing_behind(
    answers: list[tuple[int, Call, Meaning]], choice: Choice
):
    route = Route(choice)
    route.call(9)
    for key, call, meaning in answers:
        route.answered(key, call, meaning)
    for key in range(4):
        route.forget(key)
        assert not route.is_finished(key)
        assert route.call(key) is (Call.RESULT if route.direct else Call.STATUS)
