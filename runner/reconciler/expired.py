"""Jobs whose hour has passed: what the history still tells of them, while their files live."""

from __future__ import annotations

from collections import defaultdict

from runner.archive import Archive, View, conclude
from runner.governor import Governor
from runner.job import State, StepResult
from runner.ledger import Event, Ledger, Record
from runner.policy.history import Row
from runner.reconciler.rules import DoubtRules, Report

UNUSABLE_LIMIT = 3
FILE_LIFE_S = 7 * 86400.0
# By how much our own clock may have been wrong, where nothing else says when a job was sent.
CLOCK_LEEWAY_S = 7 * 86400.0


class Expired:
    """Owns `expired`: asks the history for each of them once a run."""

    def __init__(
        self, ledger: Ledger, archive: Archive, governor: Governor, rules: DoubtRules
    ) -> None:
        self._ledger = ledger
        self._archive = archive
        self._governor = governor
        self._rules = rules
        self._tried: set[int] = set()
        self._ended_there: set[int] = set()
        self._tries = 0
        self.next_look: float | None = None

    async def look(self, report: Report) -> None:
        """What the history brings back; reports each job as soon as it has moved."""
        now = self._governor.now()
        if self._rules.on_expired == "hold" or now < (self.next_look or now):
            return
        self.next_look = None
        records = [
            record
            for record in await self._ledger.recoverable(self._alive_since(now), CLOCK_LEEWAY_S)
            if record.key not in self._tried
        ]
        await self._recover(records, report)
        if left := [record for record in records if record.key not in self._tried]:
            self._tries += 1
            if self._tries < UNUSABLE_LIMIT:
                self.next_look = self._governor.now() + self._archive.patience_s()
            else:
                # What has ended there is not paid for anew because its list cannot be read tonight.
                self._tried |= {each.key for each in left if each.key in self._ended_there}
                for untold in left:
                    if untold.key not in self._ended_there:
                        await self._not_told(untold, report)
        else:
            self._tries = 0

    def _alive_since(self, now: float) -> float:
        """When, by the server's clock, the oldest request was sent whose file may still be there."""
        server_now = self._governor.server.earliest(now)
        if server_now is None:
            server_now = now - CLOCK_LEEWAY_S
        return server_now - FILE_LIFE_S - self._rules.retention_s

    def _sent_at(self, record: Record, row: Row) -> float:
        """When a request was accepted by the server's clock, or somewhat before."""
        known = [each for each in (record.server_at, row.created) if each is not None]
        return min(known, default=(record.submitted_at or 0.0) - CLOCK_LEEWAY_S)

    async def _recover(self, records: list[Record], report: Report) -> None:
        """What the history tells of expired jobs; those it could not be asked about are not tried."""
        ended: dict[str, list[tuple[Record, Row]]] = defaultdict(list)
        for record in records:
            answered, row = await self._archive.row(record.request_id or "")
            if not answered:
                # It would be the same for all others, and each may take as long as a time-out.
                break
            if row is not None and row.status in ("COMPLETED", "FAILED"):
                ended[record.model].append((record, row))
            else:
                await self._not_told(record, report)
        for model, found in ended.items():
            await self._bring_back(model, found, report)

    async def _bring_back(
        self, model: str, found: list[tuple[Record, Row]], report: Report
    ) -> None:
        """Concludes ended requests. By id the history gives one row, its list one for each output."""
        completed = [(record, row) for record, row in found if row.status == "COMPLETED"]
        view = View(usable=True)
        if completed:
            since = min(self._sent_at(record, row) for record, row in completed)
            ids = {row.request_id for _, row in completed}
            newest = max(row.created or 0.0 for _, row in completed)
            view = await self._archive.view(model, since, ids, newest)
        for record, row in found:
            listed = [each for each in view.rows if each.request_id == row.request_id]
            rows = listed or [row]
            # A list that broke off may lack some of its files; the last try takes what there is. One
            # that does not know what the history knows by id tells nothing tonight.
            complete = view.whole or view.has_passed(row.request_id)
            last_try = self._tries + 1 >= UNUSABLE_LIMIT
            if row.status == "COMPLETED" and not (listed and (complete or last_try)):
                self._ended_there.add(record.key)
                continue
            if row.status == "COMPLETED" and not any(each.url for each in rows):
                await self._not_told(record, report)
                continue
            self._tried.add(record.key)
            result = await conclude(self._ledger, self._governor.now(), record, row, rows)
            await report(record, result)

    async def _not_told(self, record: Record, report: Report) -> None:
        """The history does not bring an expired job back: it stays so, unless a rule says otherwise."""
        self._tried.add(record.key)
        if self._rules.on_expired != "resubmit":
            return
        why = "sent again although it may have been paid for, as --on-expired resubmit says"
        event = Event(self._governor.now(), detail=why)
        await self._ledger.requeue(record, event)
        await report(record, StepResult(State.PENDING, event.at, reason=why, paid_perhaps=True))
