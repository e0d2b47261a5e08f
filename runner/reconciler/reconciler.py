"""Asks the request history before anybody pays: what became of jobs in doubt, and of expired ones.

A job in doubt is adopted when the history has its request, and sent again only when the history shows,
after a time of grace, that there was none. Where it cannot tell, the job stays where it is.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runner.api import Api
from runner.events import Observer
from runner.governor import Governor
from runner.job import State, StepResult
from runner.ledger import Event, Ledger, Record
from runner.policy.history import (
    TOLERANCE_S,
    Doubt,
    Row,
    match,
    nothing_suspicious,
)
from runner.policy.verdict import Meaning, judge_failure
from runner.reconciler.archive import Archive, View
from runner.reconciler.recognition import recognise
from runner.reconciler.rules import DoubtRules, Resolved

FIRST_LOOK_S = 5.0
LOOK_GROWTH = 3.0
# Two empty answers this far apart count as one that can be relied on.
APART_S = 30.0
UNUSABLE_LIMIT = 3
# A history that says "never accepted" so often of one job is not believed any more.
REQUEUE_LIMIT = 1
# And nobody who says `resubmit` means to pay without end.
RESUBMIT_LIMIT = 3
# Own requests from so long before a doubtful one bear witness that the history shows them.
LOOK_BACK_S = 600.0
OLD_S = 86400.0
WITNESS_LIFE_S = 30 * 86400.0
FILE_LIFE_S = 7 * 86400.0


@dataclass(slots=True)
class _Case:
    """A job in doubt as this run has followed it; `dated` when its time can be one of our clock."""

    next_look: float
    dated: bool = True
    interval_s: float = FIRST_LOOK_S
    empty_at: float | None = None
    closed: bool = False


class Reconciler:
    """Owns `in_doubt` and `expired`."""

    def __init__(
        self, ledger: Ledger, api: Api, governor: Governor, rules: DoubtRules, observer: Observer
    ) -> None:
        self.governor = governor
        self._ledger = ledger
        self._archive = Archive(api, governor, observer)
        self._rules = rules
        self._cases: dict[int, _Case] = {}
        self._tried: set[int] = set()
        self._ended_there: set[int] = set()
        self._expired_look: float | None = None
        self._expired_tries = 0

    @property
    def holds_up(self) -> bool:
        """Whether another look, at its time, may settle something all by itself."""
        waiting = any(not case.closed for case in self._cases.values())
        return waiting or self._expired_look is not None

    @property
    def next_look(self) -> float | None:
        """When to look again, in epoch seconds; None when nothing is left to look for."""
        looks = [case.next_look for case in self._cases.values()]
        looks += [] if self._expired_look is None else [self._expired_look]
        return min(looks, default=None)

    async def look(self) -> list[Resolved]:
        """One round over all that is in doubt or expired; returns what has moved."""
        return await self._look_at_doubts() + await self._look_at_expired()

    async def _look_at_doubts(self) -> list[Resolved]:
        now = self.governor.now()
        records = await self._ledger.in_doubt() if self._rules.on_doubt != "hold" else []
        self._cases = {r.key: self._cases.get(r.key) or self._new_case(r, now) for r in records}
        due = [r for r in records if not self._is_waiting(r, now)]
        groups: dict[tuple[str, bool], list[Record]] = defaultdict(list)
        for record in due:
            # Those held for days would have the recent ones wait for all pages since.
            is_old = now - (record.submitted_at or 0.0) > OLD_S
            groups[record.model, is_old].append(record)
        resolved: list[Resolved] = []
        for (model, _), doubtful in groups.items():
            resolved += await self._settle(model, doubtful)
        return resolved

    def _new_case(self, record: Record, now: float) -> _Case:
        # What was sent in the future was sent by another clock than ours: who knows when.
        return _Case(now, dated=(record.submitted_at or 0.0) <= now + TOLERANCE_S)

    def _is_waiting(self, record: Record, now: float) -> bool:
        case = self._cases[record.key]
        return case.next_look > now

    async def _settle(self, model: str, records: list[Record]) -> list[Resolved]:
        sending = await self._ledger.submitting_bodies()
        since = min(record.submitted_at or 0.0 for record in records)
        view = await self._archive.view(model, since - LOOK_BACK_S)
        sending |= await self._ledger.submitting_bodies()
        known = await self._ledger.known_ids({row.request_id for row in view.rows})
        known_again = await recognise(self._ledger, records, view.rows, sending)
        view.rows = known_again.rows
        # A request of the same body that is just being sent has a row and no id yet: it is not ours to take.
        doubts = {
            r.key: self._doubt(r, known_again.bodies[r.key], view.skew_s) for r in known_again.clear
        }
        matching = match(list(doubts.values()), view.rows, known)
        known |= {row.request_id for row in matching.adopted.values()}
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
                self._look_later(record, view.usable, busy=doubt is None)
        return resolved

    def _doubt(self, record: Record, body: Any, skew_s: float) -> Doubt:
        since = (record.submitted_at or 0.0) + skew_s
        return Doubt(record.key, record.model, body, since, since + self._rules.timeout_s)

    async def _why_absent(
        self, record: Record, doubt: Doubt | None, view: View, known: set[str], shown: bool
    ) -> str:
        """Why it is right to send the job again, or an empty text where it is not."""
        if self._rules.on_doubt == "resubmit" and record.requeues < RESUBMIT_LIMIT:
            return "sent again although it may have been accepted, as --on-doubt resubmit says"
        now = self.governor.now()
        if doubt is None or not view.whole or now < self._grace_ends(record):
            return ""
        if record.requeues >= REQUEUE_LIMIT or not self._cases[record.key].dated:
            return ""
        if not nothing_suspicious(doubt, view.rows, known) or not await self._is_reliable(
            record, view, shown
        ):
            return ""
        if shown:
            return (
                "the request history shows later requests and not this one: it was never accepted"
            )
        case = self._cases[record.key]
        if case.empty_at is None:
            case.empty_at = now
        if now - case.empty_at < self._apart_s():
            return ""
        return "the request history did not show it, twice after the time of grace: it was never accepted"

    async def _is_reliable(self, record: Record, view: View, shown: bool) -> bool:
        """Whether the history shows our own requests: all of that time, or the nearest of any.

        `shown`: it shows later requests, which may be of others.
        """
        at = record.submitted_at or 0.0
        until = self.governor.now() - self._rules.wait_s
        witnesses = await self._ledger.witnesses(record.model, at, at - LOOK_BACK_S, until)
        if witnesses:
            return {row.request_id for row in view.rows}.issuperset(witnesses)
        if shown:
            return True
        # A history that has never shown anything of ours proves nothing by showing nothing.
        nearest = await self._ledger.witnesses(record.model, at, at - WITNESS_LIFE_S, until, 1)
        return bool(nearest) and (await self._archive.row(nearest[0]))[1] is not None

    def _grace_ends(self, record: Record) -> float:
        return (record.submitted_at or 0.0) + self._rules.timeout_s + self._rules.wait_s

    def _apart_s(self) -> float:
        return min(APART_S, self._rules.wait_s)

    def _look_later(self, record: Record, usable: bool, busy: bool) -> None:
        case = self._cases[record.key]
        now = self.governor.now()
        grace_ends = self._grace_ends(record)
        if not usable:
            case.closed = self._archive.unusable >= UNUSABLE_LIMIT
            case.next_look = now + self._archive.patience_s()
        elif busy:
            # Its like is being sent: that is over in a moment.
            case.next_look = now + FIRST_LOOK_S
        elif now < grace_ends and case.dated:
            case.next_look = min(now + case.interval_s, grace_ends + 0.1)
            case.interval_s *= LOOK_GROWTH
        elif case.empty_at is not None and now - case.empty_at < self._apart_s():
            case.next_look = case.empty_at + self._apart_s() + 0.1
        else:
            # Nothing more can be learned from waiting; requests that come later may still tell.
            case.closed = True
            case.next_look = now + max(self._rules.wait_s, FIRST_LOOK_S)

    async def _adopt(self, record: Record, row: Row, view: View) -> StepResult:
        now = self.governor.now()
        submitted_at = (row.created or now) - view.skew_s
        deadline = submitted_at + self._rules.retention_s
        detail = "the request history has it: it was accepted"
        rows = [each for each in view.rows if each.request_id == row.request_id]
        # An end without a file is none that the history could give back: its hour is looked at first.
        ended = row.status == "FAILED" or any(
            each.url for each in rows if each.status == "COMPLETED"
        )
        if now < deadline or not ended:
            event = Event(now, detail=detail, request_id=row.request_id)
            await self._ledger.find(record, submitted_at, deadline, event)
            return StepResult(State.SUBMITTED, reason=detail)
        return await self._conclude(record, row, rows)

    async def _look_at_expired(self) -> list[Resolved]:
        now = self.governor.now()
        if self._rules.on_expired == "hold" or now < (self._expired_look or now):
            return []
        self._expired_look = None
        records = [
            record
            for record in await self._ledger.recoverable(now - FILE_LIFE_S)
            if record.key not in self._tried
        ]
        resolved = await self._recover(records)
        if left := [record for record in records if record.key not in self._tried]:
            self._expired_tries += 1
            if self._expired_tries < UNUSABLE_LIMIT:
                self._expired_look = self.governor.now() + self._archive.patience_s()
            else:
                # What has ended there is not paid for anew because its list cannot be read tonight.
                self._tried |= {each.key for each in left if each.key in self._ended_there}
                untold = [each for each in left if each.key not in self._ended_there]
                resolved += [found for each in untold for found in await self._not_told(each)]
        else:
            self._expired_tries = 0
        return resolved

    async def _recover(self, records: list[Record]) -> list[Resolved]:
        """What the history tells of expired jobs; those it could not be asked about are not tried."""
        resolved: list[Resolved] = []
        ended: dict[str, list[tuple[Record, Row]]] = defaultdict(list)
        for record in records:
            answered, row = await self._archive.row(record.request_id or "")
            if not answered:
                # It would be the same for all others, and each may take as long as a time-out.
                break
            if row is not None and row.status in ("COMPLETED", "FAILED"):
                ended[record.model].append((record, row))
            else:
                resolved += await self._not_told(record)
        for model, found in ended.items():
            resolved += await self._bring_back(model, found)
        return resolved

    async def _bring_back(self, model: str, found: list[tuple[Record, Row]]) -> list[Resolved]:
        """Concludes ended requests. By id the history gives one row, its list one for each output."""
        completed = [(record, row) for record, row in found if row.status == "COMPLETED"]
        view = View(usable=True)
        if completed:
            since = min(record.submitted_at or 0.0 for record, _ in completed)
            view = await self._archive.view(model, since, {row.request_id for _, row in completed})
        resolved: list[Resolved] = []
        for record, row in found:
            rows = [each for each in view.rows if each.request_id == row.request_id] or [row]
            # A list that broke off may lack some of its files; the last try takes what there is.
            complete = view.whole or view.has_passed(row.request_id)
            last_try = self._expired_tries + 1 >= UNUSABLE_LIMIT
            if row.status == "COMPLETED" and not (view.usable and (complete or last_try)):
                self._ended_there.add(record.key)
                continue
            if row.status == "COMPLETED" and not any(each.url for each in rows):
                resolved += await self._not_told(record)
                continue
            self._tried.add(record.key)
            resolved.append(Resolved(record, await self._conclude(record, row, rows)))
        return resolved

    async def _not_told(self, record: Record) -> list[Resolved]:
        """The history does not bring an expired job back: it stays so, unless a rule says otherwise."""
        self._tried.add(record.key)
        if self._rules.on_expired != "resubmit":
            return []
        why = "sent again although it may have been paid for, as --on-expired resubmit says"
        event = Event(self.governor.now(), detail=why)
        await self._ledger.requeue(record, event)
        return [Resolved(record, StepResult(State.PENDING, event.at, reason=why))]

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
