"""Sends pending jobs: the intent is on disk before the POST, the request id right after it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Protocol

from runner.api import Api
from runner.crash_points import reach
from runner.events import Answered, Call, Observer
from runner.governor import Governor
from runner.job import Answer, Consequence, Fault, State, StepResult
from runner.ledger import Event, Ledger, Record, Span
from runner.policy.backoff import full_jitter
from runner.policy.uploads import with_way_out
from runner.policy.verdict import Meaning, Verdict, describe, judge_submit

# An answer that comes later than this, as after a sleep, says little of when its POST was accepted.
LONG_POST_S = 15.0


@dataclass(frozen=True, slots=True)
class SubmitRules:
    """`attempts`: answered refusals until a job fails. `retention_s`: how long the API keeps results."""

    attempts: int
    retention_s: float


class Inputs(Protocol):
    """Makes the files that a job sends ready."""

    def ready(self, record: Record) -> AbstractAsyncContextManager[Mapping[str, Any] | StepResult]:
        """The parameters as they are sent, or what becomes of the job where they cannot be."""


class Submitter:
    """Owns `pending` and `submitting`."""

    def __init__(
        self,
        ledger: Ledger,
        api: Api,
        governor: Governor,
        rules: SubmitRules,
        rng: Random,
        observer: Observer,
        inputs: Inputs | None = None,
    ) -> None:
        self._ledger = ledger
        self._api = api
        self._governor = governor
        self._rules = rules
        self._observer = observer
        self._rng = rng
        self._inputs = inputs

    async def submit(self, pending: Record) -> StepResult:
        """Sends one job; the caller has its turn. The job is then where the answer says it is."""
        if not pending.inputs or self._inputs is None:
            return await self._send(pending, pending.params)
        async with self._inputs.ready(pending) as ready:
            if not isinstance(ready, StepResult):
                return await self._send(pending, ready)
        if ready.state is State.FAILED:
            event = Event(self._governor.now(), detail=ready.reason)
            moved = await self._ledger.end(pending, State.FAILED, event)
            return ready if moved else StepResult(None)
        return ready

    async def _send(self, pending: Record, params: Mapping[str, Any]) -> StepResult:
        now = self._governor.now()
        deadline, server_at = now + self._rules.retention_s, self._governor.server.latest(now)
        if not await self._ledger.begin_submit(pending, now, deadline, server_at):
            return StepResult(None)
        record = replace(
            pending,
            state=State.SUBMITTING,
            posts=pending.posts + 1,
            submitted_at=now,
            deadline=deadline,
        )
        reach("intent-committed")
        answer = await self._api.submit(record.model, params)
        reach("submit-answered")
        if answer.fault is not Fault.NEVER_LEFT:
            self._observer(Answered(Call.SUBMIT, answer.status, answer.seconds))
        if answer.status is not None:
            self._governor.reached(answer)
        return await self._conclude(record, answer, judge_submit(answer))

    async def _conclude(self, record: Record, answer: Answer, verdict: Verdict) -> StepResult:
        now = self._governor.now()
        event = Event.of(now, answer, verdict.reason)
        match verdict.meaning:
            case Meaning.ACCEPTED if verdict.request_id is not None:
                sent_at = self._server_time(record.submitted_at)
                if now > (record.submitted_at or now) + LONG_POST_S:
                    # Its hour began with the acceptance, which may have been but now.
                    record = replace(record, deadline=now + self._rules.retention_s)
                accepted = Event(now, answer.status)
                await self._ledger.accept(record, verdict.request_id, accepted, sent_at)
                reach("request-id-committed")
                sent = (verdict.request_id, record.submitted_at or now, record.deadline or now)
                return StepResult(State.SUBMITTED, sent=sent)
            case Meaning.NEVER_LEFT:
                again_at = self._governor.unreachable(verdict.reason)
                await self._ledger.unsend(record, again_at, event)
                return StepResult(State.PENDING, again_at, reason=verdict.reason)
            case Meaning.RATE_LIMITED:
                again_at = self._governor.rate_limited(answer)
                await self._ledger.refuse(record, again_at, event, counted=False)
                return StepResult(State.PENDING, again_at, reason=verdict.reason)
            case Meaning.REFUSED:
                return await self._refused(record, event)
            case Meaning.OUT_OF_CREDITS | Meaning.KEY_REFUSED:
                await self._ledger.refuse(record, now, event, counted=False)
                stop = verdict.meaning is Meaning.KEY_REFUSED
                what = Consequence.KEY_REFUSED if stop else Consequence.OUT_OF_CREDITS
                return StepResult(State.PENDING, now, what, verdict.reason)
            case Meaning.MODEL_CLOSED:
                await self._ledger.end(record, State.FAILED, event)
                return StepResult(State.FAILED, None, Consequence.STOP_MODEL, verdict.reason)
            case Meaning.IN_DOUBT:
                span = Span(self._server_time(record.submitted_at), self._server_time(now))
                await self._ledger.doubt(record, event, span)
                return StepResult(State.IN_DOUBT, reason=verdict.reason)
            case Meaning.INVALID:
                reason = verdict.reason
                if record.inputs:
                    reason = with_way_out(reason, State.INVALID)
                event = replace(event, detail=reason)
                await self._ledger.end(record, State.INVALID, event)
                return StepResult(State.INVALID, reason=reason)
            case _:
                await self._ledger.end(record, State.FAILED, event)
                return StepResult(State.FAILED, reason=verdict.reason or describe(answer))

    def _server_time(self, at: float | None) -> float | None:
        return None if at is None else self._governor.server.latest(at)

    async def _refused(self, record: Record, event: Event) -> StepResult:
        reason = event.detail or ""
        tries = record.refusals + 1
        if tries >= self._rules.attempts:
            reason = f"refused {tries} times, the last time with {reason}"
            event = Event(event.at, event.status, reason)
            await self._ledger.end(record, State.FAILED, event)
            return StepResult(State.FAILED, reason=reason)
        again_at = event.at + full_jitter(tries, self._rng)
        await self._ledger.refuse(record, again_at, event)
        return StepResult(State.PENDING, again_at, reason=reason)
