"""Asks the request history before anybody pays: what became of jobs in doubt, and of expired ones.

A job in doubt is adopted when the history has its request, and sent again only when the history shows,
after a time of grace, that there was none. Where it cannot tell, the job stays where it is.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from runner.api import Api
from runner.archive import Archive, View, conclude
from runner.events import Observer
from runner.governor import Governor
from runner.job import State, StepResult
from runner.ledger import Event, Ledger, Record, Span
from runner.policy.history import Doubt, Row, match, nothing_suspicious
from runner.reconciler.expired import UNUSABLE_LIMIT, Expired
from runner.reconciler.recognition import recognise
from runner.reconciler.rules import DoubtRules, Report

FIRST_LOOK_S = 5.0
LOOK_GROWTH = 3.0
# Two empty answers this far apart count as one that can be relied on.
APART_S = 30.0
# A history that says "never accepted" so often of one job is not believed any more.
REQUEUE_LIMIT = 1
# And nobody who says `resubmit` means to pay without end.
RESUBMIT_LIMIT = 3
# Own requests from so long before a doubtful one bear witness that the history shows them.
LOOK_BACK_S = 600.0
OLD_S = 86400.0
WITNESS_LIFE_S = 30 * 86400.0


@dataclass(slots=True)
class _Case:
    """A job in doubt as this run has followed it since `seen_at`; `own`: it was sent in this run."""

    seen_at: float
    own: bool
    next_look: float
    interval_s: float = FIRST_LOOK_S
    empty_at: float | None = None
    closed: bool = False
    said: str = ""


@dataclass(frozen=True, slots=True)
class _Judgement:
    """Whether a job without a request in the history is sent again, and why or why not."""

    again: bool
    why: str
    paid_perhaps: bool = False


class Reconciler:
    """Owns `in_doubt` and, through `Expired`, `expired`."""

    def __init__(
        self, ledger: Ledger, api: Api, governor: Governor, rules: DoubtRules, observer: Observer
    ) -> None:
        self.governor = governor
        self._ledger = ledger
        self._archive = Archive(api, governor, observer)
        self._rules = rules
        self._expired = Expired(ledger, self._archive, governor, rules)
        self._cases: dict[int, _Case] = {}
        self._looked = False

    @property
    def holds_up(self) -> bool:
        """Whether another look, at its time, may settle something all by itself."""
        waiting = any(not case.closed for case in self._cases.values())
        return waiting or self._expired.next_look is not None

    @property
    def next_look(self) -> float | None:
        """When to look again, in epoch seconds; None when nothing is left to look for."""
        looks = [case.next_look for case in self._cases.values()]
        looks += [] if self._expired.next_look is None else [self._expired.next_look]
        return min(looks, default=None)

    async def look(self, report: Report) -> None:
        """One round over all that is in doubt or expired; reports each job as soon as it has moved."""
        await self._look_at_doubts(report)
        await self._expired.look(report)

    async def _look_at_doubts(self, report: Report) -> None:
        now = self.governor.now()
        records = await self._ledger.in_doubt() if self._rules.on_doubt != "hold" else []
        # What is in doubt when a run begins was sent by an earlier one, whose clock is not known.
        self._cases = {
            r.key: self._cases.get(r.key) or _Case(now, self._looked, now) for r in records
        }
        self._looked = True
        groups: dict[tuple[str, bool], list[Record]] = defaultdict(list)
        for record in records:
            # Those held for days would have the recent ones wait for all pages since.
            is_old = self._server_now(now) - self._span(record)[0] > OLD_S
            groups[record.model, is_old].append(record)
        due = {record.key for record in records if self._cases[record.key].next_look <= now}
        for (model, _), doubtful in groups.items():
            # Equal requests are shared out among all of them, or one takes what only another could have.
            if any(record.key in due for record in doubtful):
                await self._settle(model, doubtful, due, report)

    def _server_now(self, at: float) -> float:
        """The server's time; our own where it is not known."""
        known = self.governor.server.earliest(at)
        return at if known is None else known

    def _dated(self, record: Record) -> Span | None:
        """Between which times of the server's clock the POST was accepted if ever; None: not known."""
        since, until = record.server_at, record.server_until
        case, server = self._cases[record.key], self.governor.server
        if since is None and case.own and record.submitted_at is not None:
            # Sent before anything was known of the server's time, by the clock of this very run.
            since = server.latest(record.submitted_at)
        if until is None:
            # Its run died over it, nobody knows when: a computer may have slept in between.
            until = server.latest(case.seen_at)
        if since is None or until is None:
            return None
        return Span(since, max(since + self._rules.timeout_s, until))

    def _span(self, record: Record) -> tuple[float, float]:
        """The same, or what our own clock says: good enough to look by, and not to pay by."""
        dated = self._dated(record)
        if dated is not None and dated.since is not None and dated.until is not None:
            return dated.since, dated.until
        since = self._server_now(record.submitted_at or 0.0)
        return since, since + self._rules.timeout_s

    async def _settle(
        self, model: str, records: list[Record], due: set[int], report: Report
    ) -> None:
        sending = await self._ledger.submitting_bodies()
        view = await self._view(model, records)
        sending |= await self._ledger.submitting_bodies()
        known = await self._ledger.known_ids({row.request_id for row in view.rows})
        known_again = await recognise(self._ledger, records, view.rows, sending)
        view.rows = known_again.rows
        # A request of the same body that is just being sent has a row and no id yet: it is not ours to take.
        doubts = {r.key: self._doubt(r, known_again.bodies[r.key]) for r in known_again.clear}
        # Who says that he would rather pay again would rather have any equal result.
        guesses = self._rules.on_doubt == "resubmit"
        matching = match(list(doubts.values()), view.rows, known, guesses=guesses)
        known |= {row.request_id for row in matching.adopted.values()}
        for record in records:
            row = matching.adopted.get(record.key)
            if row is not None:
                result = await self._adopt(record, row, view)
                del self._cases[record.key]
                await report(record, result)
                continue
            if record.key not in due:
                continue
            doubt = doubts.get(record.key)
            shown = record.key in matching.absent
            judged = await self._judge(record, doubt, view, known, shown)
            if judged.again:
                event = Event(self.governor.now(), detail=judged.why)
                await self._ledger.requeue(record, event)
                # It may be sent and in doubt again before this look ends, which is another case.
                del self._cases[record.key]
                result = StepResult(
                    State.PENDING, event.at, reason=judged.why, paid_perhaps=judged.paid_perhaps
                )
                await report(record, result)
                continue
            self._look_later(record, view.usable, busy=doubt is None)
            await self._keep(record, judged.why)

    async def _view(self, model: str, records: list[Record]) -> View:
        """The rows since the first of these jobs was sent, by the server's clock if it tells."""
        while True:
            timed = self.governor.server.is_known
            since = min(self._span(record)[0] for record in records)
            view = await self._archive.view(model, since - LOOK_BACK_S)
            if timed or not self.governor.server.is_known:
                return view

    def _doubt(self, record: Record, body: Any) -> Doubt:
        is_dated = self._dated(record) is not None
        return Doubt(record.key, record.model, body, *self._span(record), is_dated)

    async def _judge(
        self, record: Record, doubt: Doubt | None, view: View, known: set[str], shown: bool
    ) -> _Judgement:
        """Whether the history proves that a job without a request in it was never accepted."""
        if self._rules.on_doubt == "resubmit" and record.requeues < RESUBMIT_LIMIT:
            why = "sent again although it may have been accepted, as --on-doubt resubmit says"
            return _Judgement(True, why, paid_perhaps=True)
        if doubt is None:
            return _Judgement(False, "a request like it is just being sent")
        if (why_not := self._why_not(record, doubt, view, known)) is not None:
            return _Judgement(False, why_not)
        if not await self._is_reliable(doubt, view, shown):
            return _Judgement(False, "the history does not show all requests that the API accepted")
        if shown:
            why = "the request history shows later requests and not this one: it was never accepted"
            return _Judgement(True, why)
        case, now = self._cases[record.key], self.governor.now()
        if case.empty_at is None:
            case.empty_at = now
        if now - case.empty_at < self._apart_s():
            return _Judgement(False, "the history must be found without it twice")
        why = "the request history did not show it, twice after the time of grace: it was never accepted"
        return _Judgement(True, why)

    def _why_not(self, record: Record, doubt: Doubt, view: View, known: set[str]) -> str | None:
        """Why this view of the history cannot prove that there was no request; None where it can."""
        if not view.usable:
            return "the request history cannot be used"
        if self._dated(record) is None:
            return "nothing tells when it was sent by the API's clock"
        if record.requeues >= REQUEUE_LIMIT:
            return "the history said once already that it was never accepted"
        if not view.whole:
            return "the history cannot be read back to the time when it was sent"
        if not nothing_suspicious(doubt, view.rows, known):
            return "the history shows a request that may be this one"
        # How long it was waited is measured by the server's clock as well: ours says nothing of it.
        if view.taken_at is None or view.taken_at < doubt.until + self._rules.wait_s:
            return "its row may still come"
        return None

    async def _is_reliable(self, doubt: Doubt, view: View, shown: bool) -> bool:
        """Whether the history shows our own requests: all of that time, or the nearest of any.

        `shown`: it shows later requests, which may be of others.
        """
        at, until = doubt.since, (view.taken_at or 0.0) - self._rules.wait_s
        witnesses = await self._ledger.witnesses(doubt.model, at, at - LOOK_BACK_S, until)
        if witnesses:
            return {row.request_id for row in view.rows}.issuperset(witnesses)
        if shown:
            return True
        # A history that has never shown anything of ours proves nothing by showing nothing.
        nearest = await self._ledger.witnesses(doubt.model, at, at - WITNESS_LIFE_S, until, 1)
        return bool(nearest) and (await self._archive.row(nearest[0]))[1] is not None

    def _grace_ends(self, record: Record) -> float:
        """When, by our clock, the history must have the job's request if there is one."""
        dated = self._dated(record)
        ours = self.governor.server.ours(dated.until) if dated and dated.until else None
        if ours is None:
            ours = self._cases[record.key].seen_at + self._rules.timeout_s
        return ours + self._rules.wait_s

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
        elif now < grace_ends:
            case.next_look = min(now + case.interval_s, grace_ends + 0.1)
            case.interval_s *= LOOK_GROWTH
        elif case.empty_at is not None and now - case.empty_at < self._apart_s():
            case.next_look = case.empty_at + self._apart_s() + 0.1
        else:
            # Nothing more can be learned from waiting; requests that come later may still tell.
            case.closed = True
            case.next_look = now + max(self._rules.wait_s, FIRST_LOOK_S)

    async def _keep(self, record: Record, why: str) -> None:
        """Puts on record what is known of a job that stays in doubt, and why it does."""
        case, dated = self._cases[record.key], self._dated(record)
        if record.server_until is None and dated is not None:
            await self._ledger.date_doubt(record, dated)
        if case.closed and case.said != why:
            case.said = why
            await self._ledger.hold(record, Event(self.governor.now(), detail=why))

    async def _adopt(self, record: Record, row: Row, view: View) -> StepResult:
        now = self.governor.now()
        created = self._server_now(now) if row.created is None else row.created
        ours = self.governor.server.ours(created)
        submitted_at = created if ours is None else ours
        deadline = submitted_at + self._rules.retention_s
        detail = "the request history has it: it was accepted"
        rows = [each for each in view.rows if each.request_id == row.request_id]
        # An end without a file is none that the history could give back: its hour is looked at first.
        ended = row.status == "FAILED" or any(
            each.url for each in rows if each.status == "COMPLETED"
        )
        if now < deadline or not ended:
            event = Event(now, detail=detail, request_id=row.request_id)
            if ours is None:
                # Nothing tells by how much our clock is wrong: its hour may only just have begun.
                deadline = max(deadline, now + self._rules.retention_s)
            await self._ledger.find(record, submitted_at, deadline, event, row.created)
            return StepResult(State.SUBMITTED, reason=detail)
        return await conclude(self._ledger, now, record, row, rows)
