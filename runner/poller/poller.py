"""Finds out which jobs in flight are finished; apart from submitting, and never starting a job anew."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from runner.api import Api
from runner.crash_points import reach
from runner.events import Answered, Call, Observer
from runner.governor import Governor, Urgency
from runner.job import Answer, Consequence, Fault, State, StepResult
from runner.ledger import Event, Ledger, Record
from runner.policy.backoff import full_jitter
from runner.policy.outputs import outputs_of
from runner.policy.polling import PollSchedule
from runner.policy.route import Route
from runner.policy.uploads import with_way_out
from runner.policy.verdict import Meaning, Verdict, judge_poll, seconds_of

# Inside the hour a 404 may be a replica that lags; past it, it is what was to be expected.
NOT_FOUND_LIMIT = 4
# A COMPLETED without any output may be a replica that has only half of it.
EMPTY_LIMIT = 3
# How long the API may stay silent after the hour before a job counts as expired.
SILENCE_S = 300.0
# A job that is taken in later than this was left by an earlier run, or found in the history.
PROMPT_S = 60.0


class Poller:
    """Owns `submitted`: whom to ask next and how, and what the answers mean."""

    def __init__(
        self,
        ledger: Ledger,
        api: Api,
        governor: Governor,
        rng: Random,
        observer: Observer,
        route: Route | None = None,
        schedule: PollSchedule | None = None,
    ) -> None:
        self.schedule = schedule or PollSchedule()
        self._route = route or Route()
        self._ledger = ledger
        self._api = api
        self._governor = governor
        self._observer = observer
        self._rng = rng
        self._records: dict[int, Record] = {}
        self._asked: set[int] = set()
        self._troubles: dict[int, int] = {}
        self._not_found: dict[int, int] = {}
        self._empty: dict[int, int] = {}

    def watch(self, record: Record) -> None:
        """Takes in a submitted job."""
        now = self._governor.now()
        # Never in the future: a clock that was set back since would put the first question off.
        started = min(record.submitted_at or now, now)
        deadline = record.deadline or started
        self._records[record.key] = record
        teaches = now - started < PROMPT_S
        self.schedule.add(record.key, record.model, started, deadline, teaches=teaches)

    def record(self, key: int) -> Record:
        """The record of a job that the schedule has given out."""
        return self._records[key]

    def waiting(self) -> list[Record]:
        """The jobs in flight that are not just being asked for."""
        return [record for key, record in self._records.items() if key not in self._asked]

    def is_waiting(self, key: int) -> bool:
        """Whether a job is in flight and not just being asked for."""
        return key in self._records and key not in self._asked

    def ended(self, record: Record, total_time_s: float | None) -> None:
        """A job was found to have ended otherwise than by asking for it."""
        self.schedule.found(record.key, self._governor.now(), total_time_s)
        self._forget(record)

    async def poll(self, record: Record) -> StepResult:
        """Asks for one job; the caller has its turn."""
        if record.key not in self._records:
            # A page told of its end while it waited for its turn.
            return StepResult(None)
        self._asked.add(record.key)
        try:
            return await self._poll(record)
        finally:
            self._asked.discard(record.key)

    async def _poll(self, record: Record) -> StepResult:
        call = self._route.call(record.key)
        answer, verdict = await self._ask(record, call)
        if call is Call.STATUS and verdict.meaning is Meaning.COMPLETED:
            self.schedule.found(record.key, self._governor.now())
            await self._governor.turn(Urgency.COLLECT)
            call = Call.RESULT
            answer, verdict = await self._ask(record, call)
        if verdict.meaning is Meaning.NOT_FOUND:
            return await self._missing(record, call, answer, verdict)
        return await self._conclude(record, answer, verdict)

    async def _ask(self, record: Record, call: Call) -> tuple[Answer, Verdict]:
        request_id = record.request_id or ""
        ask = self._api.status if call is Call.STATUS else self._api.result
        answer = await ask(request_id)
        if answer.fault is not Fault.NEVER_LEFT:
            self._observer(Answered(call, answer.status, answer.seconds))
        if answer.status is not None:
            self._governor.reached(answer)
        verdict = judge_poll(answer)
        self._route.answered(record.key, call, verdict.meaning)
        return answer, verdict

    async def _conclude(self, record: Record, answer: Answer, verdict: Verdict) -> StepResult:
        match verdict.meaning:
            case Meaning.COMPLETED if self._is_half(record, answer.body):
                self._again(record, 1.0)
                return StepResult(State.SUBMITTED, reason="a result without an output came")
            case Meaning.COMPLETED:
                return await self._completed(record, answer, verdict)
            case Meaning.FAILED | Meaning.BLOCKED:
                blocked = verdict.meaning is Meaning.BLOCKED
                after = State.BLOCKED if blocked else State.FAILED
                reason = verdict.reason
                if record.inputs and not blocked:
                    reason = with_way_out(reason, after)
                return await self._end(record, after, answer, reason)
            case Meaning.KEY_REFUSED:
                self._again(record, 0.0)
                return StepResult(State.SUBMITTED, None, Consequence.KEY_REFUSED, verdict.reason)
            case Meaning.RUNNING:
                self._running(record)
                return StepResult(State.SUBMITTED)
            case Meaning.RATE_LIMITED:
                self._again(record, self._governor.rate_limited(answer) - self._governor.now())
                return StepResult(State.SUBMITTED)
            case Meaning.NEVER_LEFT:
                self._again(
                    record, self._governor.unreachable(verdict.reason) - self._governor.now()
                )
                return StepResult(State.SUBMITTED, reason=verdict.reason)
            case _:
                return await self._trouble(record, answer, verdict)

    def _is_half(self, record: Record, body: Any) -> bool:
        if outputs_of(body):
            return False
        times = self._empty[record.key] = self._empty.get(record.key, 0) + 1
        return times < EMPTY_LIMIT

    async def _completed(self, record: Record, answer: Answer, verdict: Verdict) -> StepResult:
        reach("result-received")
        body = json.dumps(answer.body, ensure_ascii=False, separators=(",", ":"))
        event = Event(self._governor.now(), answer.status, request_id=record.request_id)
        await self._ledger.complete(record, body, event, verdict.cost)
        reach("result-committed")
        self.schedule.found(record.key, event.at, seconds_of(answer.body))
        self._forget(record)
        return StepResult(State.COMPLETED, cost=verdict.cost)

    async def _missing(
        self, record: Record, call: Call, answer: Answer, verdict: Verdict
    ) -> StepResult:
        overdue = record.deadline is None or self._governor.now() >= record.deadline
        if not overdue and call is Call.RESULT and not self._route.is_finished(record.key):
            # Of a job that is not known to be done it proves nothing: its status is asked first.
            self._again(record, 0.0)
            return StepResult(State.SUBMITTED, reason=verdict.reason)
        times = self._not_found[record.key] = self._not_found.get(record.key, 0) + 1
        if not overdue and times < NOT_FOUND_LIMIT:
            self._again(record, 2.0 ** (times - 1))
            return StepResult(State.SUBMITTED, reason=verdict.reason)
        why = "its hour had passed" if overdue else f"{times} times, inside its hour"
        return await self._end(record, State.EXPIRED, answer, f"{verdict.reason} ({why})")

    async def _trouble(self, record: Record, answer: Answer, verdict: Verdict) -> StepResult:
        now = self._governor.now()
        if record.deadline is not None and now > record.deadline + SILENCE_S:
            reason = f"no usable answer until its hour had passed; the last was {verdict.reason}"
            return await self._end(record, State.EXPIRED, answer, reason)
        times = self._troubles[record.key] = self._troubles.get(record.key, 0) + 1
        self._again(record, 0.5 + full_jitter(times, self._rng, cap_s=30.0))
        return StepResult(State.SUBMITTED, reason=verdict.reason)

    async def _end(self, record: Record, after: State, answer: Answer, reason: str) -> StepResult:
        event = Event(self._governor.now(), answer.status, reason, record.request_id)
        await self._ledger.end(record, after, event)
        if after is not State.EXPIRED:
            self.schedule.found(record.key, self._governor.now(), seconds_of(answer.body))
        self._forget(record)
        return StepResult(after, reason=reason)

    def _running(self, record: Record) -> None:
        self._troubles.pop(record.key, None)
        self._not_found.pop(record.key, None)
        if self._route.is_finished(record.key):
            # The status said COMPLETED and the result does not yet: ask for the result again.
            self._again(record, 1.0)
        else:
            self.schedule.running(record.key, self._governor.now())

    def _again(self, record: Record, wait_s: float) -> None:
        self.schedule.later(record.key, self._governor.now(), wait_s)

    def _forget(self, record: Record) -> None:
        self.schedule.discard(record.key)
        self._route.forget(record.key)
        for kept in (self._records, self._troubles, self._not_found, self._empty):
            kept.pop(record.key, None)
