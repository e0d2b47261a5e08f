"""Whatever is asked of a ledger in whatever order, it says and keeps what a plain dictionary would."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from ledgers import HOUR_S, NOW, get, job, picture, plan, sql

from runner.errors import RunnerError
from runner.job import RETRYABLE_STATES, TRANSITIONS, State
from runner.ledger import Event, Ledger, Record
from runner.ledger.reading import Selection, attempts, counts, retry

NUMBERS = range(3)


@dataclass
class Model:
    """What a job should be like."""

    state: State = State.PENDING
    posts: int = 0
    refusals: int = 0
    request_id: str | None = None
    cost: float = 0.0
    wanted: bool = True
    history: list[str] = field(default_factory=list)

    def move(self, state: State, **changes: Any) -> None:
        self.state = state
        self.history.append(state)
        for name, value in changes.items():
            setattr(self, name, value)


class LedgerMachine(RuleBasedStateMachine):
    """Drives random verbs, often with a stale record, and compares with the model."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp())
        self.now = NOW
        self.requests = 0
        self.jobs = {f"j{number}": Model() for number in NUMBERS}
        self.open()
        self.run(plan(self.ledger, [job(number) for number in NUMBERS]))
        self.seen: dict[str, Record] = {id: self.run(get(self.ledger, id)) for id in self.jobs}  # noqa: A001

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def open(self) -> None:
        self.ledger = self.run(Ledger.open(self.folder / "l.db", durable=False))

    def teardown(self) -> None:
        self.run(self.ledger.close())
        self.loop.close()
        shutil.rmtree(self.folder)

    def act(self, number: int, after: State, verb: str, fresh: bool, *arguments: Any) -> bool:
        """Calls a verb; True when the model says that it must have happened, and it has."""
        job_id = f"j{number}"
        self.now += 1
        if fresh:
            self.seen[job_id] = self.run(get(self.ledger, job_id))
        record = self.seen[job_id]
        call = getattr(self.ledger, verb)(record, *arguments)
        if after not in TRANSITIONS[record.state]:
            with pytest.raises(RunnerError):
                self.run(call)
            return False
        return bool(self.run(call))

    def expect(self, number: int, fresh: bool, before: set[State], done: bool) -> Model | None:
        """The model to be moved, after checking that the ledger did it exactly if it should."""
        job_id = f"j{number}"
        model, record = self.jobs[job_id], self.seen[job_id]
        right = model.state in before and (fresh or record.state is model.state)
        assert done == right, f"{job_id} is {model.state}, was seen {record.state}"
        return model if done else None

    @rule(number=st.sampled_from(NUMBERS), fresh=st.booleans())
    def begin_submit(self, number: int, fresh: bool) -> None:
        done = self.act(
            number, State.SUBMITTING, "begin_submit", fresh, self.now, self.now + HOUR_S
        )
        if model := self.expect(number, fresh, {State.PENDING}, done):
            model.move(State.SUBMITTING, posts=model.posts + 1, request_id=None)

    @rule(number=st.sampled_from(NUMBERS), fresh=st.booleans())
    def accept(self, number: int, fresh: bool) -> None:
        self.requests += 1
        request_id = f"r{self.requests}"
        done = self.act(number, State.SUBMITTED, "accept", fresh, request_id, Event(self.now))
        # A doubt is resolved by `find` alone.
        if model := self.expect(number, fresh, {State.SUBMITTING}, done):
            model.move(State.SUBMITTED, request_id=request_id)

    @rule(number=st.sampled_from(NUMBERS), fresh=st.booleans(), counted=st.booleans())
    def refuse(self, number: int, fresh: bool, counted: bool) -> None:
        record_state = self.jobs[f"j{number}"].state
        self.now += 1
        job_id = f"j{number}"
        if fresh:
            self.seen[job_id] = self.run(get(self.ledger, job_id))
        record = self.seen[job_id]
        call = self.ledger.refuse(record, self.now + 5, Event(self.now), counted=counted)
        if State.PENDING not in TRANSITIONS[record.state]:
            with pytest.raises(RunnerError):
                self.run(call)
            return
        done = self.run(call)
        # A refusal is the answer to the POST under way, whatever the caller thought.
        assert done == (record_state is State.SUBMITTING)
        if done:
            model = self.jobs[job_id]
            model.move(State.PENDING, refusals=model.refusals + counted)

    @rule(number=st.sampled_from(NUMBERS))
    def unsend(self, number: int) -> None:
        done = self.act(number, State.PENDING, "unsend", True, self.now, Event(self.now))
        if model := self.expect(number, True, {State.SUBMITTING}, done):
            model.move(State.PENDING, posts=model.posts - 1)

    @rule(
        number=st.sampled_from(NUMBERS),
        fresh=st.booleans(),
        after=st.sampled_from(
            [State.FAILED, State.BLOCKED, State.INVALID, State.EXPIRED, State.IN_DOUBT]
        ),
        cost=st.none() | st.floats(0, 1),
    )
    def end(self, number: int, fresh: bool, after: State, cost: float | None) -> None:
        done = self.act(number, after, "end", fresh, after, Event(self.now), cost)
        before = {state for state, ways in TRANSITIONS.items() if after in ways}
        if model := self.expect(number, fresh, before, done):
            model.move(after, cost=model.cost + (cost or 0))

    @rule(number=st.sampled_from(NUMBERS), fresh=st.booleans(), cost=st.none() | st.floats(0, 1))
    def complete(self, number: int, fresh: bool, cost: float | None) -> None:
        done = self.act(number, State.COMPLETED, "complete", fresh, "{}", Event(self.now), cost)
        before = {state for state, ways in TRANSITIONS.items() if State.COMPLETED in ways}
        if model := self.expect(number, fresh, before, done):
            model.move(State.COMPLETED, cost=model.cost + (cost or 0))

    @rule(number=st.sampled_from(NUMBERS), fresh=st.booleans())
    def save(self, number: int, fresh: bool) -> None:
        files = [picture(path=f"{number}.png")]
        done = self.act(number, State.SAVED, "save", fresh, files, Event(self.now))
        before = {state for state, ways in TRANSITIONS.items() if State.SAVED in ways}
        if model := self.expect(number, fresh, before, done):
            model.move(State.SAVED)

    @rule(number=st.sampled_from(NUMBERS))
    def find(self, number: int) -> None:
        self.requests += 1
        request_id = f"r{self.requests}"
        event = Event(self.now, request_id=request_id)
        done = self.act(number, State.SUBMITTED, "find", True, self.now, self.now, event)
        if model := self.expect(number, True, {State.IN_DOUBT}, done):
            model.move(State.SUBMITTED, request_id=request_id)

    @rule(number=st.sampled_from(NUMBERS), fresh=st.booleans())
    def requeue(self, number: int, fresh: bool) -> None:
        done = self.act(number, State.PENDING, "requeue", fresh, Event(self.now))
        before = {state for state, ways in TRANSITIONS.items() if State.PENDING in ways}
        if model := self.expect(number, fresh, before, done):
            model.move(State.PENDING, request_id=None)

    @rule(number=st.sampled_from(NUMBERS))
    def reopen(self, number: int) -> None:
        model = self.jobs[f"j{number}"]
        done = self.run(self.ledger.reopen(self.seen[f"j{number}"].key, self.now, "gone"))
        assert done == (model.state is State.SAVED)
        if done:
            model.move(State.COMPLETED)

    @rule(number=st.sampled_from(NUMBERS))
    def come_back(self, number: int) -> None:
        model = self.jobs[f"j{number}"]
        done = self.run(self.ledger.come_back(self.seen[f"j{number}"].key, self.now))
        assert done == (model.state is State.EXPIRED)
        if done:
            model.move(State.SAVED)

    @rule()
    def a_run_dies_and_the_next_one_starts(self) -> None:
        self.run(self.ledger.close())
        self.open()
        doubtful = [m for m in self.jobs.values() if m.state is State.SUBMITTING]
        assert self.run(self.ledger.doubt_interrupted(self.now)) == len(doubtful)
        for model in doubtful:
            model.move(State.IN_DOUBT)

    @rule()
    def stop_the_model(self) -> None:
        waiting = [m for m in self.jobs.values() if m.state is State.PENDING and m.wanted]
        assert self.run(self.ledger.stop_model("imagen", [1], "403", self.now)) == len(waiting)
        for model in waiting:
            model.move(State.FAILED)

    @rule(states=st.sets(st.sampled_from(sorted(RETRYABLE_STATES))))
    def retry(self, states: set[State]) -> None:
        chosen = states or RETRYABLE_STATES
        again = [m for m in self.jobs.values() if m.state in chosen and m.wanted]
        selection = Selection(states=tuple(sorted(states)))
        assert self.run(retry(self.ledger, selection, self.now)) == len(again)
        for model in again:
            model.history.append("retry")
            model.state, model.refusals, model.request_id = State.PENDING, 0, None

    @rule(numbers=st.sets(st.sampled_from(NUMBERS), min_size=1), tag=st.text(max_size=3))
    def plan_again(self, numbers: set[int], tag: str) -> None:
        changed = [replace(job(n), tags=(tag,), meta={"tag": tag}) for n in sorted(numbers)]
        self.run(plan(self.ledger, changed, self.now))
        for job_id, model in self.jobs.items():
            model.wanted = int(job_id[1:]) in numbers

    @precondition(lambda self: any(m.state is State.PENDING for m in self.jobs.values()))
    @rule()
    def pending_jobs_are_those_that_wait_and_are_due(self) -> None:
        far = self.now + 1000
        found = [record.id for record in self.run(self.ledger.pending(1, 0, 99, far))]
        expected = [id for id, m in self.jobs.items() if m.state is State.PENDING and m.wanted]  # noqa: A001
        assert found == expected

    @invariant()
    def the_ledger_equals_the_model(self) -> None:
        query = "SELECT id, state, posts, refusals, request_id, coalesce(cost, 0), wanted FROM jobs"
        rows = {row[0]: row[1:] for row in self.run(sql(self.ledger, query))}
        for job_id, model in self.jobs.items():
            state, posts, refusals, request_id, cost, wanted = rows[job_id]
            assert (state, posts, refusals, bool(wanted)) == (
                model.state,
                model.posts,
                model.refusals,
                model.wanted,
            )
            if model.state in (State.SUBMITTED, State.COMPLETED, State.SAVED):
                assert request_id == model.request_id
            assert cost == pytest.approx(model.cost)

    @invariant()
    def the_counts_equal_the_model(self) -> None:
        found = self.run(counts(self.ledger))["m"]
        wanted = [model for model in self.jobs.values() if model.wanted]
        assert found.states == Counter(model.state for model in wanted)
        assert found.removed == len(self.jobs) - len(wanted)
        spent = sum(model.cost for model in self.jobs.values())
        # The ledger counts in whole billionths of a dollar.
        assert found.spent == pytest.approx(spent, abs=1e-9 * max(1, len(self.jobs)))
        in_flight = sorted(id for id, m in self.jobs.items() if m.state is State.SUBMITTED)  # noqa: A001
        assert sorted(r.id for r in self.run(self.ledger.submitted())) == in_flight

    @invariant()
    def the_history_tells_every_step_and_no_illegal_one(self) -> None:
        for job_id, model in self.jobs.items():
            rows = self.run(attempts(self.ledger, self.seen[job_id].key))
            assert [row.action for row in rows] == model.history
            before = State.PENDING
            for action in model.history:
                after = State.PENDING if action == "retry" else State(action)
                assert after in TRANSITIONS[before]
                before = after
            posts = Counter(model.history)[State.SUBMITTING]
            assert 0 <= model.posts <= posts


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(
    max_examples=40,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
