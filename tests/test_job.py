"""The states of a job and the ways between them are complete and consistent."""

from __future__ import annotations

import pytest

from runner.job import (
    IN_FLIGHT_STATES,
    RETRYABLE_STATES,
    TERMINAL_STATES,
    TRANSITIONS,
    State,
)


def reachable(start: State, avoiding: frozenset[State] = frozenset()) -> set[State]:
    found, left = {start}, [start]
    while left:
        for after in TRANSITIONS[left.pop()] - found - avoiding:
            found.add(after)
            left.append(after)
    return found


def test_the_table_names_every_state():
    assert set(TRANSITIONS) == set(State)


def test_no_state_leads_to_itself():
    assert not [state for state, ways in TRANSITIONS.items() if state in ways]


def test_every_state_is_reached_from_pending():
    assert reachable(State.PENDING) == set(State)


def test_every_state_can_still_end_saved():
    assert all(State.SAVED in reachable(state) for state in State)


def test_states_are_the_words_that_scripts_read():
    assert {str(state) for state in State} == {
        "pending",
        "submitting",
        "submitted",
        "completed",
        "saved",
        "failed",
        "blocked",
        "invalid",
        "expired",
        "in_doubt",
    }


def test_only_pending_jobs_are_sent():
    assert [s for s, ways in TRANSITIONS.items() if State.SUBMITTING in ways] == [State.PENDING]


def test_a_request_id_comes_from_a_post_or_from_resolving_a_doubt():
    before = {state for state, ways in TRANSITIONS.items() if State.SUBMITTED in ways}
    assert before == {State.SUBMITTING, State.IN_DOUBT}


@pytest.mark.parametrize("state", [State.SUBMITTED, State.COMPLETED, State.SAVED])
def test_what_is_accepted_is_never_simply_sent_again(state: State):
    assert State.PENDING not in TRANSITIONS[state]
    assert State.SUBMITTING not in reachable(state, avoiding=RETRYABLE_STATES)


def test_doubt_never_turns_into_a_second_post_by_itself():
    assert State.SUBMITTING not in TRANSITIONS[State.IN_DOUBT]


def test_what_retry_takes_may_go_back_to_pending():
    assert all(State.PENDING in TRANSITIONS[state] for state in RETRYABLE_STATES)


def test_terminal_states_are_saved_and_what_retry_takes():
    assert RETRYABLE_STATES | {State.SAVED} == TERMINAL_STATES
    assert not TERMINAL_STATES & IN_FLIGHT_STATES


def test_states_that_are_not_terminal_lead_to_a_terminal_one():
    for state in set(State) - TERMINAL_STATES:
        assert TERMINAL_STATES & reachable(state)
