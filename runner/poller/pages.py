"""Decides many jobs in flight at once: a page of the request history tells the state of a hundred."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from runner.archive import Archive, View, conclude
from runner.governor import Governor
from runner.job import State, StepResult
from runner.ledger import Ledger, Record
from runner.policy.history import Row
from runner.policy.pages import LATE_S, PagePolls
from runner.poller.poller import Poller

# What is about to be forgotten is not left to a row that may be late.
SAFE_S = 5 * LATE_S


class Pages:
    """Owns `submitted` together with the poller, whose schedule says when jobs are probably done."""

    def __init__(
        self, poller: Poller, archive: Archive, ledger: Ledger, governor: Governor
    ) -> None:
        self._poller = poller
        self._archive = archive
        self._ledger = ledger
        self._governor = governor
        self._polls = PagePolls()
        self._incomplete: set[int] = set()

    @property
    def is_blind(self) -> bool:
        """Whether the history did not answer usably the last time."""
        return self._archive.unusable > 0

    def next_round(self, now: float) -> float | None:
        """When the next pages are worth their requests; None while nothing is in flight."""
        schedule = self._poller.schedule
        times = [at for at in (schedule.next_guess(now), schedule.next_due(now)) if at is not None]
        return self._polls.next_round(min(times, default=None))

    def defers(self, record: Record) -> bool:
        """Whether a job that is surely ready is left to the pages for a while yet; once for each job."""
        now = self._governor.now()
        is_urgent = (record.deadline or now) < now + SAFE_S
        if self.is_blind or is_urgent or record.key in self._incomplete:
            return False
        if not self._polls.defers(record.key):
            return False
        self._poller.schedule.later(record.key, now, LATE_S)
        return True

    async def round(self) -> list[tuple[Record, StepResult]]:
        """Reads the newest rows of all models; returns the jobs that have ended."""
        waiting = {record.request_id or "": record for record in self._poller.waiting()}
        if not waiting:
            return []
        now = self._governor.now()
        oldest = min(record.submitted_at or now for record in waiting.values())
        since = self._governor.server.earliest(oldest) or oldest
        view = await self._archive.newest(since, waiting, self._polls.pages(len(waiting)))
        rows: dict[str, list[Row]] = defaultdict(list)
        for row in view.rows:
            if row.request_id in waiting:
                rows[row.request_id].append(row)
        told: list[tuple[Record, StepResult]] = []
        for request_id, own in rows.items():
            result = await self._decide(waiting[request_id], own, view)
            if result is not None:
                told.append((waiting[request_id], result))
        self._polls.asked(self._governor.now(), len(told))
        return told

    async def _decide(self, record: Record, rows: Sequence[Row], view: View) -> StepResult | None:
        """Ends a job as its rows tell; None where they do not tell all of it."""
        row = next((row for row in rows if row.status in ("COMPLETED", "FAILED")), None)
        # Somebody else may have asked for it while the pages were read.
        if row is None or not self._poller.is_waiting(record.key):
            return None
        # The outputs of one request may stand on two pages.
        if not (view.whole or view.has_passed(row.request_id)):
            return None
        is_lacking = view.may_lack(row.request_id) or not all(each.url for each in rows)
        if row.status == "COMPLETED" and is_lacking:
            # Text and data stand in the result alone. Either way it is asked for at once.
            self._incomplete.add(record.key)
            self._poller.schedule.hasten(record.key, self._governor.now())
            return None
        self._poller.ended(record, row.latency_s)
        self._polls.discard(record.key)
        result = await conclude(
            self._ledger, self._governor.now(), record, row, rows, "told by the request history"
        )
        return result if result.state is not State.SUBMITTED else None
