"""Asks the request history before anybody pays: what became of jobs in doubt, and of expired ones.

A job in doubt is adopted when the history has its request, and sent again only when the history shows,
after a time of grace, that there was none. Where it cannot tell, the job stays where it is.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from runner.api import Api, HistoryQuery
from runner.events import Answered, Call, Observer
from runner.governor import Governor, Urgency
from runner.job import Answer, State, StepResult
from runner.ledger import Event, Ledger, Record
from runner.ledger.records import compact
from runner.policy.history import (
    Doubt,
    Row,
    match,
    nothing_suspicious,
    reaches_back,
    row_of,
    rows_of,
)
from runner.policy.verdict import Meaning, judge_failure

PAGE_LIMIT = 200
FIRST_LOOK_S = 5.0
LOOK_GROWTH = 3.0
# Two empty answers this far apart count as one that can be relied on.
APART_S = 30.0
UNUSABLE_LIMIT = 3
# A history that says "never accepted" so often of one job is not believed any more.
REQUEUE_LIMIT = 1
UNUSABLE_WAIT_S = 1.0
UNUSABLE_CAP_S = 300.0
# Own requests from so long before a doubtful one bear witness that the history shows them.
LOOK_BACK_S = 600.0
FILE_LIFE_S = 7 * 86400.0


@dataclass(frozen=True, slots=True)
class DoubtRules:
    """How doubt is treated; times in seconds."""

    on_doubt: Literal["reconcile", "hold", "resubmit"]
    on_expired: Literal["recover", "hold", "resubmit"]
    wait_s: float
    timeout_s: float
    retention_s: float


@dataclass(frozen=True, slots=True)
class Resolved:
    """A job that the history or a rule has moved."""

    record: Record
    result: StepResult


@dataclass(slots=True)
class _Case:
    """A job in doubt as this run has followed it."""

    next_look: float
    interval_s: float = FIRST_LOOK_S
    empty_at: float | None = None
    closed: bool = False


@dataclass(slots=True)
class _View:
    """The rows of one model since some time; `whole` when none can be missing."""

    rows: list[Row] = field(default_factory=list)
    whole: bool = False
    usable: bool = False
    skew_s: float = 0.0


class Reconciler:
    """Owns `in_doubt` and `expired`."""

    def __init__(
        self, ledger: Ledger, api: Api, governor: Governor, rules: DoubtRules, observer: Observer
    ) -> None:
        self.governor = governor
        self._ledger = ledger
        self._api = api
        self._rules = rules
        self._observer = observer
        self._cases: dict[int, _Case] = {}
        self._tried: set[int] = set()
        self._unusable = 0

    @property
    def holds_up(self) -> bool:
        """Whether another look, at its time, may settle something all by itself."""
        return any(not case.closed for case in self._cases.values())

    @property
    def next_look(self) -> float | None:
        """When to look again, in epoch seconds; None when nothing is in doubt."""
        return min((case.next_look for case in self._cases.values()), default=None)

    async def look(self) -> list[Resolved]:
        """One round over all that is in doubt or expired; returns what has moved."""
        return await self._look_at_doubts() + await self._look_at_expired()

    async def _look_at_doubts(self) -> list[Resolved]:
        now = self.governor.now()
        records = await self._ledger.in_doubt() if self._rules.on_doubt != "hold" else []
        self._cases = {r.key: self._cases.get(r.key) or _Case(now) for r in records}
        due = [r for r in records if not self._is_waiting(r, now)]
        by_model: dict[str, list[Record]] = defaultdict(list)
        for record in due:
            by_model[record.model].append(record)
        resolved: list[Resolved] = []
        for model, doubtful in by_model.items():
            resolved += await self._settle(model, doubtful)
        return resolved

    def _is_waiting(self, record: Record, now: float) -> bool:
        case = self._cases[record.key]
        return case.next_look > now

    async def _settle(self, model: str, records: list[Record]) -> list[Resolved]:
        sending = await self._ledger.submitting_bodies()
        since = min(record.submitted_at or 0.0 for record in records)
        view = await self._view(model, since - LOOK_BACK_S)
        sending |= await self._ledger.submitting_bodies()
        known = await self._ledger.known_ids({row.request_id for row in view.rows})
        # A request of the same body that is just being sent has a row and no id yet: it is not ours to take.
        clear = [r for r in records if (r.model, compact(r.params)) not in sending]
        doubts = {r.key: self._doubt(r, view.skew_s) for r in clear}
        matching = match(list(doubts.values()), view.rows, known)
        resolved: list[Resolved] = []
        for record in records:
            row = matching.adopted.get(record.key)
            if row is not None:
                resolved.append(Resolved(record, await self._adopt(record, row, view)))
                continue
            doubt = doubts.get(record.key)
            why = await self._why_absent(record, doubt, view, known, record.key in matching.absent)
            if why:
                event = Event(self.governor.now(), detail=why)
                await self._ledger.requeue(record, event)
                resolved.append(Resolved(record, StepResult(State.PENDING, event.at, reason=why)))
            else:
                self._look_later(record, view.usable)
        return resolved

    def _doubt(self, record: Record, skew_s: float) -> Doubt:
        since = (record.submitted_at or 0.0) + skew_s
        return Doubt(record.key, record.model, record.params, since, since + self._rules.timeout_s)

    async def _why_absent(
        self, record: Record, doubt: Doubt | None, view: _View, known: set[str], shown: bool
    ) -> str:
        """Why it is right to send the job again, or an empty text where it is not."""
        if self._rules.on_doubt == "resubmit":
            return "sent again although it may have been accepted, as --on-doubt resubmit says"
        now = self.governor.now()
        if doubt is None or not view.whole or now < self._grace_ends(record):
            return ""
        if record.requeues >= REQUEUE_LIMIT:
            return ""
        if shown:
            return (
                "the request history shows later requests and not this one: it was never accepted"
            )
        if not nothing_suspicious(doubt, view.rows, known) or not await self._is_reliable(
            record, view
        ):
            return ""
        case = self._cases[record.key]
        if case.empty_at is None:
            case.empty_at = now
        if now - case.empty_at < self._apart_s():
            return ""
        return "the request history did not show it, twice after the time of grace: it was never accepted"

    async def _is_reliable(self, record: Record, view: _View) -> bool:
        """Whether the history shows our own requests of that time, as far as there are any."""
        at = record.submitted_at or 0.0
        until = self.governor.now() - self._rules.wait_s
        witnesses = await self._ledger.witnesses(record.model, at, at - LOOK_BACK_S, until)
        shown = {row.request_id for row in view.rows}
        return all(request_id in shown for request_id in witnesses)

    def _grace_ends(self, record: Record) -> float:
        return (record.submitted_at or 0.0) + self._rules.timeout_s + self._rules.wait_s

    def _apart_s(self) -> float:
        return min(APART_S, self._rules.wait_s)

    def _look_later(self, record: Record, usable: bool) -> None:
        case = self._cases[record.key]
        now = self.governor.now()
        grace_ends = self._grace_ends(record)
        if not usable:
            case.closed = self._unusable >= UNUSABLE_LIMIT
            case.next_look = now + min(UNUSABLE_WAIT_S * 2.0**self._unusable, UNUSABLE_CAP_S)
        elif now < grace_ends:
            case.next_look = min(now + case.interval_s, grace_ends + 0.1)
            case.interval_s *= LOOK_GROWTH
        elif case.empty_at is not None and now - case.empty_at < self._apart_s():
            case.next_look = case.empty_at + self._apart_s() + 0.1
        else:
            # Nothing more can be learned from waiting; requests that come later may still tell.
            case.closed = True
            case.next_look = now + max(self._rules.wait_s, FIRST_LOOK_S)

    async def _adopt(self, record: Record, row: Row, view: _View) -> StepResult:
        now = self.governor.now()
        submitted_at = (row.created or now) - view.skew_s
        deadline = submitted_at + self._rules.retention_s
        detail = "the request history has it: it was accepted"
        if now < deadline or row.status not in ("COMPLETED", "FAILED"):
            event = Event(now, detail=detail, request_id=row.request_id)
            await self._ledger.find(record, submitted_at, deadline, event)
            return StepResult(State.SUBMITTED, reason=detail)
        return await self._conclude(
            record, row, [r for r in view.rows if r.request_id == row.request_id]
        )

    async def _look_at_expired(self) -> list[Resolved]:
        if self._rules.on_expired == "hold":
            return []
        now = self.governor.now()
        records = [
            record
            for record in await self._ledger.recoverable(now - FILE_LIFE_S)
            if record.key not in self._tried
        ]
        resolved: list[Resolved] = []
        for record in records:
            self._tried.add(record.key)
            result = await self._recover(record)
            if result is not None:
                resolved.append(Resolved(record, result))
        return resolved

    async def _recover(self, record: Record) -> StepResult | None:
        """The outcome of an expired job, or None where the history does not tell it."""
        answer = await self._ask(self._api.history_of(record.request_id or ""))
        row = row_of(answer.body) if answer.status == 200 else None
        if row is None and answer.status == 200:
            found = rows_of(answer.body) or []
            row = next((each for each in found if each.request_id == record.request_id), None)
        if row is not None and row.status in ("COMPLETED", "FAILED"):
            siblings = await self._siblings(record, row)
            return await self._conclude(record, row, siblings)
        if self._rules.on_expired != "resubmit":
            return None
        why = "sent again although it may have been paid for, as --on-expired resubmit says"
        await self._ledger.requeue(record, Event(self.governor.now(), detail=why))
        return StepResult(State.PENDING, self.governor.now(), reason=why)

    async def _siblings(self, record: Record, row: Row) -> list[Row]:
        """All rows of a request: one for each of its outputs. By id the history gives only one."""
        if row.status != "COMPLETED":
            return [row]
        view = await self._view(record.model, record.submitted_at or 0.0, stop_at=row.request_id)
        return [each for each in view.rows if each.request_id == row.request_id] or [row]

    async def _conclude(self, record: Record, row: Row, rows: Sequence[Row]) -> StepResult:
        """The outcome of a job whose hour has passed, as the history tells it."""
        now = self.governor.now()
        if row.status == "FAILED":
            reason = row.error or "the request history reports FAILED without a reason"
            blocked = judge_failure(reason) is Meaning.BLOCKED
            after = State.BLOCKED if blocked else State.FAILED
            event = Event(now, detail=reason, request_id=row.request_id)
            await self._ledger.end(record, after, event)
            return StepResult(after, reason=reason)
        urls = list(dict.fromkeys(each.url for each in rows if each.url))
        body: dict[str, Any] = {
            "status": "COMPLETED",
            "request_id": row.request_id,
            "output": urls[0] if len(urls) == 1 else urls,
            "metrics": {"cost": row.cost},
            "from": "request history",
        }
        event = Event(
            now, detail="recovered through the request history", request_id=row.request_id
        )
        await self._ledger.complete(record, json.dumps(body), event, row.cost)
        return StepResult(State.COMPLETED, cost=row.cost)

    async def _view(self, model: str, since: float, stop_at: str | None = None) -> _View:
        """The model's rows since a local time, page by page, until none can be missing."""
        view = _View()
        day = timedelta(days=1)
        today = datetime.fromtimestamp(self.governor.now(), UTC).date()
        first = datetime.fromtimestamp(since, UTC).date()
        # A day more on both sides, for the server's own idea of the date.
        dates = (max(first - day, today - 30 * day).isoformat(), (today + day).isoformat())
        seen: set[tuple[str, str | None]] = set()
        for number in range(1, PAGE_LIMIT + 1):
            answer = await self._ask(self._api.history(HistoryQuery(*dates, model, number)))
            page = rows_of(answer.body) if answer.status == 200 else None
            if page is None:
                self._unusable += 1
                return _View()
            self._unusable = 0
            view.usable = True
            if answer.server_time is not None:
                view.skew_s = answer.server_time - self.governor.now()
            fresh = [row for row in page if (row.request_id, row.url) not in seen]
            seen.update((row.request_id, row.url) for row in fresh)
            view.rows += fresh
            passed = stop_at is not None and _has_passed(view.rows, stop_at)
            if not fresh or passed or reaches_back(page, since + view.skew_s):
                view.whole = True
                return view
        return view

    async def _ask(self, request: Any) -> Answer:
        await self.governor.turn(Urgency.ASIDE)
        answer: Answer = await request
        self._observer(Answered(Call.HISTORY, answer.status, answer.seconds))
        if answer.status == 429:
            self.governor.rate_limited(answer)
        return answer


def _has_passed(rows: Sequence[Row], request_id: str) -> bool:
    """Whether the rows of a request have begun and ended, as far as these rows go."""
    places = [place for place, row in enumerate(rows) if row.request_id == request_id]
    return bool(places) and places[-1] < len(rows) - 1
